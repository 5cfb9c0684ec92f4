"""Remembers the listings of large folders between runs."""

import contextlib
import json
import os
from collections.abc import Callable

from varprompt.common.files import write_atomic

FILE = "listing.json"


class ListingCache:
    """File names per folder, valid while the folder's modification time stays the same.

    The file is a cache: unreadable, it is ignored; unwritable, it is left away.

    Args:
        path: the JSON file.
        top: keys are folders relative to this one, so that the data can be moved.
    """

    def __init__(self, path: str, top: str):
        self._path, self._top, self._changed = path, top, False
        self._known = _read(path)

    def names(self, folder: str, scan: Callable[[str], list[str]]) -> list[str]:
        """Return what ``scan`` found in a folder, now or, if nothing changed, earlier."""
        key = os.path.relpath(folder, self._top)
        try:
            stamp = os.stat(folder).st_mtime_ns
        except (OSError, ValueError):
            return []
        if key not in self._known or self._known[key][0] != stamp:
            self._known[key] = [stamp, scan(folder)]
            self._changed = True
        return self._known[key][1]

    def save(self) -> None:
        """Write what was learned, atomically; a folder that cannot be written is no error."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            content = json.dumps(self._known).encode()
            write_atomic(self._path, lambda file: file.write(content))
        self._changed = False


def _read(path: str) -> dict[str, list]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if all(
            isinstance(stamp, int) and all(isinstance(name, str) for name in names)
            for stamp, names in content.values()
        ):
            return content
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        pass
    return {}
