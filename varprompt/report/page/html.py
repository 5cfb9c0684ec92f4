"""Tables of the page, which sort when a heading is clicked, and links to files."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..cells import Cell
from ..render import plain
from ..tables import Table

Value = tuple[str, float | None]  # HTML, and what it is sorted by (None: its text)


def text(words: str) -> Value:
    """Words in a cell, sorted by the alphabet."""
    return escape(words), None


def percent(value: float) -> Value:
    """A percentage with one decimal."""
    return f"{value:.1f}", value


def of_cell(cell: Cell) -> Value:
    """A mean with its interval and what is incomplete."""
    if cell.mean is None:
        return f'<span class="gap">{escape(cell.note)}</span>', None
    words = plain(cell).partition(" (")[0]
    number, _, half = words.partition(" ")
    shown = number + (f" <small>{escape(half)}</small>" if half else "")
    shown += f' <span class="gap">{escape(cell.note)}</span>' if cell.note else ""
    return shown, cell.mean


def sortable(
    head: Sequence[str], rows: Sequence[Sequence[Value]], classes: Sequence[str] = ()
) -> str:
    """A table; numbers sort as such and empty cells come last. `classes` are those of the rows."""
    numeric = [any(row[i][1] is not None for row in rows) for i in range(len(head))]
    align = [' class="n"' if number else "" for number in numeric]
    heads = "".join(
        f'<th scope="col" aria-sort="none"{side}><button>{escape(name)}</button></th>'
        for name, side in zip(head, align, strict=True)
    )
    lines = []
    for i, row in enumerate(rows):
        kind = f' class="{classes[i]}"' if classes and classes[i] else ""
        cells = "".join(
            f"<td{side}{_sorted_by(value)}>{value[0]}</td>"
            for value, side in zip(row, align, strict=True)
        )
        lines.append(f"<tr{kind}>{cells}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _sorted_by(value: Value) -> str:
    return "" if value[1] is None else f' data-v="{value[1]!r}"'


def of_table(table: Table) -> str:
    """One of the report's tables with its notes."""
    sectioned = any(row.section for row in table.rows)
    head = ["Data set"] * sectioned + ["Method", *table.columns]
    rows, classes = [], []
    for row in table.rows:
        start = [text(row.section)] * sectioned + [text(row.method)]
        rows.append(start + [of_cell(cell) for cell in row.cells])
        classes.append("published" if row.published else "")
    return sortable(head, rows, classes) + notes(table.notes)


def notes(lines: Collection[str]) -> str:
    """A list of remarks; empty for none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if lines else ""


def link(file: str, page: Path, words: str) -> str:
    """To a file, from where the page lies; only the words if there is no such file."""
    if not os.path.exists(file):
        return escape(words)
    try:
        way = os.path.relpath(file, page.resolve().parent)
    except ValueError:  # on another drive of Windows
        way = Path(file).resolve().as_uri()
        return f'<a href="{escape(way)}">{escape(words)}</a>'
    return f'<a href="{escape(quote(way.replace(os.sep, "/")))}">{escape(words)}</a>'
