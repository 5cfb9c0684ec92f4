"""Which method of the demo has the highest H, in one line."""

from __future__ import annotations

from .runs import Run
from .tables import base2new

ABOUT = {  # of those that need a word
    "VPT embedded_mixture": "It learns one prompt around each of six templates and averages what "
    "they say; docs/mixture.md compares it with its controls.",
    "VPT embedded_mixture_words": "It learns one prompt around each of six templates, which begin "
    "nearer to the words of each class, and averages what they say; docs/mixture.md compares it.",
    "VPT embedded_map": "It is the posterior's mode, one prompt without noise.",
}


def highest(runs: list[Run]) -> str:
    """The method of the highest H and what it is; on average, if there are several data sets."""
    rows = base2new(runs, (), {}).rows
    found = [(row.cells[2], row.method) for row in rows if row.section == rows[0].section]
    known = [(cell, name) for cell, name in found if cell.mean is not None and not cell.partial]
    if not known:
        return ""
    best, name = max(known, key=lambda pair: pair[0].mean or 0.0)
    spread = f" ±{best.half_width()}" if best.half is not None else ""
    return f"Highest H: {name}, {best.number()}{spread}. {ABOUT.get(name, '')}".rstrip()
