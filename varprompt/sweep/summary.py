"""What is said of a sweep: the states of its cells, what failed, a grid's points compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ..common.console import out, say
from ..common.files import write_atomic
from ..run.interrupt import EXIT_RESUMABLE, INTERRUPTED
from .cells import Cell
from .grid import paired, rows
from .schedule import Report
from .work import last_words

_SUMMARY = "sweep.csv"


def show(cells: Sequence[Cell], finished: Sequence[str]) -> int:
    """Print every run with its state; 0 when all are finished, else 1."""
    done = set(finished)
    for cell in cells:
        words = last_words(cell)
        state = (
            "finished" if cell.name in done else f"unfinished: {words}" if words else "not begun"
        )
        out(f"{cell.name}  {state}")
    out(f"{len(done)} of {len(cells)} runs are finished")
    return 0 if len(done) == len(cells) else 1


def conclude(cells: Sequence[Cell], report: Report, output: Path, grid: bool) -> int:
    """Write the summary, print what failed; returns the exit code."""
    text = io.StringIO()
    table = rows(cells, report.failed)
    names = dict.fromkeys(name for row in table for name in row)
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(table)
    data = text.getvalue().encode(errors="backslashreplace")
    write_atomic(output / _SUMMARY, lambda file: file.write(data))
    if grid:
        from tabulate import tabulate

        heads = ["point", "pairs", "accuracy", "against the first", "nll"]
        out(tabulate(paired(cells), heads, disable_numparse=True))
    say(f"{len(report.done)} of {len(cells)} runs are complete ({output / _SUMMARY})")
    if report.failed:
        say(f"Failed or not run ({len(report.failed)}):")
        for name, reason in report.failed.items():
            say(f"    {name}: {reason}")
    if report.interrupted:
        say(INTERRUPTED)
        return EXIT_RESUMABLE
    return 1 if report.failed else 0
