"""A contact sheet: small pictures with what the model says, as one HTML file or one PNG."""

from __future__ import annotations

import base64
import heapq
import html
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..common.characters import printable
from .rows import UNCERTAINTIES, Row

THUMBNAIL = 160  # longest side in pixels
MOST = 600  # pictures on a sheet: some 3 MB of HTML; of more images the least sure ones
KINDS = (".html", ".png")
_COLUMNS, _TEXT, _GAP = 8, 60, 10  # of the PNG: pictures a row; pixels below and between them


@dataclass(order=True)
class _Picture:
    """A row with its thumbnail; the surest comes first, of equals the last one seen."""

    order: tuple[float, int]  # total uncertainty, minus the number of the image
    row: Row = field(compare=False)
    jpeg: bytes = field(compare=False)


class Sheet:
    """Gathers pictures, `most` at most: then those of the largest total uncertainty stay.

    Args:
        title: heading, such as the model's path.
        most: pictures to keep.
    """

    def __init__(self, title: str, most: int = MOST):
        self.title = printable(title)
        self.most = most
        self.counts: Counter[str] = Counter()
        self.n_unsure = self.n_known = self.n_wrong = 0
        self.unreadable: list[str] = []
        self._kept: list[_Picture] = []

    def add(self, rows: Iterable[Row], thumbnails: Iterable[bytes]) -> None:
        """Take rows with their JPEG thumbnails."""
        for row, jpeg in zip(rows, thumbnails, strict=True):
            picture = _Picture((row.uncertainty[0], -self.n_images), row, jpeg)
            self.counts[row.top[0][0]] += 1
            self.n_unsure += bool(row.unsure)
            self.n_known += row.truth is not None
            self.n_wrong += row.wrong
            push = heapq.heappush if len(self._kept) < self.most else heapq.heappushpop
            push(self._kept, picture)

    @property
    def n_images(self) -> int:
        """Images seen so far."""
        return self.counts.total()

    def render(self, kind: str) -> bytes:
        """The file, of a kind in `KINDS`."""
        return self._html().encode() if kind == ".html" else self._png()

    def _sections(self) -> list[tuple[str, list[_Picture]]]:
        """(class, its pictures, the least sure first), the commonest class first."""
        parts: dict[str, list[_Picture]] = {name: [] for name, _ in self.counts.most_common()}
        for picture in sorted(self._kept, reverse=True):
            parts[picture.row.top[0][0]].append(picture)
        return [(name, pictures) for name, pictures in parts.items() if pictures]

    def _summary(self) -> str:
        parts = [f"{self.n_images:,} images, {len(self.counts):,} classes among the answers"]
        if self.n_images > len(self._kept):
            parts.append(f"shown are the {len(self._kept):,} least sure")
        if any(p.row.unsure is not None for p in self._kept):
            parts.append(f"{self.n_unsure:,} unsure")
        if self.n_known:
            share = 100 * self.n_wrong / self.n_known
            parts.append(f"{self.n_wrong:,} wrong ({share:.1f} %), marked with the right class")
        if self.unreadable:
            parts.append(f"{len(self.unreadable):,} unreadable")
        return "; ".join(parts)

    def _html(self) -> str:
        sections = []
        for name, pictures in self._sections():
            figures = "\n".join(figure(p.row, p.jpeg) for p in pictures)
            sections.append(
                f"<section><h2>{escaped(name)} <small>{self.counts[name]:,}</small></h2>"
                f'<div class="grid">{figures}</div></section>'
            )
        listed = "".join(f"<li>{escaped(line)}</li>" for line in self.unreadable[: self.most])
        if listed:
            more = len(self.unreadable) - self.most
            rest = f"<li>and {more:,} more</li>" if more > 0 else ""
            sections.append(f"<section><h2>unreadable</h2><ul>{listed}{rest}</ul></section>")
        return _PAGE.format(
            title=escaped(self.title), summary=escaped(self._summary()), body="\n".join(sections),
            colours=COLOURS, style=PICTURE_STYLE,
        )  # fmt: skip

    def _png(self) -> bytes:
        pictures = [picture for _, part in self._sections() for picture in part]
        step, height = THUMBNAIL + _GAP, THUMBNAIL + _TEXT + _GAP
        columns = min(_COLUMNS, max(4, len(pictures)))
        n_rows = -(-len(pictures) // columns)
        page = Image.new("RGB", (columns * step + _GAP, n_rows * height + 60), "white")
        draw, font, small = ImageDraw.Draw(page), *map(ImageFont.load_default, (13, 11))
        draw.text((_GAP, 8), self.title, "black", ImageFont.load_default(16))
        draw.text((_GAP, 32), self._summary(), "#555555", font)
        for number, picture in enumerate(pictures):
            x, y = _GAP + number % columns * step, 60 + number // columns * height
            with Image.open(io.BytesIO(picture.jpeg)) as jpeg:
                image = ImageOps.contain(jpeg, (THUMBNAIL, THUMBNAIL))  # small ones grow
            left, above = (THUMBNAIL - side for side in image.size)
            page.paste(image, (x + left // 2, y + above // 2))
            (name, p), *_ = picture.row.top
            colour = "#b3541e" if picture.row.unsure else "black"
            draw.text((x, y + THUMBNAIL + 3), _fitting(draw, font, name), colour, font)
            doubt = ", unsure" if picture.row.unsure else ""
            draw.text((x, y + THUMBNAIL + 21), f"{100 * p:.1f} %{doubt}", colour, font)
            file_name = _fitting(draw, small, PurePath(picture.row.path).name)
            draw.text((x, y + THUMBNAIL + 39), file_name, "#555555", small)
        file = io.BytesIO()
        page.save(file, "PNG", optimize=True)
        return file.getvalue()


def _fitting(draw: ImageDraw.ImageDraw, font: Any, text: str) -> str:
    text = printable(text)
    if draw.textlength(text, font) <= THUMBNAIL:
        return text
    while text and draw.textlength(f"{text}...", font) > THUMBNAIL:
        text = text[:-1]
    return f"{text}..."


def figure(row: Row, jpeg: bytes, below: str = "") -> str:
    """A picture with its answer in HTML, to be shown with `PICTURE_STYLE`.

    Args:
        row: what is said of it.
        jpeg: the thumbnail.
        below: more HTML, behind the probabilities.
    """
    numbers = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(UNCERTAINTIES, row.uncertainty, strict=True)
    )
    best = "".join(
        f'<div class="bar"><i style="width:{100 * p:.1f}%"></i>'
        f"<span>{escaped(name)}</span><b>{100 * p:.1f}&nbsp;%</b></div>"
        for name, p in row.top
    )
    badge = '<em class="unsure">unsure</em>' if row.unsure else ""
    if row.wrong:
        badge += f'<em class="wrong">wrong: it is {escaped(row.truth or "")}</em>'
    marks = " ".join(name for name, on in (("doubt", row.unsure), ("wrong", row.wrong)) if on)
    data = base64.b64encode(jpeg).decode()
    return (
        f'<figure class="{marks}" title="uncertainty in nats: {numbers}">'
        f'<img src="data:image/jpeg;base64,{data}" alt="" loading="lazy">'
        f"<figcaption>{badge}{best}{below}<code>{escaped(row.path)}</code></figcaption></figure>"
    )


def escaped(text: str) -> str:
    """Text for HTML, control characters visible."""
    return html.escape(printable(text))


COLOURS = """:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #69707a;
  --line: #d5d9de; --bar: #cfe3f7; --doubt: #9a4a12; --wrong: #c4122f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8eaed; --soft: #9aa1ab;
  --line: #363c44; --bar: #1f4468; --doubt: #f0935a; --wrong: #ff6b7a; } }"""
PICTURE_STYLE = """small, p, code { color: var(--soft); font-weight: normal; }
.grid { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
figure.doubt { border-color: var(--doubt); box-shadow: 0 0 0 1px var(--doubt); }
figure.wrong { border-color: var(--wrong); box-shadow: 0 0 0 2px var(--wrong); }
img { display: block; width: 100%; height: 10.5rem; object-fit: contain; }
figcaption { position: relative; padding: .4rem .5rem; }
.bar { position: relative; display: flex; justify-content: space-between; gap: .5rem;
  font-size: .85rem; padding: 1px 4px; }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 3px; }
.bar span, .bar b { position: relative; overflow-wrap: anywhere; font-weight: normal; }
.bar b { white-space: nowrap; }
.bar:first-of-type b, .bar:first-of-type span { font-weight: 600; }
.unsure, em.wrong { display: block; font-style: normal; font-weight: 600; font-size: .8rem;
  color: var(--doubt); overflow-wrap: anywhere; }
em.wrong { color: var(--wrong); }
code { display: block; font-size: .72rem; overflow-wrap: anywhere; margin-top: .3rem; }
li { overflow-wrap: anywhere; }"""
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{colours}
body {{ margin: 1.2rem auto; max-width: 84rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.3rem; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.05rem; margin: 1.6rem 0 .6rem; border-bottom: 1px solid var(--line); }}
{style}
</style></head><body>
<h1>{title}</h1><p>{summary}</p>
{body}
</body></html>
"""
