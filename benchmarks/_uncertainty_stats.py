"""Means, paired differences and their intervals of what benchmarks/uncertainty.py measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks._embedded_runs import METHODS, SETS, SLOW
from varprompt.report.stats import harmonic, mean_interval

Row = dict[str, float | int | str]
Variant = tuple[str, str]  # method, calibrator
Cell = tuple[str, int]  # data set, seed
SEEDS_ENOUGH = 5  # to be the unit of a test


@dataclass(frozen=True)
class Difference:
    """Of two variants in one figure: means, half the 95 % t-intervals, p-values.

    `over_seeds`: the unit is a seed, its difference the mean over all sets; it tells what other
    shots, orders and noise would give on these sets. `over_sets`: the unit is a set, its difference
    the mean over seeds; it tells what other sets of this kind would give. `p` and `holm` (adjusted
    for the whole family) are over seeds if there are `SEEDS_ENOUGH`, else over sets. None where
    there is only one unit.
    """

    mean: float
    over_seeds: float | None
    over_sets: float | None
    p: float | None
    holm: float | None = None
    n_sets_up: int = 0


class Table:
    """The runs of all seeds that are complete for all methods and all sets that were begun.

    If there is no such seed, the slowest method is left out, if need be the next one, and at last
    the sets that are not complete for any seed.

    Attributes:
        seeds: that are in the table, ascending.
        methods: likewise.
        sets: likewise.
        left_out: runs that are not.
    """

    def __init__(self, rows: Iterable[Row]):
        self._rows = {(r["dataset"], r["seed"], r["method"]): r for r in rows}
        begun = [name for name in SETS if any(name == found for found, _, _ in self._rows)]
        self.sets, self.methods = begun, list(METHODS)
        self.seeds = self._complete(begun)
        for method in reversed(SLOW):
            if not self.seeds:
                self.methods.remove(method)
                self.seeds = self._complete(begun)
        if not self.seeds:
            self.sets = [name for name in begun if self._complete([name])]
            self.seeds = self._complete(self.sets) if self.sets else []
        self.left_out = sum(
            name not in self.sets or seed not in self.seeds or method not in self.methods
            for name, seed, method in self._rows
        )

    @property
    def n_runs(self) -> int:
        """Of each method."""
        return len(self.sets) * len(self.seeds)

    def _complete(self, sets: Sequence[str]) -> list[int]:
        found = sorted({seed for _, seed, _ in self._rows})
        wanted = [(name, method) for name in sets for method in self.methods]
        return [s for s in found if all((name, s, method) in self._rows for name, method in wanted)]

    def values(self, variant: Variant, figure: str) -> dict[Cell, float]:
        """A figure "PART/KEY" of a variant in every run that has it; "H" is made of accuracies."""
        method, calibrator = variant
        found = {}
        for name in self.sets:
            for seed in self.seeds:
                row = self._rows[name, seed, method]
                value = _figure(row, calibrator, figure)
                if value is not None:
                    found[name, seed] = value
        return found

    def mean(self, variant: Variant, figure: str) -> float | None:
        """Over all sets and seeds; None if a run does not have it."""
        values = self.values(variant, figure)
        complete = len(values) == self.n_runs
        return statistics.fmean(values.values()) if complete else None

    def keys(self) -> list[str]:
        """All figures "PART/KEY"."""
        names = {name for row in self._rows.values() for name in row if name.count("/") == 2}
        return sorted({f"{part}/{key}" for part, _, key in (n.split("/") for n in names)})

    def difference(self, one: Variant, other: Variant, figure: str) -> Difference | None:
        """`one` minus `other`, paired by set and seed; None if runs do not have the figure."""
        first, second = self.values(one, figure), self.values(other, figure)
        if not len(first) == len(second) == self.n_runs:
            return None
        delta = {cell: first[cell] - second[cell] for cell in first}
        by_seed = [statistics.fmean(delta[name, seed] for name in self.sets) for seed in self.seeds]
        by_set = [statistics.fmean(delta[name, seed] for seed in self.seeds) for name in self.sets]
        mean, over_seeds = mean_interval(by_seed)
        return Difference(
            mean, over_seeds, mean_interval(by_set)[1],
            p_value(by_seed if len(self.seeds) >= SEEDS_ENOUGH else by_set),
            n_sets_up=sum(value > 0 for value in by_set),
        )  # fmt: skip


def _figure(row: Row, calibrator: str, figure: str) -> float | None:
    if figure == "H":
        parts = [row[f"{part}/{calibrator}/accuracy"] for part in ("base", "new")]
        return harmonic(*map(float, parts))
    part, key = figure.split("/")
    if "mutual_information" in key and row.get("base/none/n_samples") == 1:
        return None  # of one sample there is none
    value = row.get(f"{part}/{calibrator}/{key}")
    return None if value is None else float(value)


def p_value(values: Sequence[float]) -> float | None:
    """Two-sided, of a t-test against 0; None for one value, 1 if all are 0."""
    if len(values) < 2:
        return None
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy.special import stdtr

    t = abs(mean) / spread * math.sqrt(len(values))
    return 2 * float(stdtr(len(values) - 1, -t))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (Holm 1979): each is at most the chance of any false one in the family."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, index) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        adjusted[index] = least
    return adjusted


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two orders: 1 the same, 0 unrelated, -1 reversed."""
    from scipy.stats import kendalltau

    return float(kendalltau(one, other).statistic)
