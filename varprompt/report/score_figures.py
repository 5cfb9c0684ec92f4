"""Figures of calibration and rejection: reliability, risk against coverage, H against ECE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.console import say
from .calibration import SMALL, SMALL_SET
from .canvas import MOST_PANELS, grid, save, styles, text
from .detail import Detail, pooled
from .grouping import labels_of
from .places import GREY, annotate
from .published import ELEVEN
from .runs import Run
from .stats import harmonic
from .tables import PARTS, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = tuple[str, str, Detail]  # where, method, all seeds together


def write_score_figures(runs: Sequence[Run], tables: Sequence[Table], folder: Path) -> list[Path]:
    """Draw what was asked for by `--columns`; returns the files written.

    Args:
        runs: all that were found.
        tables: of `varprompt.report.scores`.
        folder: gets reliability.png, risk_coverage.png and h_ece.png.

    Raises:
        OSError: they cannot be written.
    """
    names = {table.name.removesuffix("_all") for table in tables}
    panels = _panels(runs)
    binned = [panel for panel in panels if panel[2].reliability]
    ranked = [panel for panel in panels if panel[2].risk]
    written = []
    if "calibration" in names and binned:
        written.append(folder / "reliability.png")
        shown = _shown(binned, written[-1])
        save(lambda: draw_reliability(shown), written[-1])
    scatter = next((t for t in tables if t.name == "calibration" and _points(t)), None)
    if scatter:
        written.append(folder / "h_ece.png")
        save(lambda: draw_h_ece(scatter), written[-1])
    if "rejection" in names and ranked:
        written.append(folder / "risk_coverage.png")
        places = list(dict.fromkeys(where for where, _, _ in ranked))
        chosen = _shown(places, written[-1])
        save(lambda: draw_risk([p for p in ranked if p[0] in chosen]), written[-1])
    return written


def draw_reliability(panels: Sequence[Panel]) -> Figure:
    """Accuracy against confidence, a panel for each method and data set; grey: how many images."""
    figure, axes = grid(len(panels), 2.9)
    style = styles(dict.fromkeys(method for _, method, _ in panels))
    for ax, (where, method, detail) in zip(axes, panels, strict=True):
        bins, (color, marker) = detail.reliability, style[method]
        total, most = sum(b.count for b in bins), max(b.count for b in bins)
        ax.bar(
            [b.low for b in bins], [100 * b.count / most for b in bins],
            [b.high - b.low for b in bins],
            align="edge", color="0.9", edgecolor="white", zorder=1,
        )  # fmt: skip
        ax.plot((0, 100), (0, 100), color="0.6", lw=0.8, zorder=2)
        ax.plot(
            [b.confidence for b in bins], [b.accuracy for b in bins], color=color, marker=marker,
            ms=4, lw=1.2, zorder=3,
        )  # fmt: skip
        for b in bins:
            ax.annotate(
                f"{b.count:,}", ((b.low + b.high) / 2, 1), fontsize=4.5, color="0.45", rotation=90,
                ha="center", va="bottom", zorder=2,
            )  # fmt: skip
        tests = f", {detail.n_tests} tests" if detail.n_tests > 1 else ""
        few = f", {SMALL_SET}" if total / detail.n_tests < SMALL else ""
        ax.set_title(text(f"{where}: {method}") + f"\n{total:,} images{tests}{few}", fontsize=8)
        ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        ax.set_xlabel("confidence (%)")
        ax.set_ylabel("accuracy (%)")
    return figure


def draw_risk(panels: Sequence[Panel]) -> Figure:
    """Error of the surest images against how many are kept: a panel a data set."""
    places = list(dict.fromkeys(where for where, _, _ in panels))
    style = styles(dict.fromkeys(method for _, method, _ in panels))
    figure, axes = grid(len(places), 3.4)
    for ax, place in zip(axes, places, strict=True):
        for where, method, detail in panels:
            if where == place:
                color, marker = style[method]
                ax.plot(
                    *zip(*detail.risk, strict=True), color=color, marker=marker, ms=3.5, lw=1.2,
                    mec="white", mew=0.4, label=text(method),
                )  # fmt: skip
        ax.set_title(text(place), fontsize=10)
        ax.set_xlim(0, 102)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("images kept, the surest first (%)")
        ax.set_ylabel("errors among them (%)")
        ax.grid(alpha=0.25, lw=0.6)
    _legend(figure, axes, "mean over seeds")
    return figure


def draw_h_ece(table: Table) -> Figure:
    """H of the accuracies against the mean ECE of base and new classes: a panel a section."""
    rows = _points(table)
    places = list(dict.fromkeys(row.section for row, _, _ in rows))[:MOST_PANELS]
    style = styles(dict.fromkeys(row.method for row, _, _ in rows if not row.published))
    figure, axes = grid(len(places), 3.8)
    for ax, place in zip(axes, places, strict=True):
        mine = [point for point in rows if point[0].section == place]
        for row, h, ece in mine:
            color, marker = (GREY, "o") if row.published else style[row.method]
            ax.plot(
                ece, h, ls="", marker=marker, ms=6 if row.published else 8, mec=color,
                mfc="none" if row.published else color, zorder=3 + (not row.published),
                label="_" if row.published else text(row.method),
            )  # fmt: skip
        ax.set_title(text(place), fontsize=10)
        ax.set_xlabel("mean ECE of base and new classes, 10 bins (%)")
        ax.set_ylabel("H of the accuracies (%)")
        ax.grid(alpha=0.25, lw=0.6)
        ax.margins(0.12)
    hollow = any(row.published for row, _, _ in rows)
    _legend(figure, axes, "hollow: published" if hollow else "")
    figure.draw_without_rendering()  # places the panels, and so what fits into them
    for ax, place in list(zip(axes, places, strict=True))[: 2 if len(places) == 2 else 1]:
        mine = [point for point in rows if point[0].section == place]
        names = [(r.method.removesuffix(" (published)"), x, h) for r, h, x in mine if r.published]
        annotate(ax, names, [(x, h) for _, h, x in mine])
    return figure


def _points(table: Table) -> list[tuple[Row, float, float]]:
    """Rows with H and mean ECE, where both halves are known and no data set is missing."""
    wanted = [f"{name} {part}" for name in ("Acc", "ECE") for part in PARTS]
    if not set(wanted) <= set(table.columns):
        return []
    found = []
    for row in table.rows:
        cells = [row.cells[table.columns.index(name)] for name in wanted]
        values = [cell.mean for cell in cells if cell.mean is not None and not cell.partial]
        if len(values) == len(wanted):
            base, new, *eces = values
            found.append((row, harmonic(base, new), sum(eces) / len(eces)))
    measured = {row.section for row, _, _ in found if not row.published}
    return [point for point in found if point[0].section in measured]


def _panels(runs: Sequence[Run]) -> list[Panel]:
    """Each method on each data set and half that it was trained on, seeds together."""
    own = [run for run in runs if run.record and run.source in ("", run.dataset)]
    labels = labels_of(dict.fromkeys(run.method for run in own))
    groups: dict[tuple[str, str], list[Detail]] = {}
    for run in sorted(own, key=lambda r: (r.dataset, r.part, not r.method.is_zeroshot, r.method)):
        part = "" if run.part == "all" else f", {run.part}"
        where = f"{ELEVEN.get(run.dataset, run.dataset)}{part}"
        if run.record:
            groups.setdefault((where, labels[run.method]), []).append(run.record.detail)
    return [(where, method, pooled(details)) for (where, method), details in groups.items()]


def _shown(panels: list[Any], path: Path) -> list[Any]:
    if len(panels) > MOST_PANELS:
        say(f"{path.name} shows {MOST_PANELS} of {len(panels)} panels")
    return panels[:MOST_PANELS]


def _legend(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    known: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=min(len(known), 4) or 1,
        fontsize=8, frameon=False, title=title, title_fontsize=8,
    )  # fmt: skip
