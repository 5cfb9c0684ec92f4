"""Base against new accuracy, few-shot curves and reliability diagrams of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from ..cells import Cell
from ..detail import Detail
from ..stats import harmonic
from ..tables import Row, Table
from .svg import Axes, color, key

_STEPS_OF_H = (1, 2, 5, 10, 20, 50)
Series = Mapping[str, int]  # what a method is called -> the number of its colour and mark
_CURVE = 60  # points of a curve of equal H
_TALLEST = 18.0  # percent of a diagram's height that the fullest bin's bar takes


def scatter(table: Table, series: Series) -> str:
    """A panel for each section: a point a method, published ones hollow, curves of equal H behind.

    Averages that lack data sets are left out, as in the figures.
    """
    panels, published = [], False
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        drawn = [row for row in rows if _whole(row)]
        if any(not row.published for row in drawn):
            published |= any(row.published for row in drawn)
            panels.append(_panel(section, _scatter(section, drawn, series)))
    return _panels(panels, key(_measured(table, series), "published" if published else ""))


def _scatter(section: str, rows: Sequence[Row], series: Series) -> str:
    x, y = (_limits([row.cells[i] for row in rows]) for i in (0, 1))
    axes = Axes(x, y, ("base classes, accuracy in %", "new classes, accuracy in %"))
    _equal_h(axes)
    for row in sorted(rows, key=lambda row: not row.published):  # measured ones on top
        base, new = (cell.mean or 0.0 for cell in row.cells[:2])
        number = 0 if row.published else series[row.method]
        for i, cell in enumerate(row.cells[:2]):
            if cell.half:
                here, step = (base, new), (cell.half * (i == 0), cell.half * (i == 1))
                low, high = ((here[0] + s * step[0], here[1] + s * step[1]) for s in (-1, 1))
                axes.bar(low, high, number)
        words = f"{row.method}: base {base:.2f}, new {new:.2f}, H {harmonic(base, new):.2f}"
        axes.mark(base, new, number, words, hollow=row.published)
    return axes.svg(f"{section}: new against base accuracy")


def _equal_h(axes: Axes) -> None:
    (x0, x1), (y0, y1) = axes.limits
    lowest, highest = harmonic(max(x0, 0.1), max(y0, 0.1)), harmonic(x1, y1)
    step = next(s for s in _STEPS_OF_H if (highest - lowest) / s <= 7)
    for h in range(step * int(lowest // step + 1), int(highest) + 1, step):
        xs = [x0 + (x1 - x0) * i / _CURVE for i in range(_CURVE + 1)]
        points = [(x, h * x / (2 * x - h)) for x in xs if 2 * x > h + 1e-9]
        points = [(x, y) for x, y in points if y0 <= y <= y1]
        if len(points) > 1:
            axes.line(points, "equal")
            axes.text(*points[-1], f"H {h}", "faint")


def fewshot(table: Table, series: Series) -> str:
    """A panel for each section: accuracy against images per class, on a scale of equal steps.

    Intervals over seeds are bars, zero-shot lines go across.
    """
    panels = []
    for section, group in groupby(table.rows, key=lambda row: row.section):
        rows = [
            row for row in group if any(c.mean is not None and not c.partial for c in row.cells)
        ]
        if rows:
            panels.append(_panel(section, _fewshot(section, rows, series, table.columns)))
    return _panels(panels, key(_measured(table, series)))


def _fewshot(section: str, rows: Sequence[Row], series: Series, columns: Sequence[str]) -> str:
    cells = [cell for row in rows for cell in row.cells if cell.mean is not None]
    shots = [(i, column) for i, column in enumerate(columns) if not column.startswith("0 ")]
    places = {float(place): column.split()[0] for place, (_, column) in enumerate(shots, 1)}
    frame = (0.5, len(shots) + 0.5), _limits(cells)
    axes = Axes(*frame, ("images per class", "accuracy in %"), names=places)
    for row in rows:
        number = series[row.method]
        points = [
            (place, row.cells[i]) for place, (i, _) in enumerate(shots, 1)
            if row.cells[i].mean is not None
        ]  # fmt: skip
        zero = row.cells[0]
        if not points and zero.mean is not None:
            axes.line(((0.5, zero.mean), (len(shots) + 0.5, zero.mean)), f"dashed {color(number)}")
        if points:
            axes.line([(x, cell.mean or 0.0) for x, cell in points], f"curve {color(number)}")
        for x, cell in points:
            mean, half = cell.mean or 0.0, cell.half or 0.0
            axes.bar((x, mean - half), (x, mean + half), number)
            axes.mark(x, mean, number, f"{row.method}, {shots[x - 1][1]}: {mean:.2f}")
    return axes.svg(f"{section}: accuracy against images per class")


def reliability(details: Mapping[str, Detail], series: Series) -> str:
    """Accuracy against confidence, a panel for each method; grey bars are the numbers of images."""
    panels = []
    for method, detail in details.items():
        if not detail.reliability:
            continue
        axes = Axes((0, 100), (0, 100), ("confidence in %", "accuracy in %"), (250, 220))
        most = max(point.count for point in detail.reliability)
        for point in detail.reliability:
            height = _TALLEST * point.count / most
            axes.box((point.low, 0), (point.high, height), "count")
        axes.line(((0, 0), (100, 100)), "equal")
        number = series[method]
        found = [(point.confidence, point.accuracy) for point in detail.reliability]
        axes.line(found, f"curve {color(number)}")
        for point in detail.reliability:
            words = (
                f"{point.count} images claimed {point.confidence:.1f} %, "
                f"{point.accuracy:.1f} % are right"
            )
            axes.mark(point.confidence, point.accuracy, number, words, radius=4)
        total = sum(point.count for point in detail.reliability)
        caption = f"{method} (fullest bin: {most} of {total})"
        panels.append(_panel(caption, axes.svg(f"{method}: accuracy against confidence")))
    return _panels(panels, "")


def _panel(caption: str, picture: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>"


def _panels(panels: Sequence[str], legend: str) -> str:
    return f'{legend}<div class="panels">{"".join(panels)}</div>' if panels else ""


def _measured(table: Table, series: Series) -> dict[str, int]:
    return {row.method: series[row.method] for row in table.rows if not row.published}


def _whole(row: Row) -> bool:
    return all(cell.mean is not None and not cell.partial for cell in row.cells[:2])


def _limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """Of an axis that holds the means with their intervals, in percent."""
    known = [(cell.mean, cell.half or 0.0) for cell in cells if cell.mean is not None]
    low = min(mean - half for mean, half in known)
    high = max(mean + half for mean, half in known)
    margin = 0.1 * (high - low) + 0.8
    return max(low - margin, 0.0), min(high + margin, 100.0)
