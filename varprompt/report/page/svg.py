"""Pictures for the page: axes and marks as SVG, whose colours follow the page's.

Texts, lines and marks have classes of ``page.css``; series are numbered, ``s0``, ``s1`` ...
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

N_COLORS = 8  # of series, in page.css
_SHAPES = ("circle", "square", "diamond", "triangle")
_STEPS = (1, 2, 2.5, 5, 10)


class Axes:
    """A frame with two linear axes; what is drawn is collected in `parts`.

    Args:
        x: lower and upper limit.
        y: the same.
        labels: of both axes.
        size: width and height in pixels, with the labels.
        names: what stands at places of the x axis, instead of numbers.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        size: tuple[int, int] = (340, 300),
        names: Mapping[float, str] | None = None,
    ):
        self.limits = (x, y)
        self.size = size
        self.left, self.right, self.top, self.bottom = 46, size[0] - 10, 10, size[1] - 40
        self.parts: list[str] = []
        self._frame(labels, names or {value: f"{value:g}" for value in ticks(*x)})

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        (x0, x1), (y0, y1) = self.limits
        return (
            self.left + (x - x0) / (x1 - x0) * (self.right - self.left),
            self.bottom - (y - y0) / (y1 - y0) * (self.bottom - self.top),
        )

    def line(self, points: Iterable[tuple[float, float]], name: str) -> None:
        """Points in order, joined; `name` is a class of the page's style."""
        pixels = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*point) for point in points))
        self.parts.append(f'<polyline class="{name}" points="{pixels}"/>')

    def bar(self, start: tuple[float, float], end: tuple[float, float], series: int) -> None:
        """An interval; what reaches beyond the frame is cut."""
        (x0, x1), (y0, y1) = self.limits
        ends = [(min(max(x, x0), x1), min(max(y, y0), y1)) for x, y in (start, end)]
        self.line(ends, f"bar {color(series)}")

    def box(self, low: tuple[float, float], high: tuple[float, float], name: str) -> None:
        """A filled rectangle between two corners."""
        (x0, y0), (x1, y1) = self.at(*low), self.at(*high)
        self.parts.append(
            f'<rect class="{name}" x="{x0:.1f}" y="{y1:.1f}" width="{x1 - x0:.1f}" '
            f'height="{y0 - y1:.1f}"/>'
        )

    def mark(
        self, x: float, y: float, series: int, words: str = "", hollow: bool = False,
        radius: float = 5,
    ) -> None:  # fmt: skip
        """A point; `words` are shown while the mouse is over it."""
        a, b = self.at(x, y)
        kind = "hollow" if hollow else color(series)
        self.parts.append(shape(a, b, series, kind, words, radius))

    def text(self, x: float, y: float, words: str, name: str = "small") -> None:
        """Words that end at a point."""
        a, b = self.at(x, y)
        self.parts.append(
            f'<text class="{name}" x="{a - 3:.1f}" y="{b - 3:.1f}" text-anchor="end">'
            f"{escape(words)}</text>"
        )

    def svg(self, title: str) -> str:
        """The whole picture; `title` is for those who do not see it."""
        width, height = self.size
        return (
            f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'aria-label="{escape(title)}">{"".join(self.parts)}</svg>'
        )

    def _frame(self, labels: tuple[str, str], names: Mapping[float, str]) -> None:
        x0, (y0, y1) = self.limits[0][0], self.limits[1]
        for value, name in names.items():
            a, _ = self.at(value, y0)
            self._grid(a, self.top, a, self.bottom)
            self._label(a, self.bottom + 14, name, "middle")
        for value in ticks(y0, y1):
            _, b = self.at(x0, value)
            self._grid(self.left, b, self.right, b)
            self._label(self.left - 5, b + 4, f"{value:g}", "end")
        self._label((self.left + self.right) / 2, self.size[1] - 8, labels[0], "middle")
        middle = (self.top + self.bottom) / 2
        self.parts.append(
            f'<text class="small" transform="translate(12 {middle:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(labels[1])}</text>'
        )

    def _grid(self, a: float, b: float, c: float, d: float) -> None:
        self.parts.append(f'<path class="grid" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>')

    def _label(self, a: float, b: float, words: str, anchor: str) -> None:
        self.parts.append(
            f'<text class="small" x="{a:.1f}" y="{b:.1f}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )


def shape(
    a: float, b: float, series: int, kind: str, words: str = "", radius: float = 5
) -> str:  # fmt: skip
    """A mark at a pixel, of the form that belongs to `series`."""
    turn = series + series // N_COLORS  # two series of one colour have two forms
    form = _SHAPES[turn % len(_SHAPES)] if kind != "hollow" else "circle"
    title = f"<title>{escape(words)}</title>" if words else ""
    r = radius
    if form == "circle":
        body = f'circle cx="{a:.1f}" cy="{b:.1f}" r="{r:g}"'
    else:
        corners = {
            "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
            "diamond": ((0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)),
            "triangle": ((0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)),
        }[form]
        points = " ".join(f"{a + x:.1f},{b + y:.1f}" for x, y in corners)
        body = f'polygon points="{points}"'
    tag, _, rest = body.partition(" ")
    return f'<{tag} class="mark {kind}" {rest}>{title}</{tag}>'


def color(series: int) -> str:
    """The class of a series' colour."""
    return f"s{series % N_COLORS}"


def key(names: Mapping[str, int], hollow: str = "") -> str:
    """The names of series behind their marks; `hollow` is what hollow marks are.

    Args:
        names: of series, with their numbers.
        hollow: empty if there are no hollow marks.
    """
    entries = [(shape(7, 7, i, color(i)), name) for name, i in names.items()]
    if hollow:
        entries.append((shape(7, 7, 0, "hollow"), hollow))
    items = "".join(
        f'<li><svg width="14" height="14" aria-hidden="true">{mark}</svg>{escape(name)}</li>'
        for mark, name in entries
    )
    return f'<ul class="key">{items}</ul>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them."""
    rough = (high - low) / (most - 1)
    scale = 10 ** math.floor(math.log10(rough))
    step = next(s * scale for s in _STEPS if s * scale >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
