"""The tables as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from itertools import groupby

from ..common.characters import in_ascii
from .cells import Cell
from .tables import Row, Table

_UNLIMITED = 1000  # columns


def to_text(
    table: Table, width: int | None = None, color: bool = False, ascii_only: bool = False
) -> str:
    """For a terminal of `width` columns (default: as wide as it gets).

    `color` adds styles; `ascii_only` draws and writes with ASCII characters.
    """
    from rich.box import ASCII2, SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text  # names are no markup

    def shown(words: str) -> Text:
        return Text(in_ascii(words) if ascii_only else words)

    box = ASCII2 if ascii_only else SIMPLE_HEAD
    drawn = RichTable(box=box, title=shown(table.title), title_justify="left", pad_edge=False)
    drawn.add_column("Method", overflow="fold")
    for column in table.columns:
        drawn.add_column(shown(column), justify="right")
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        if section:
            drawn.add_section()
            drawn.add_row(shown(section), style="bold")
        for row in rows:
            words = ["  " * bool(section) + row.method, *map(plain, row.cells)]
            drawn.add_row(*map(shown, words), style="dim" if row.published else "")
    out = io.StringIO()
    console = Console(file=out, width=width or _UNLIMITED, force_terminal=color, highlight=False)
    console.print(drawn)
    for note in table.notes:
        console.print(shown(note), style="dim")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def to_markdown(table: Table) -> str:
    """A GitHub table; published rows are in italics."""
    sectioned = any(row.section for row in table.rows)
    head = ["Data set", "Method"] if sectioned else ["Method"]
    lines = [f"## {table.title}", "", _bar(head + table.columns)]
    lines.append(_bar(["---"] * len(head) + ["---:"] * len(table.columns)))
    for row in table.rows:
        words = [row.section] * sectioned + [row.method, *map(plain, row.cells)]
        words = [word.replace("|", r"\|").replace("<", "&lt;") for word in words]
        lines.append(_bar([f"*{w}*" if row.published and w else w for w in words]))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def to_csv(table: Table) -> str:
    """One line a row: section, method, source, then value, interval, seeds and note by column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kinds = ("", " ci95", " seeds", " note")
    head = [column + kind for column in table.columns for kind in kinds]
    writer.writerow(["section", "method", "source", *head])
    for row in table.rows:
        values = [value for cell in row.cells for value in _values(cell, row)]
        source = "published" if row.published else "measured"
        writer.writerow([row.section, row.method, source, *values])
    return out.getvalue()


def plain(cell: Cell) -> str:
    """A cell in words: mean, interval, and what is incomplete."""
    if cell.mean is None:
        return cell.note
    half = "" if cell.half is None else f" ±{cell.half_width()}"
    return f"{cell.number()}{half}" + (f" ({cell.note})" if cell.note else "")


def _values(cell: Cell, row: Row) -> list[str]:
    seeds = "" if row.published or cell.mean is None else str(cell.seeds)
    numbers = ["" if value is None else f"{value:.4f}" for value in (cell.mean, cell.half)]
    return [*numbers, seeds, cell.note]


def _bar(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"
