"""Which images a command line means: files, folders, patterns, and names on standard input."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

from .tree import images_below

STDIN = "-"


def listed_images(
    names: Iterable[str], ignored: Counter[str], stdin: IO[bytes] | None = None
) -> Iterator[str]:
    """Yield paths one by one, however many there are, in the order of the names.

    A folder stands for all images in it and in the folders in it, in sorted order. A pattern
    (``*``, ``?``, ``[a-z]``, ``**`` for folders in folders) that is no file itself stands for what
    it matches, in sorted order. Any other name is passed on as it is: whoever reads it finds out
    whether it exists.

    Args:
        names: files, folders and patterns; `STDIN` = such names, one a line, from `stdin`.
        ignored: where what folders hold besides images is counted, by reason.
        stdin: bytes to read names from.
    """
    for name in names:
        if name == STDIN and stdin is not None:
            lines = (os.fsdecode(line).rstrip("\r\n") for line in stdin)
            yield from listed_images((line for line in lines if line.strip()), ignored)
            continue
        path = os.path.expanduser(name)
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        for match in matches or [path]:
            if os.path.isdir(match):
                yield from (os.path.join(match, image) for image in images_below(match, ignored))
            else:
                yield match
