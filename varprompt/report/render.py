"""The tables as text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from itertools import groupby

from .cells import MISSING, NOT_KNOWN, Cell
from .tables import Row, Table

_UNLIMITED = 1000  # columns
_NARROW = 5  # columns that an upright page of LaTeX holds
_LANDSCAPE = r"\begin{landscape}\fontsize{6}{8}\selectfont\setlength{\tabcolsep}{1pt}"
_IN_CELL = ("", MISSING.note, NOT_KNOWN.note)  # notes short enough for a cell of LaTeX


def to_text(table: Table, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns (default: as wide as it gets); `color` adds styles."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(box=SIMPLE_HEAD, title=table.title, title_justify="left", pad_edge=False)
    drawn.add_column("Method", overflow="fold")
    for column in table.columns:
        drawn.add_column(column, justify="right")
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        if section:
            drawn.add_section()
            drawn.add_row(section, style="bold")
        for row in rows:
            indent = "  " if section else ""
            cells = [plain(cell) for cell in row.cells]
            drawn.add_row(indent + row.method, *cells, style="dim" if row.published else "")
    out = io.StringIO()
    console = Console(file=out, width=width or _UNLIMITED, force_terminal=color, highlight=False)
    console.print(drawn)
    for note in table.notes:
        console.print(note, markup=False, style="dim")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def to_markdown(table: Table) -> str:
    """A GitHub table; published rows are in italics."""
    sectioned = any(row.section for row in table.rows)
    head = ["Data set", "Method"] if sectioned else ["Method"]
    lines = [f"## {table.title}", "", _bar(head + table.columns)]
    lines.append(_bar(["---"] * len(head) + ["---:"] * len(table.columns)))
    for row in table.rows:
        words = [row.section] * sectioned + [row.method, *map(plain, row.cells)]
        words = [word.replace("|", r"\|") for word in words]
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


def to_latex(table: Table) -> str:
    """A booktabs longtable, which goes on over pages; published rows are in italics.

    What is incomplete stands below the table, behind a number in brackets: in the cells it would
    make the columns too wide for a page. A table of many columns lies on its side.
    """
    notes = dict.fromkeys(cell.note for row in table.rows for cell in row.cells)
    marks = {note: i for i, note in enumerate((n for n in notes if n not in _IN_CELL), 1)}
    wide = len(table.columns) > _NARROW
    lines = [rf"% \usepackage{{booktabs,longtable{',pdflscape' * wide}}}"]
    lines.append(_LANDSCAPE if wide else r"\begingroup")
    lines.append(rf"\begin{{longtable}}{{l{'r' * len(table.columns)}}}")
    lines += [rf"\caption{{{escape(table.title)}}} \\", r"\toprule"]
    lines += [_row_of(["Method", *map(escape, table.columns)]), r"\midrule", r"\endhead"]
    for i, (section, rows) in enumerate(groupby(table.rows, key=lambda row: row.section)):
        lines += [r"\midrule"] * (i > 0)
        if section:
            span = rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}"
            lines.append(rf"{span}{{\textbf{{{escape(section)}}}}} \\*")
        for row in rows:
            name = escape(row.method)
            words = [rf"\textit{{{name}}}" if row.published else name]
            lines.append(_row_of([*words, *(_latex_cell(cell, marks) for cell in row.cells)]))
    lines += [r"\bottomrule", r"\end{longtable}", r"\footnotesize\raggedright"]
    below = [f"({number}) {note}." for note, number in marks.items()] + table.notes
    lines += [rf"\noindent {escape(note)}\par" for note in below]
    return "\n".join([*lines, r"\end{landscape}" if wide else r"\endgroup", ""])


def plain(cell: Cell) -> str:
    """A cell in words: mean, interval, and what is incomplete."""
    if cell.mean is None:
        return cell.note
    half = "" if cell.half is None else f" ±{cell.half:.2f}"
    return f"{cell.mean:.2f}{half}" + (f" ({cell.note})" if cell.note else "")


def escape(text: str) -> str:
    """`text` for LaTeX."""
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    return text.replace("±", r"$\pm$").replace("95 \\%", r"95~\%")


def _latex_cell(cell: Cell, marks: Mapping[str, int]) -> str:
    mark = f"^{{({marks[cell.note]})}}" if cell.note in marks else ""
    if cell.mean is None:
        return f"-${mark}$" if mark else cell.note
    half = "" if cell.half is None else rf"_{{\pm {cell.half:.2f}}}"
    return f"${cell.mean:.2f}{half}{mark}$"


def _values(cell: Cell, row: Row) -> list[str]:
    seeds = "" if row.published or cell.mean is None else str(cell.seeds)
    numbers = ["" if value is None else f"{value:.4f}" for value in (cell.mean, cell.half)]
    return [*numbers, seeds, cell.note]


def _bar(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def _row_of(words: list[str]) -> str:
    return " & ".join(words) + r" \\"
