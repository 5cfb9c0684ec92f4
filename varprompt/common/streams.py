"""The standard streams of a process, whatever has become of them."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .characters import replaced

_PLAIN = "varprompt.plain"  # how characters that a stream does not know are written


@contextmanager
def safe_standard_streams() -> Iterator[None]:
    """Standard streams that are open and take every character, if escaped."""
    open_standard_numbers()
    before = sys.stdout, sys.stderr
    codecs.register_error(_PLAIN, replaced)
    changed, opened = [], []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by >&-
            opened.append(open(os.devnull, "w", encoding="utf-8", errors=_PLAIN))
            setattr(sys, name, opened[-1])
        elif hasattr(stream, "reconfigure"):
            changed.append((stream, stream.errors))
            stream.reconfigure(errors=_PLAIN)
    try:
        yield
    finally:
        for stream, errors in changed:
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)
        sys.stdout, sys.stderr = before
        for stream in opened:
            stream.close()


def open_standard_numbers() -> None:
    """Open whatever of stdin, stdout and stderr is closed (``>&-``), leading nowhere.

    The next file would get its number, and hold what libraries write to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def let_go_of_broken_streams() -> None:
    """Python flushes both once more at its end, which must not fail again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
