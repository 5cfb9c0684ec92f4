"""Figures: base against new accuracy, and few-shot curves. Written as PNG, without a display."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cells import Cell
from .tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
_MARKERS = "osD^vPXh"
_GREY = "0.5"
_MEASURED_NAME = {"CLIP": "ZeroshotCLIP"}  # of a published method
Panels = list[tuple[str, list[Row]]]
Style = dict[str, tuple[str, str]]


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
                figure = drawers[table.name](chosen, _styles(table), table.columns)
                figure.savefig(path, dpi=200, bbox_inches="tight")
                written.append(path)
    return written


def draw_base2new(panels: Panels, style: Style, columns: list[str]) -> Figure:
    """A panel a section: a point a method, published ones hollow; curves of equal H behind."""
    figure, axes = _grid(len(panels), 4.4 if len(panels) > 2 else 6.5)
    named = []
    for ax, (name, rows) in zip(axes, panels, strict=True):
        points = [(row, *row.cells[:2]) for row in rows if _both(row)]
        texts = []
        for row, base, new in points:
            if row.published:
                short = row.method.removesuffix(" (published)")
                color, _ = style.get(_MEASURED_NAME.get(short, short), (_GREY, ""))
                ax.plot(base.mean, new.mean, "o", mfc="none", mec=color, ms=6, zorder=3)
                texts.append((short, base.mean, new.mean))
            else:
                color, marker = style[row.method]
                ax.errorbar(
                    base.mean, new.mean, xerr=base.half, yerr=new.half, color=color, fmt=marker,
                    ms=8, mec="white", mew=0.8, elinewidth=1, capsize=2, zorder=4, label=row.method,
                )  # fmt: skip
        _limits(ax, [cells for _, *cells in points])
        named.append((ax, texts, [(base.mean, new.mean) for _, base, new in points]))
        notes = {f"{r.method}: {c.note}": 0 for r, *cells in points for c in cells if c.note}
        ax.set_title("\n".join([name, *notes]), fontsize=10)
        ax.set_xlabel("accuracy on base classes (%)")
        ax.set_ylabel("accuracy on new classes (%)")
    _legend(figure, axes, "bars", any(row.published for _, rows in panels for row in rows))
    figure.draw_without_rendering()  # places the panels, and so what fits into them
    for ax, texts, points in named:
        _equal_h(ax)
        if len(panels) <= 2:
            _annotate(ax, texts, points)
    return figure


def draw_fewshot(panels: Panels, style: Style, columns: list[str]) -> Figure:
    """A panel a section: accuracy against shots, with 95 % intervals; zero-shot as a line."""
    shots = [int(column.split()[0]) for column in columns]
    ticks = [n for n in shots if n]
    figure, axes = _grid(len(panels), 3.6)
    for ax, (name, rows) in zip(axes, panels, strict=True):
        for row in rows:
            color, marker = style[row.method]
            known = [(n, c) for n, c in zip(shots, row.cells, strict=True) if c.mean is not None]
            x, mean = [n for n, _ in known], np.array([c.mean for _, c in known])
            if x == [0]:
                ax.axhline(mean[0], color=color, ls="--", lw=1.2, label=row.method)
                continue
            half = np.array([c.half or 0.0 for _, c in known])
            ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.15, lw=0)
            ax.plot(x, mean, marker=marker, color=color, ms=6, mec="white", label=row.method)
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [str(n) for n in ticks])
        ax.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("images per class")
        ax.set_ylabel("accuracy (%)")
        ax.grid(alpha=0.25, lw=0.6)
    _legend(figure, axes, "bands", published=False)
    return figure


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


def _grid(n: int, size: float) -> tuple[Figure, list[Axes]]:
    """`n` panels, at most three in a row; drawn on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if n == 4 else min(n, 3)
    rows = -(-n // columns)
    figure = Figure(figsize=(size * columns, (size * 0.92) * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[n:]:
        ax.remove()
    for ax in axes[:n]:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_size(9)
        ax.yaxis.label.set_size(9)
    return figure, axes[:n]


def _styles(table: Table) -> Style:
    names = dict.fromkeys(row.method for row in table.rows if not row.published)
    return {
        name: (_COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(names)
    }


def _limits(ax: Axes, points: list[list[Cell]]) -> None:
    setters: tuple[Callable[[float, float], object], ...] = (ax.set_xlim, ax.set_ylim)
    for setter, cells in zip(setters, zip(*points, strict=True), strict=True):
        low = min(cell.mean - (cell.half or 0) for cell in cells)
        high = max(cell.mean + (cell.half or 0) for cell in cells)
        margin = 0.12 * (high - low) + 0.8
        setter(max(low - margin, 0), min(high + margin, 100))


def _equal_h(ax: Axes) -> None:
    """Thin curves new = H base / (2 base - H), labelled at their end if that fits."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    lowest, highest = (2 * x * y / max(x + y, 1e-9) for x, y in ((left, bottom), (right, top)))
    step = next(s for s in (1, 2, 5, 10, 20, 50) if (highest - lowest) / s <= 8)
    base = np.linspace(left, right, 400)
    for h in np.arange(step * np.ceil(lowest / step), highest, step):
        new = np.full_like(base, np.nan)
        inside = 2 * base > h + 1e-9
        new[inside] = h * base[inside] / (2 * base[inside] - h)
        seen = np.flatnonzero((new >= bottom) & (new <= top))
        if len(seen) == 0:
            continue
        ax.plot(base[seen], new[seen], color="0.87", lw=0.8, zorder=1)
        label = ax.annotate(
            f"H={h:g}", (base[seen[-1]], new[seen[-1]]), (-2, 2), textcoords="offset points",
            fontsize=6.5, color="0.65", ha="right", zorder=1,
        )  # fmt: skip
        if not _inside(label.get_window_extent().extents, ax.bbox.extents):
            label.remove()


def _annotate(
    ax: Axes, texts: list[tuple[str, float, float]], points: list[tuple[float, float]]
) -> None:
    """Name points, each at the first place around it where nothing else stands, if there is one."""
    frame = ax.bbox.extents
    taken = [np.r_[ax.transData.transform(p) - 5, ax.transData.transform(p) + 5] for p in points]
    for text, x, y in texts:
        for radius, (dx, dy) in product((7, 14, 22, 32, 44), _AROUND):
            place = {"textcoords": "offset points", "fontsize": 8, "color": _GREY, "zorder": 5}
            align = {"ha": ("right", "center", "left")[dx + 1], "va": "center"}
            line = {"arrowprops": {"arrowstyle": "-", "color": "0.75", "lw": 0.6}}
            note = ax.annotate(
                text, (x, y), (dx * radius, dy * radius), **place, **align,
                **(line if radius > 7 else {}),
            )  # fmt: skip
            box = note.get_window_extent().extents
            if _inside(box, frame) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                break
            note.remove()


_AROUND = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))


def _inside(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether box `a` lies in box `b` (left, bottom, right, top)."""
    return bool(b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3])


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes (left, bottom, right, top) share a point."""
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def _legend(figure: Figure, axes: list[Axes], intervals: str, published: bool) -> None:
    """Below the panels; its title says what the `intervals` (bars or bands) are."""
    from matplotlib.lines import Line2D

    known = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if published:
        hollow = Line2D([], [], ls="", marker="o", mfc="none", mec=_GREY, ms=6)
        known["published (hollow)"] = hollow
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=min(len(known), 4),
        fontsize=8, frameon=False, title=f"{intervals}: 95 % intervals over seeds",
        title_fontsize=8,
    )  # fmt: skip
