"""Where things stand in a figure, so that each can be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

GREY = "0.5"
_CLOSE = 4.0  # points: half a marker
_APART = 11.0
_TURN = 0.4  # so that no two bars of a group lie on one line
Box = Sequence[float] | np.ndarray  # left, bottom, right, top
Spot = tuple[Sequence["Artist"], float, float]  # what is drawn at x, y


def spread(ax: Axes, spots: list[Spot]) -> int:
    """Move apart what is drawn at (nearly) the same place; returns how many were moved.

    They then stand in a circle around their middle. The figure must have its layout.
    """
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure()
    if figure is None or not spots:
        return 0
    scale = 72 / figure.dpi
    places = [np.asarray(ax.transData.transform((x, y))) * scale for _, x, y in spots]
    moved = 0
    for group in _groups(places):
        middle = np.mean([places[i] for i in group], 0)
        radius = _APART / 2 / math.sin(math.pi / len(group)) if len(group) > 1 else 0.0
        for k, i in enumerate(group if radius else ()):
            angle = _TURN + 2 * math.pi * k / len(group)
            target = middle + radius * np.array([math.cos(angle), math.sin(angle)])
            dx, dy = (target - places[i]) / 72
            for artist in spots[i][0]:
                shift = ScaledTranslation(dx, dy, figure.dpi_scale_trans)
                artist.set_transform(ax.transData + shift)
            moved += 1
    return moved


def _groups(places: list[np.ndarray]) -> list[list[int]]:
    """Indices of the places that are close to the first of their group."""
    groups: list[list[int]] = []
    for i, place in enumerate(places):
        near = (g for g in groups if np.abs(places[g[0]] - place).max() < _CLOSE)
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups


def equal_h(ax: Axes) -> None:
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
        if not lies_in(label.get_window_extent().extents, ax.bbox.extents):
            label.remove()


def annotate(
    ax: Axes, texts: list[tuple[str, float, float]], points: list[tuple[float, float]]
) -> None:
    """Name points, each at the first place around it where nothing else stands, if there is one."""
    frame = ax.bbox.extents
    taken = [np.r_[ax.transData.transform(p) - 5, ax.transData.transform(p) + 5] for p in points]
    for text, x, y in texts:
        for radius, (dx, dy) in product((7, 14, 22, 32, 44), _AROUND):
            far = {"arrowstyle": "-", "color": "0.75", "lw": 0.6} if radius > 7 else None
            note = ax.annotate(
                text, (x, y), (dx * radius, dy * radius), textcoords="offset points", fontsize=8,
                color=GREY, zorder=5, ha=("right", "center", "left")[dx + 1], va="center",
                arrowprops=far,
            )  # fmt: skip
            box = note.get_window_extent().extents
            if lies_in(box, frame) and not any(overlap(box, other) for other in taken):
                taken.append(box)
                break
            note.remove()


_AROUND = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))


def lies_in(a: Box, b: Box) -> bool:
    """Whether box `a` lies in box `b` (left, bottom, right, top)."""
    return bool(b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3])


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes (left, bottom, right, top) share a point."""
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
