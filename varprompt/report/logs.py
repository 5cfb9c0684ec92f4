"""Reading results from the logs that Dassl's trainers print."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

TRAINING_ENDS = ("Finish training", "Finished training")  # Dassl since 0.6.1, and before
TEST_BEGINS = ("=> result",)


def last_value(log: str | os.PathLike, keyword: str, signals: Collection[str]) -> float | None:
    """The last value (in %) called `keyword` that stands behind a line in `signals`, or None.

    The log's values have one decimal.
    """
    pattern = re.compile(rf"\* {re.escape(keyword)}: ([\.\deE+-]+)%")
    value, started = None, False
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in map(str.strip, lines):
            started = started or line in signals
            match = pattern.search(line) if started else None
            value = float(match[1]) if match else value
    return value


def logs_of(folder: str | os.PathLike) -> list[str]:
    """log.txt, then those of later starts of the same run (log.txt-DATE), newest first."""
    later = sorted((n for n in os.listdir(folder) if n.startswith("log.txt-")), reverse=True)
    paths = (os.path.join(folder, name) for name in ("log.txt", *later))
    return [path for path in paths if os.path.isfile(path)]


def result_in(logs: list[str], keyword: str, signals: Collection[str]) -> tuple[str, float] | None:
    """The first of `logs` that holds a result, and that result."""
    values = ((log, last_value(log, keyword, signals)) for log in logs)
    return next(((log, value) for log, value in values if value is not None), None)
