"""Cells of the tables: means over seeds and data sets that say what they lack."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from .stats import harmonic, mean_interval

Series = Mapping[int | None, float]  # seed -> value in %; the seed of a zero-shot run is None


@dataclass(frozen=True)
class Cell:
    """A mean in %, half its 95 % interval, the number of seeds, and what is incomplete.

    `partial`: an average that lacks data sets, not to be compared with a whole one; `digits`:
    decimals that are shown.
    """

    mean: float | None = None
    half: float | None = None
    seeds: int = 0
    note: str = ""
    partial: bool = False
    digits: int = 2

    def number(self) -> str:
        """The mean as it is shown; empty without one."""
        return "" if self.mean is None else f"{self.mean:.{self.digits}f}"

    def half_width(self) -> str:
        """Half the interval as it is shown; empty without one."""
        return "" if self.half is None else f"{self.half:.{self.digits}f}"


MISSING = Cell(note="missing")
NOT_KNOWN = Cell(note="-")


def summary(series: Series, seeds: Collection[int]) -> Cell:
    """Mean over seeds; the note says when some of the expected `seeds` are missing."""
    if not series:
        return MISSING
    mean, half = mean_interval(list(series.values()))
    lacking = not _complete(series, seeds)
    note = f"{len(series)} of {len(seeds)} seeds" if lacking else ""
    return Cell(mean, half, len(series), note)


def noted(cell: Cell, note: str) -> Cell:
    """`cell` with one more note."""
    return replace(cell, note=", ".join(filter(None, (cell.note, note))))


def average(by_set: Mapping[str, Series], seeds: Collection[int]) -> Cell:
    """Mean over data sets of the means over seeds; the interval is over seeds.

    Data sets without a value are left out, and the note says so.
    """
    if len(by_set) == 1:
        return summary(next(iter(by_set.values())), seeds)
    there = [series for series in by_set.values() if series]
    if not there:
        return MISSING
    means = [mean_interval(list(series.values()))[0] for series in there]
    complete = all(_complete(series, seeds) for series in there)
    partial = len(there) < len(by_set)
    notes = [f"{len(there)} of {len(by_set)} sets"] * partial
    notes += ["seeds missing"] * (not complete)
    by_seed = _by_seed(there, set.intersection(*(set(series) for series in there)))
    half = mean_interval(by_seed)[1] if complete and by_seed else None
    return Cell(sum(means) / len(means), half, len(by_seed), ", ".join(notes), partial)


def harmonic_cell(
    base: Mapping[str, Series], new: Mapping[str, Series], base_cell: Cell, new_cell: Cell
) -> Cell:
    """H of two cells over the same data sets, with the interval of H by seed."""
    if base_cell.mean is None or new_cell.mean is None:
        return MISSING
    if any(bool(base[name]) != bool(new[name]) for name in base):
        return Cell(note="base and new differ in sets")
    halves = [[s for s in series.values() if s] for series in (base, new)]
    common = set.intersection(*(set(s) for half in halves for s in half))
    by_seed = [harmonic(*pair) for pair in zip(*(_by_seed(h, common) for h in halves), strict=True)]
    sure = base_cell.half is not None and new_cell.half is not None and len(by_seed) > 1
    half = mean_interval(by_seed)[1] if sure else None
    note = base_cell.note or new_cell.note
    mean = harmonic(base_cell.mean, new_cell.mean)
    return Cell(mean, half, len(by_seed), note, base_cell.partial)


def _complete(series: Series, seeds: Collection[int]) -> bool:
    return None in series or set(series) >= set(seeds)


def _by_seed(sets: list[Series], seeds: Collection[int | None]) -> list[float]:
    """The mean over data sets for each seed."""
    return [sum(s[seed] for s in sets) / len(sets) for seed in sorted(seeds, key=str)]
