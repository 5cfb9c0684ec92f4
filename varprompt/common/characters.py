"""Text that any console, log and table can show."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # of the module `typing`, which takes a while to import
if TYPE_CHECKING:
    from typing import TextIO

_BOXES = "±─│"
_IN_ASCII = {"±": "+-", "–": "-", "—": "-", "…": "...", "≤": "<=", "≥": ">=", "×": "x"}


def only_ascii(stream: TextIO | None = None) -> bool:
    """Whether a stream (default: standard output) cannot show ± and the lines of tables."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    try:
        _BOXES.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def printable(text: object) -> str:
    r"""`text` with control characters and bytes that are no UTF-8 escaped, as ``\n`` or ``\xff``.

    For names of files and classes, which may hold anything.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def in_ascii(text: str) -> str:
    """`text` with ± and dashes in ASCII and other characters escaped."""
    return "".join(c if c.isascii() else _IN_ASCII.get(c) or _escaped(c) for c in text)


def replaced(error: UnicodeError) -> tuple[str, int]:
    """For ``codecs.register_error``: what a stream cannot show, in ASCII or escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or _escaped(c) for c in bad), error.end


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
