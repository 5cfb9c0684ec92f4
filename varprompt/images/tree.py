"""Finds the images of a folder of one's own, and counts whatever it does not take."""

import functools
import os
from collections import Counter
from collections.abc import Collection, Iterator

from PIL import Image

from .read import add_formats

_OPENED_AS_OTHERS = {"MPO"}  # JPEG's opener reads it
_HEIC = {".heic", ".heif"}
# Formats that Pillow opens but that are no images of pixels, or need a program or a handler.
_NO_PIXELS = {"EPS", "WMF", "MPEG", "GRIB", "BUFR", "HDF5"}


@functools.cache
def suffixes() -> frozenset[str]:
    """File suffixes, in small letters with their dot, of all that Pillow and its plug-ins read."""
    add_formats()
    Image.init()
    return frozenset(
        suffix.lower()
        for suffix, name in Image.registered_extensions().items()
        if name in {*Image.OPEN, *_OPENED_AS_OTHERS} and name not in _NO_PIXELS
    )


def images_below(folder: str, ignored: Counter[str]) -> Iterator[str]:
    """Yield the images in a folder and the folders in it, relative to it, names in order.

    Files come before folders. Hidden entries, files of another suffix and entries that cannot be
    read (a broken or looping link, no permission) are counted in `ignored`, by reason: a bad
    entry costs that entry only.
    """
    yield from _walk(folder, "", {os.path.realpath(folder)}, ignored)


def _walk(top: str, below: str, seen: set[str], ignored: Counter[str]) -> Iterator[str]:
    folders = []
    for name in sorted(_names(os.path.join(top, below), ignored)):
        path = os.path.join(top, below, name)
        if name.startswith("."):
            ignored["hidden"] += 1
        elif os.path.isdir(path):
            folders.append(name)
        elif not os.path.exists(path):
            ignored[f"a link to nothing or to itself, such as {path}"] += 1
        elif not os.path.isfile(path):
            ignored[f"neither file nor folder, such as {path}"] += 1
        elif os.path.splitext(name)[1].lower() in suffixes():
            yield os.path.join(below, name)
        else:
            ignored[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    for name in folders:
        inside = os.path.join(below, name)
        target = os.path.realpath(os.path.join(top, inside))
        if target in seen:
            ignored[f"a folder that was seen before, such as {os.path.join(top, inside)}"] += 1
        else:
            seen.add(target)
            yield from _walk(top, inside, seen, ignored)


def beside(
    folder: str, where: str, ignored: Counter[str], taken: Collection[str] | None = None
) -> None:
    """Count what lies beside the folders that are read: other folders, images, links to nothing.

    Args:
        folder: what to look into; the folders in it are not entered.
        where: how reasons call it, e.g. "train"; '' = the top, which may hold lists and notes.
        ignored: where to count.
        taken: names of the folders that are read, None = all but hidden ones.
    """
    for name in sorted(_names(folder, ignored)):
        path, suffix = os.path.join(folder, name), os.path.splitext(name)[1].lower()
        if os.path.isdir(path):
            if taken is not None and name not in taken and not name.startswith("."):
                ignored[f"a folder that is not read, such as {name}"] += 1
            elif taken is None and name.startswith("."):
                ignored["hidden"] += 1
        elif not os.path.exists(path):
            ignored[f"a link to nothing or to itself, such as {path}"] += 1
        elif suffix in suffixes() and not name.startswith("."):
            ignored[f"in no class folder, such as {os.path.join(where, name)}"] += 1
        elif where:
            ignored["hidden" if name.startswith(".") else suffix or "no suffix"] += 1


def _names(folder: str, ignored: Counter[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        ignored[f"unreadable folder {folder} ({error.strerror})"] += 1
        return []


def summary(ignored: Counter[str]) -> str:
    """``12 files: 10 x .txt, 2 x hidden``, the most frequent first; '' if nothing was ignored.

    Of reasons that name an example, one is shown for each kind.
    """
    kinds: dict[str, tuple[int, str]] = {}
    for reason, count in ignored.items():
        kind, such_as, example = reason.partition(", such as ")
        known, shown = kinds.get(kind, (0, such_as + example))
        kinds[kind] = (known + count, shown)
    ranked = sorted(kinds.items(), key=lambda pair: (-pair[1][0], pair[0]))
    total = sum(count for count, _ in kinds.values())
    rows = ", ".join(f"{count} x {kind}{example}" for kind, (count, example) in ranked)
    advice = ""
    if not _HEIC.isdisjoint(ignored):
        advice = " (HEIC is read once the package pillow-heif is installed: varprompt[heic])"
    return f"{total} {'entry' if total == 1 else 'entries'}: {rows}{advice}" if total else ""
