"""Accuracy by class and confusion matrices of the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..detail import Detail
from .html import Value, percent, sortable, text

_SIDE = 300  # pixels of a matrix
_LEVELS = 5  # of its shades
_HOVER = 40  # classes, up to which a field says what it is
_NUMBERS = 12  # classes, up to which it shows its share
_SHOWN = 10  # most frequent confusions


def by_class(details: Mapping[str, Detail]) -> str:
    """A sortable table: a class a row, a method a column, and the number of test images."""
    names = {
        label: figures.name
        for detail in details.values()
        for label, figures in detail.classes.items()
    }
    rows: list[list[Value]] = []
    for label in sorted(names):
        known = [(detail, detail.classes.get(label)) for detail in details.values()]
        images = max(figures.total // detail.n_tests for detail, figures in known if figures)
        row = [text(names[label]), (str(images), images)]
        row += [percent(figures.accuracy(label)) if figures else text("-") for _, figures in known]
        rows.append(row)
    return sortable(["Class", "Images", *details], rows)


def confusions(details: Mapping[str, Detail]) -> str:
    """A matrix for each method, and its most frequent confusions in words."""
    parts = []
    for method, detail in details.items():
        if detail.classes:
            parts.append(
                f"<figure><figcaption>{escape(method)}</figcaption>{matrix(detail)}"
                f"{_in_words(detail)}</figure>"
            )
    return f'<div class="panels">{"".join(parts)}</div>'


def matrix(detail: Detail) -> str:
    """Rows are true classes, columns predicted ones; the darker, the larger the share of a row."""
    labels = sorted(set(detail.classes) | {o for f in detail.classes.values() for o in f.predicted})
    place = {label: i for i, label in enumerate(labels)}
    n = len(labels)
    fields: list[str] = []
    paths: dict[str, list[str]] = {}
    for label, figures in detail.classes.items():
        for other, count in sorted(figures.predicted.items()):
            share = count / figures.total
            kind = f"{'right' if other == label else 'wrong'} l{_level(share)}"
            x, y = place[other], place[label]
            if n > _HOVER:
                paths.setdefault(kind, []).append(f"M{x} {y}h1v1h-1z")
                continue
            wrong = detail.classes[other].name if other in detail.classes else f"class {other}"
            words = f"{figures.name} taken for {wrong}: {count} of {figures.total}"
            fields.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="1" height="1">'
                f"<title>{escape(words)}</title></rect>"
            )
            if n <= _NUMBERS:
                fields.append(
                    f'<text class="share l{_level(share)}" x="{x + 0.5}" y="{y + 0.63}" '
                    f'font-size="0.36" text-anchor="middle">{100 * share:.0f}</text>'
                )
    fields += [f'<path class="{kind}" d="{"".join(d)}"/>' for kind, d in paths.items()]
    return (
        f'<svg class="matrix" role="img" viewBox="0 0 {n} {n}" width="{_SIDE}" height="{_SIDE}" '
        f'aria-label="confusion matrix of {n} classes">{"".join(fields)}</svg>'
    )


def _level(share: float) -> int:
    return min(_LEVELS, 1 + int(share * _LEVELS))


def _in_words(detail: Detail) -> str:
    found = detail.confusions()
    if not found:
        return "<p>Nothing was confused.</p>"
    items = []
    for label, other, count in found[:_SHOWN]:
        figures = detail.classes[label]
        wrong = detail.classes[other].name if other in detail.classes else f"class {other}"
        items.append(
            f"<li>{escape(figures.name)} &rarr; {escape(wrong)} "
            f"<small>{count} of {figures.total}</small></li>"
        )
    rest = len(found) - _SHOWN
    more = f"<small>and {rest} more pairs</small>" if rest > 0 else ""
    return f"<ol>{''.join(items)}</ol>{more}"
