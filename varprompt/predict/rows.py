"""What is said about one image, and how it is written: CSV, JSON lines or a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from ..common.characters import printable

FORMATS = ("table", "csv", "jsonl")
UNCERTAINTIES = ("total", "aleatoric", "epistemic")
_NAME_WIDTH = 40  # characters of a file's name in a table
_CLASS_WIDTH = 30


@dataclass(frozen=True)
class Row:
    """What a model says about one image.

    Attributes:
        path: of the image.
        top: (class, probability), the most probable first.
        uncertainty: total, aleatoric and epistemic, in nats.
        unsure: whether the probability is below the threshold; None if there is none.
        truth: the right class, where it is known.
    """

    path: str
    top: tuple[tuple[str, float], ...]
    uncertainty: tuple[float, float, float]
    unsure: bool | None = None
    truth: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether the most probable class is known not to be the right one."""
        return self.truth is not None and self.truth != self.top[0][0]


class Writer(Protocol):
    """Writes rows as they come."""

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        ...


class CsvWriter:
    """A line an image; columns class_1, probability_1, class_2 ... for the most probable classes.

    Args:
        file: text, opened with ``newline=""``.
        n_top: classes per image.
    """

    def __init__(self, file: IO[str], n_top: int):
        self._csv = csv.writer(file, lineterminator="\n")
        best = [f"{what}_{k + 1}" for k in range(n_top) for what in ("class", "probability")]
        self._csv.writerow(["file", *best, *UNCERTAINTIES, "unsure"])

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows; "unsure" is yes, no, or empty where there is no threshold."""
        for row in rows:
            best = [value for name, p in row.top for value in (name, f"{p:.6g}")]
            numbers = [f"{value:.6g}" for value in row.uncertainty]
            self._csv.writerow([row.path, *best, *numbers, _yes_or_no(row.unsure)])


class JsonWriter:
    """A JSON object a line: file, top, uncertainty, unsure."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        for row in rows:
            said = {
                "file": row.path,
                "top": [{"class": name, "probability": p} for name, p in row.top],
                "uncertainty": dict(zip(UNCERTAINTIES, row.uncertainty, strict=True)),
                "unsure": row.unsure,
            }
            self._file.write(json.dumps(said) + "\n")


class TableWriter:
    """Columns for people to read; widths are set at the start, so that it can go on for ever.

    Args:
        file: text.
        n_top: classes per image.
        classnames: all that may be written.
    """

    def __init__(self, file: IO[str], n_top: int, classnames: Sequence[str]):
        self._file = file
        longest = max((len(printable(name)) for name in classnames), default=5)
        self._width = min(max(longest, len("class")), _CLASS_WIDTH)
        best = "  ".join(f"{'class':{self._width}} {'prob':>6}" for _ in range(n_top))
        numbers = " ".join(f"{name:>9}" for name in UNCERTAINTIES)
        self._file.write(f"{'file':{_NAME_WIDTH}}  {best}  {numbers}\n")

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows; probabilities in percent, what is unsure ends with a question mark."""
        for row in rows:
            best = "  ".join(
                f"{_short(name, self._width):{self._width}} {100 * p:5.1f}%" for name, p in row.top
            )
            numbers = " ".join(f"{value:9.4f}" for value in row.uncertainty)
            end = "  unsure" if row.unsure else ""
            name = _short(row.path, _NAME_WIDTH)
            self._file.write(f"{name:{_NAME_WIDTH}}  {best}  {numbers}{end}\n")


def make_writer(kind: str, file: IO[str], n_top: int, classnames: Sequence[str]) -> Writer:
    """The writer of a format in `FORMATS`."""
    if kind == "csv":
        return CsvWriter(file, n_top)
    return JsonWriter(file) if kind == "jsonl" else TableWriter(file, n_top, classnames)


def _yes_or_no(unsure: bool | None) -> str:
    return "" if unsure is None else ("yes" if unsure else "no")


def _short(text: str, width: int) -> str:
    """The end of a long name, which tells more than its beginning."""
    text = printable(text)
    return text if len(text) <= width else f"...{text[3 - width :]}"
