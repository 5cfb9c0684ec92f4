"""Reads the annotation files that the data sets come with, when there is no split file."""

from collections.abc import Callable
from typing import TypeVar

from varprompt.common.checks import Problems
from varprompt.errors import DataError, pass_on_memory

T = TypeVar("T")


def parse_lines(path: str, parse: Callable[[str], T]) -> list[T]:
    """Return ``parse`` of every stripped line that is not empty.

    Raises:
        DataError: if the file is unreadable, or lists the lines on which ``parse`` raised
            ValueError, KeyError or IndexError.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    problems, parsed = Problems(), []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                parsed.append(parse(line))
            except (ValueError, KeyError, IndexError):
                problems.add("lines of another form", f"line {number}: {line!r:.200}")
    problems.raise_if_any(path)
    return parsed


def load_matlab(path: str, key: str):
    """Return the first row of an array in a MATLAB file.

    Raises:
        DataError: if the file is unreadable or has no such array.
    """
    from scipy.io import loadmat

    try:
        return loadmat(path)[key][0]
    except Exception as error:  # a damaged file may raise anything
        pass_on_memory(error, f"reading {path}")
        raise DataError(f"{path}: no MATLAB file with an array {key!r} ({error!r:.200})") from error
