r"""The tables for papers: booktabs, in floats that fit one or both columns of a page.

Numbers are never set below \scriptsize. A table that is too wide gets its intervals on a second
line and turned heads; one that is too long is divided between its sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from .cells import MISSING, NOT_KNOWN, Cell
from .tables import Row, Table

_NARROW = 5  # columns with intervals beside the numbers; more have them below
_COLUMN, _PAGE = 235.0, 480.0  # width in points of one column, and of both
_CHARACTER, _DIGIT, _SMALL_DIGIT = 4.3, 4.3, 3.6  # widths in points at \footnotesize
_LINES = 56  # of a page at \footnotesize
_IN_CELL = ("", MISSING.note, NOT_KNOWN.note)  # notes short enough for a cell
_PACKAGES = r"% \usepackage{booktabs,graphicx}"
_TEXT = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$",
    "≤": r"$\le$", "≥": r"$\ge$",
    **{c: rf"\{c}" for c in "&%$#_{}"},
}  # fmt: skip
# Shrinks what is too wide for its place, and leaves alone what fits.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" "\n"

Section = tuple[str, list[Row]]


@dataclass(frozen=True)
class _Style:
    """How the tabulars of a table are set."""

    columns: list[str]
    below: bool  # intervals on a second line
    marks: Mapping[str, int]  # what is incomplete -> its number
    lower_is_better: frozenset[int]  # columns


def to_latex(table: Table, long: bool = False) -> str:
    """Floats with a plain tabular; the best of each column is bold, published rows are in italics.

    What is incomplete stands below the table, behind a number in brackets.

    Args:
        table: the table.
        long: one longtable instead, which goes on over pages but not in two columns. Also used for
            a section that no page holds.
    """
    notes = dict.fromkeys(cell.note for row in table.rows for cell in row.cells)
    marks = {note: i for i, note in enumerate((n for n in notes if n not in _IN_CELL), 1)}
    lower = frozenset(i for i, column in enumerate(table.columns) if column in table.lower)
    sections = [(name, list(rows)) for name, rows in groupby(table.rows, lambda row: row.section)]
    style = _Style(table.columns, len(table.columns) > _NARROW, marks, lower)
    width = max(_width(section, style) for section in sections)
    if width > _PAGE or (len(sections) > 1 and width > _PAGE / 2):
        style = replace(style, below=True)
        width = max(_width(section, style) for section in sections)
    below = [f"({number}) {note}." for note, number in marks.items()] + table.notes
    if long or any(_height(section, style) > _LINES for section in sections):
        return _longtable(table.title, sections, below, style)
    side_by_side = len(sections) > 1 and 2 * width < _PAGE
    floats = _floats(sections, style, 2 if side_by_side else 1)
    parts = []
    for i, chosen in enumerate(floats):
        title = table.title + (f" ({i + 1} of {len(floats)})" if len(floats) > 1 else "")
        last = below if i == len(floats) - 1 else []
        label = f"tab:{table.name}" + (f"-{i + 1}" if i else "")
        parts.append(_float(title, label, chosen, last, style, width, side_by_side))
    return "\n".join([_PACKAGES, *parts])


def escape(text: str) -> str:
    """`text` for LaTeX."""
    text = "".join(_TEXT.get(character, character) for character in text)
    return text.replace("95 \\%", r"95~\%")


def _float(
    title: str, label: str, sections: list[Section], notes: list[str], style: _Style,
    width: float, side_by_side: bool,
) -> str:  # fmt: skip
    kind = "table*" if side_by_side or width > _COLUMN else "table"
    lines = [rf"\begin{{{kind}}}[t]", r"\centering\footnotesize"]
    lines.append(
        r"\setlength{\tabcolsep}{2.5pt}" if style.below else r"\setlength{\tabcolsep}{4pt}"
    )
    lines.append(rf"\caption{{{escape(title)}.}}\label{{{label}}}")
    if side_by_side:
        for i, section in enumerate(sections):
            lines += [r"\begin{minipage}[t]{0.48\linewidth}\centering"]
            lines += [*_fitted([section], style), r"\end{minipage}"]
            lines.append(r"\hfill" if i % 2 == 0 else r"\par\medskip")
    else:
        lines += _fitted(sections, style)
    if notes:
        lines.append(r"\par\smallskip\raggedright\scriptsize")
        lines += [rf"{escape(note)}\par" for note in notes]
    return "\n".join([*lines, rf"\end{{{kind}}}", ""])


def _fitted(sections: list[Section], style: _Style) -> list[str]:
    columns = "l" + "r" * len(style.columns)
    lines = [rf"{_FIT}\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", _head(style)]
    return [*lines, r"\midrule", *_body(sections, style), r"\bottomrule", r"\end{tabular}}"]


def _longtable(title: str, sections: list[Section], notes: list[str], style: _Style) -> str:
    columns = "l" + "r" * len(style.columns)
    lines = [r"% \usepackage{booktabs,graphicx,longtable}"]
    lines += [r"\begingroup\footnotesize\setlength{\tabcolsep}{2.5pt}"]
    lines += [rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}", rf"\caption{{{escape(title)}.}} \\"]
    lines += [r"\toprule", _head(style), r"\midrule", r"\endhead"]
    lines += [*_body(sections, style), r"\bottomrule", r"\end{longtable}"]
    lines += [r"\raggedright\scriptsize", *(rf"\noindent {escape(note)}\par" for note in notes)]
    return "\n".join([*lines, r"\endgroup", ""])


def _head(style: _Style) -> str:
    words = ["Method"]
    for column in style.columns:
        turned = _turned(column, style)
        words.append(rf"\rotatebox{{90}}{{{escape(column)}}}" if turned else escape(column))
    return _row_of(words)


def _body(sections: list[Section], style: _Style) -> list[str]:
    lines: list[str] = []
    for i, (section, rows) in enumerate(sections):
        lines += [r"\midrule"] * (i > 0)
        if section:
            span = rf"\multicolumn{{{len(style.columns) + 1}}}{{@{{}}l}}"
            lines.append(rf"{span}{{\textbf{{{escape(section)}}}}} \\*")
        best = _best(rows, style)
        for row in rows:
            name = escape(row.method)
            words = [rf"\textit{{{name}}}" if row.published else name]
            words += [_cell(cell, style, cell.mean in best[k]) for k, cell in enumerate(row.cells)]
            lines.append(_row_of(words))
            halves = [_half(cell) for cell in row.cells]
            if style.below and any(halves):
                lines.append(_row_of(["", *halves]))
    return lines


def _best(rows: list[Row], style: _Style) -> list[list[float]]:
    """The best values of each column, equal as they are shown, but for averages of fewer sets."""
    best = []
    for i, column in enumerate(zip(*(row.cells for row in rows), strict=True)):
        known = [(c.mean, c.number()) for c in column if c.mean is not None and not c.partial]
        choose = min if i in style.lower_is_better else max
        top = choose(known)[1] if len(known) > 1 else ""
        best.append([value for value, shown in known if shown == top])
    return best


def _cell(cell: Cell, style: _Style, bold: bool) -> str:
    mark = f"^{{({style.marks[cell.note]})}}" if cell.note in style.marks else ""
    if cell.mean is None:
        return f"-${mark}$" if mark else cell.note
    number = cell.number()
    number = rf"\mathbf{{{number}}}" if bold and not cell.partial else number
    half = "" if cell.half is None or style.below else rf"_{{\pm {cell.half_width()}}}"
    return f"${number}{half}{mark}$"


def _turned(column: str, style: _Style) -> bool:
    return len(style.columns) > _NARROW and len(column) * _CHARACTER > 5 * _DIGIT + 4


def _half(cell: Cell) -> str:
    return "" if cell.half is None else rf"\scriptsize$\pm {cell.half_width()}$"


def _width(section: Section, style: _Style) -> float:
    """Of its tabular, roughly, in points."""
    method = max(len(row.method) for row in section[1]) * _CHARACTER
    width = method
    for i, column in enumerate(style.columns):
        cells = [row.cells[i] for row in section[1]]
        wide = any(cell.half is not None for cell in cells) and not style.below
        number = 5 * _DIGIT + (6 * _SMALL_DIGIT if wide else 0)
        width += max(number, 0 if _turned(column, style) else len(column) * _CHARACTER) + 8
    return width


def _height(section: Section, style: _Style) -> int:
    """Of its tabular in lines."""
    two = (style.below and any(c.half is not None for c in row.cells) for row in section[1])
    return 4 + len(section[1]) + sum(two)


def _floats(sections: list[Section], style: _Style, abreast: int) -> list[list[Section]]:
    """Sections, so many on a line, divided so that each float fits a page."""
    floats: list[list[Section]] = [[]]
    used = 0
    for start in range(0, len(sections), abreast):
        line = sections[start : start + abreast]
        height = max(_height(section, style) for section in line)
        if used + height > _LINES and floats[-1]:
            floats.append([])
            used = 0
        floats[-1] += line
        used += height
    return floats


def _row_of(words: list[str]) -> str:
    return " & ".join(words) + r" \\"
