"""Figures: base against new accuracy, and few-shot curves. Written as PNG, without a display."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.console import say
from .canvas import MOST_PANELS, Style, grid, save, styles, text
from .cells import Cell
from .places import GREY, Spot, annotate, equal_h, spread
from .tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DODGE, _MOST_DODGE = 0.12, 0.5  # of a factor of two: between two curves, and all of them
_MEASURED_NAME = {"CLIP": "ZeroshotCLIP"}  # of a published method
Panels = list[tuple[str, list[Row]]]


def write_figures(tables: list[Table], folder: str | os.PathLike) -> list[Path]:
    """Draw what the tables allow; returns the files written.

    Averages that lack data sets are not drawn: beside whole ones they would mislead.
    """
    drawers = {"base2new": draw_base2new, "fewshot": draw_fewshot}
    written = []
    for table in tables:
        if table.name not in drawers:
            continue
        panels = _panels(table, _both if table.name == "base2new" else _any)
        averages = [panel for panel in panels if panel[0].startswith("Average")]
        single = [panel for panel in panels if panel not in averages]
        for suffix, chosen in (("", averages), ("_by_data_set", single)):
            if chosen:
                path = Path(folder, f"{table.name}{suffix}.png")
                if len(chosen) > MOST_PANELS:
                    say(f"{path.name} shows {MOST_PANELS} of {len(chosen)} data sets")
                draw, panels = drawers[table.name], chosen[:MOST_PANELS]
                save(partial(draw, panels, _styles(table), table.columns), path)
                written.append(path)
    return written


def draw_base2new(panels: Panels, style: Style, columns: list[str]) -> Figure:
    """A panel a section: a point a method, published ones hollow; curves of equal H behind.

    Points that would hide each other stand side by side.
    """
    figure, axes = grid(len(panels), 4.4 if len(panels) > 2 else 6.5)
    drawn: list[list[Spot]] = []
    for ax, (name, rows) in zip(axes, panels, strict=True):
        drawn.append([_point(ax, row, style) for row in rows if _both(row)])
        points = [(row, row.cells[:2]) for row in rows if _both(row)]
        _limits(ax, [cells for _, cells in points])
        notes = {f"{r.method}: {c.note}": 0 for r, cells in points for c in cells if c.note}
        ax.set_title("\n".join(map(text, [name, *notes])), fontsize=10)
        ax.set_xlabel("accuracy on base classes (%)")
        ax.set_ylabel("accuracy on new classes (%)")
    _legend(figure, axes, "bars", any(row.published for _, rows in panels for row in rows))
    moved = 0
    figure.draw_without_rendering()  # places the panels, and so what fits into them
    for ax, (_, rows), spots in zip(axes, panels, drawn, strict=True):
        moved += spread(ax, spots)
        equal_h(ax)
        if len(panels) <= 2:
            known = [(row, x, y) for row, (_, x, y) in zip(filter(_both, rows), spots, strict=True)]
            texts = [(_short(row), x, y) for row, x, y in known if row.published]
            annotate(ax, texts, [(x, y) for _, x, y in known])
    if moved:
        title = figure.legends[0].get_title()
        title.set_text(f"{title.get_text()}; equal points stand side by side")
    return figure


def _point(ax: Axes, row: Row, style: Style) -> Spot:
    base, new = row.cells[:2]
    x, y = base.mean or 0.0, new.mean or 0.0
    if row.published:
        short = _short(row)
        color, _ = style.get(_MEASURED_NAME.get(short, short), (GREY, ""))
        return ax.plot(x, y, "o", mfc="none", mec=color, ms=6, zorder=3), x, y
    color, marker = style[row.method]
    container = ax.errorbar(
        x, y, xerr=base.half, yerr=new.half, color=color, fmt=marker, ms=8, mec="white", mew=0.8,
        elinewidth=1, capsize=2, zorder=4, label=text(row.method),
    )  # fmt: skip
    return container.get_children(), x, y


def _short(row: Row) -> str:
    return row.method.removesuffix(" (published)")


def draw_fewshot(panels: Panels, style: Style, columns: list[str]) -> Figure:
    """A panel a section: accuracy against shots, with 95 % intervals; zero-shot as a line.

    Curves are moved a little along the axis and lines have gaps, so that equal ones are all seen.
    """
    words = [column.split()[0] for column in columns]
    numbers = [float(word) for word in words if word.isdigit()]
    shots = [float(word) if word.isdigit() else 2 * max(numbers) for word in words]
    ticks = {n: word for n, word in zip(shots, words, strict=True) if n}
    figure, axes = grid(len(panels), 3.6)
    for ax, (name, rows) in zip(axes, panels, strict=True):
        lines = [row for row in rows if not shots[0] and row.cells[0].mean is not None]
        curves = [row for row in rows if row not in lines]
        step = min(_DODGE, _MOST_DODGE / max(len(curves), 1))
        for i, row in enumerate(curves):
            _curve(ax, row, shots, style, 2 ** (step * (i - (len(curves) - 1) / 2)))
        for i, row in enumerate(lines):
            color, _ = style[row.method]
            dashes = (4 * i, (4, 4 * max(len(lines) - 1, 1)))  # each in the gaps of the others
            ax.axhline(
                row.cells[0].mean or 0.0, color=color, ls=dashes, lw=1.2, label=text(row.method)
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(ticks), list(ticks.values()))
        ax.minorticks_off()
        ax.set_xlim(min(ticks) / 1.2, max(ticks) * 1.2)
        ax.set_title(text(name), fontsize=10)
        ax.set_xlabel("images per class")
        ax.set_ylabel("accuracy (%)")
        ax.grid(alpha=0.25, lw=0.6)
    _legend(figure, axes, "bands", published=False)
    return figure


def _curve(ax: Axes, row: Row, shots: list[float], style: Style, factor: float) -> None:
    color, marker = style[row.method]
    known = [(n, c) for n, c in zip(shots, row.cells, strict=True) if c.mean is not None]
    x, mean = np.array([n * factor for n, _ in known]), np.array([c.mean for _, c in known])
    half = np.array([c.half or 0.0 for _, c in known])
    ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.15, lw=0)
    ax.plot(x, mean, marker=marker, color=color, ms=6, mec="white", label=text(row.method))


def _panels(table: Table, drawable: Callable[[Row], bool]) -> Panels:
    """Sections with their rows, without partial averages, if a measured row can be drawn."""
    panels = [(name, list(rows)) for name, rows in groupby(table.rows, key=lambda r: r.section)]
    whole = [
        (name, [r for r in rows if not any(c.partial for c in r.cells)]) for name, rows in panels
    ]
    return [(n, rows) for n, rows in whole if any(not r.published and drawable(r) for r in rows)]


def _any(row: Row) -> bool:
    return any(cell.mean is not None for cell in row.cells)


def _both(row: Row) -> bool:
    return all(cell.mean is not None for cell in row.cells[:2])


def _styles(table: Table) -> Style:
    names = dict.fromkeys(row.method for row in table.rows if not row.published)
    return styles(names)


def _limits(ax: Axes, points: list[list[Cell]]) -> None:
    setters: tuple[Callable[[float, float], object], ...] = (ax.set_xlim, ax.set_ylim)
    for setter, cells in zip(setters, zip(*points, strict=True), strict=True):
        low = min(cell.mean - (cell.half or 0) for cell in cells)
        high = max(cell.mean + (cell.half or 0) for cell in cells)
        margin = 0.12 * (high - low) + 0.8
        setter(max(low - margin, 0), min(high + margin, 100))


def _legend(figure: Figure, axes: list[Axes], intervals: str, published: bool) -> None:
    """Below the panels; its title says what the `intervals` (bars or bands) are."""
    from matplotlib.lines import Line2D

    known: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if published:
        hollow = Line2D([], [], ls="", marker="o", mfc="none", mec=GREY, ms=6)
        known["published (hollow)"] = hollow
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=min(len(known), 4),
        fontsize=8, frameon=False, title=f"{intervals}: 95 % intervals over seeds",
        title_fontsize=8,
    )  # fmt: skip
