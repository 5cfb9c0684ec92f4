"""What all figures are drawn on, without a display: panels, colours, names, files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
MARKERS = "osD^vPXh"
MOST_PANELS = 48
_LONGEST = 80  # characters of a name
Style = dict[str, tuple[str, str]]  # method -> colour and marker


def styles(names: Iterable[str]) -> Style:
    """A colour and a marker for each of the methods, in their order."""
    return {
        name: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)
    }


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and write it as PNG.

    Raises:
        OSError: it cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters no font has
        draw().savefig(path, dpi=200, bbox_inches="tight")


def text(name: str) -> str:
    """A name for matplotlib, which takes $ for formulas and hides what begins with _."""
    name = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
    return (" " * name.startswith("_") + name).replace("$", r"\$")


def grid(n: int, size: float) -> tuple[Figure, list[Axes]]:
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
