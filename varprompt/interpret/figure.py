"""A picture of `ClassTexts`: two heat maps of cosines, the nearest wrong classes marked."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.characters import printable
from ..common.files import write_atomic
from .texts import ClassTexts, neighbours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 40  # classes shown: of more, those that are nearest to a wrong one
_LONGEST = 24  # characters of a name


def write_figure(
    texts: ClassTexts, classnames: Sequence[str], title: str, path: str | os.PathLike
) -> int:
    """Draw as PNG; returns how many classes are shown, `MOST` at most.

    Both maps have one scale, so that they can be compared; what a class has with itself is blank.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib.figure import Figure

    shown = _shown(texts)
    maps = [texts.before[shown][:, shown].cpu(), texts.after[shown][:, shown].cpu()]
    names = [_text(classnames[i]) for i in shown]
    apart = ~np.eye(len(shown), dtype=bool)
    values = np.concatenate([m.numpy()[apart] for m in maps]) if len(shown) > 1 else [0.0]
    limits = float(np.min(values)), float(np.max(values))
    side = max(3.6, 2.2 + 0.24 * len(shown))  # heads of few classes are wider than their maps
    figure = Figure(figsize=(2 * side + 2.4, side + 1.6), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    first, more = texts.templates[0].format("class"), len(texts.templates) - 1
    heads = f'before: "{first}"' + f" and {more} more" * bool(more), "after: mean of the samples"
    for ax, cosines, head in zip(axes, maps, heads, strict=True):
        image = _draw(ax, cosines, names, limits)
        nearest = float(np.mean([n.cosine for n in neighbours(cosines)] or [0.0]))
        ax.set_title(f"{head}\nmean cosine to the nearest wrong class {nearest:.3f}", fontsize=10)
    axes[1].set_yticklabels([])
    figure.colorbar(image, ax=axes, label="cosine between class texts", shrink=0.8)
    left_out = len(classnames) - len(shown)
    few = f" ({len(shown)} of {len(classnames)} classes, the nearest ones)" if left_out else ""
    figure.suptitle(_text(title, 90) + few, fontsize=11)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters no font has
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")  # long names
    write_atomic(path, lambda target: target.write(file.getvalue()))
    return len(shown)


def _shown(texts: ClassTexts) -> list[int]:
    """Indices of the classes to draw, in the order of the labels."""
    found = neighbours(texts.after)
    if len(found) <= MOST:
        return list(range(len(texts.after)))
    return sorted(sorted(range(len(found)), key=lambda i: -found[i].cosine)[:MOST])


def _draw(ax: Axes, cosines: Any, names: list[str], limits: tuple[float, float]) -> Any:
    blank = cosines.numpy().copy()
    np.fill_diagonal(blank, np.nan)
    image = ax.imshow(blank, cmap="viridis", vmin=limits[0], vmax=limits[1])
    for row, nearest in enumerate(neighbours(cosines)):
        ax.plot(nearest.index, row, "o", mfc="none", mec="#D55E00", ms=6, mew=1.4)
    places = range(len(names))
    ax.set_xticks(places, names, rotation=90, fontsize=7)
    ax.set_yticks(places, names, fontsize=7)
    ax.set_xlabel("circle: the nearest wrong class of the row", fontsize=8)
    return image


def _text(name: str, longest: int = _LONGEST) -> str:
    r"""A name that matplotlib draws as it is: ``$`` would begin a formula."""
    name = printable(name).replace("$", r"\$")
    return name if len(name) <= longest else f"{name[: longest - 3]}..."
