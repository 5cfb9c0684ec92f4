"""Reading results from the logs that Dassl's trainers print."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass

from ..common.characters import printable

TRAINING_ENDS = ("Finish training", "Finished training")  # Dassl since 0.6.1, and before
TEST_BEGINS = ("=> result",)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SHARES = ("accuracy", "error", "macro_f1", "average", "perclass_accuracy", "ece")
_MOST = 1e6  # of what else somebody's evaluator prints with %
_LONGEST_LINE = 1 << 16  # characters; what is longer is no line of a log


@dataclass(frozen=True)
class Reading:
    """What a log says: a value in %, or why it is none (`bad`, empty when there is a value)."""

    file: str
    value: float = math.nan
    bad: str = ""


def last_value(log: str, keyword: str, signals: Collection[str]) -> Reading | None:
    """The last value (in %) called `keyword` that stands behind a line in `signals`, or None.

    The log's values have one decimal. The last one counts even if it is no possible result: an
    earlier one would be that of another start.
    """
    pattern = re.compile(rf"\* {re.escape(keyword)}: (\S+?)%")
    text, started = None, False
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LONGEST_LINE):
                line = line.strip()
                started = started or line in signals
                match = pattern.search(line) if started else None
                text = match[1] if match else text
    except OSError as error:
        return Reading(log, bad=f"not readable ({error.strerror})")
    if text is None:
        return None
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    least, most = (0.0, 100.0) if keyword in _SHARES else (-_MOST, _MOST)
    if not least <= value <= most:
        return Reading(log, bad=f"its {printable(keyword)} {printable(text[:20])!r} is no result")
    return Reading(log, value)


def logs_of(folder: str | os.PathLike) -> list[str]:
    """log.txt, then those of later starts of the same run (log.txt-DATE), newest first.

    Raises:
        OSError: the folder cannot be read.
    """
    later = sorted((n for n in os.listdir(folder) if n.startswith("log.txt-")), reverse=True)
    paths = (os.path.join(folder, name) for name in ("log.txt", *later))
    return [path for path in paths if os.path.isfile(path)]


def result_in(logs: list[str], keyword: str, signals: Collection[str]) -> Reading | None:
    """What the first of `logs` that holds a result says."""
    readings = (last_value(log, keyword, signals) for log in logs)
    return next((reading for reading in readings if reading), None)
