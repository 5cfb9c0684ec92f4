"""Tables and figure of what benchmarks/mixture.py measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._mixture_added import ADDED_TITLES
from benchmarks._mixture_methods import EACH, TITLES
from benchmarks._uncertainty_report import markdown, number
from benchmarks._uncertainty_stats import holm, p_value
from varprompt.common.console import out
from varprompt.report.canvas import COLORS, grid, save
from varprompt.report.stats import harmonic, mean_interval

Cell = tuple[str, int]  # data set, seed
COLUMNS = (  # key, title, digits
    ("base/accuracy", "base", 2), ("new/accuracy", "new", 2), ("H", "H", 2),
    ("all/H", "H, one label space", 2), ("base/best/nll", "NLL base, best T", 3),
    ("new/best/nll", "NLL new, best T", 3), ("base/ece", "ECE base", 1), ("new/ece", "ECE new", 1),
    ("new/t/ece", "ECE new, fitted T", 1), ("base/aurc", "AURC base", 2),
    ("new/aurc", "AURC new", 2),
)  # fmt: skip
COMPARED = ("H", "new/accuracy", "all/H", "new/best/nll", "new/ece", "new/aurc")
HINDSIGHT = "best_single"
AGAINST = {  # what added methods have to beat
    "mixture": "mixture", "coops_templates": "six CoOps", "coops_class": "six moved CoOps",
    "coops_image": "six CoOps of images", "coops_class_image": "six moved CoOps of images",
}  # fmt: skip
ADDED_COLUMNS = tuple(c for c in COLUMNS if c[0] in (
    "base/accuracy", "new/accuracy", "H", "all/H", "new/best/nll", "new/ece", "new/aurc",
))  # fmt: skip


class Runs:
    """The methods' figures in the seeds that are complete, at one number of shots.

    Attributes:
        sets: data sets, all that were begun.
        seeds: those that have every set and method.
        methods: those that every set of the first seed has.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], shots: int):
        mine = [row for row in rows if row["shots"] == shots]
        self._rows = {(r["dataset"], r["seed"], r["method"]): r for r in mine}
        self.sets = sorted({name for name, _, _ in self._rows})
        seeds = sorted({seed for _, seed, _ in self._rows})
        known = [*TITLES, *ADDED_TITLES, *EACH]
        self.methods = [m for m in known if all((d, seeds[0], m) in self._rows for d in self.sets)]
        self.seeds = [
            s for s in seeds
            if all((d, s, m) in self._rows for d in self.sets for m in self.methods)
        ]  # fmt: skip

    def values(self, method: str, key: str) -> dict[Cell, float]:
        """A figure in every cell; "H" and "all/H" are made of accuracies."""
        method = self.best_single() if method == HINDSIGHT else method
        cells = [(d, s) for d in self.sets for s in self.seeds]
        return {(d, s): _figure(self._rows[d, s, method], key) for d, s in cells}

    def mean(self, method: str, key: str) -> float:
        """Over sets and seeds."""
        return statistics.fmean(self.values(method, key).values())

    def best_single(self) -> str:
        """The template whose MAP has the best mean H, in hindsight."""
        return max(EACH, key=lambda m: self.mean(m, "H"))

    def differences(self, one: str, other: str, key: str) -> tuple[list[float], list[float]]:
        """`one` minus `other`: means over sets of each seed, means over seeds of each set."""
        first, second = self.values(one, key), self.values(other, key)
        delta = {cell: first[cell] - second[cell] for cell in first}
        return (
            [statistics.fmean(delta[d, s] for d in self.sets) for s in self.seeds],
            [statistics.fmean(delta[d, s] for s in self.seeds) for d in self.sets],
        )


def _figure(row: dict[str, Any], key: str) -> float:
    if key == "H":
        return harmonic(row["base/accuracy"], row["new/accuracy"])
    if key == "all/H":
        return harmonic(row["all/base"], row["all/new"])
    return float(row[key])


def means(runs: Runs) -> str:
    """Every method's means."""
    names = {**TITLES, HINDSIGHT: f"best single template in hindsight ({runs.best_single()})"}
    cost = {m: max(r["rows"] for k, r in runs._rows.items() if k[2] == m) for m in runs.methods}
    lines = []
    for method, title in names.items():
        if method not in {*runs.methods, HINDSIGHT}:
            continue
        found = [number(runs.mean(method, key), digits) for key, _, digits in COLUMNS]
        lines.append([title, *found, str(cost.get(method, cost["map"]))])
    return markdown(["method", *(title for _, title, _ in COLUMNS), "gradients"], lines)


def differences(runs: Runs, one: str, key: str) -> str:
    """`one` minus every other method, with intervals over seeds and sets; Holm over the table."""
    others = [m for m in (*TITLES, HINDSIGHT) if m in {*runs.methods, HINDSIGHT} and m != one]
    rows, p_values = [], []
    for other in others:
        by_seed, by_set = runs.differences(one, other, key)
        p_values.append(p_value(by_seed))
        mean, half = mean_interval(by_seed)
        up = sum(x > 0 for x in by_set)
        rows.append([
            TITLES.get(other, "best single template in hindsight"), number(mean, 3, "+"),
            "-" if half is None else number(half, 3),
            "-" if (over := mean_interval(by_set)[1]) is None else number(over, 3),
            f"{up}/{len(by_set)}",
        ])  # fmt: skip
    for row, p in zip(rows, holm(p_values), strict=True):
        row.append("-" if p is None else f"{p:.2g}")
    head = ["minus", "mean", "± over seeds", "± over sets", "sets with more", "Holm p"]
    return markdown(head, rows)


def _runs_of(rows: Sequence[dict[str, Any]], shots: int, *methods: str) -> Runs | None:
    """In the seeds that have all of these methods in every set; None if there are none."""
    runs = Runs((row for row in rows if row["method"] in methods), shots)
    return runs if runs.seeds and set(methods) <= set(runs.methods) else None


def added(rows: Sequence[dict[str, Any]], shots: int) -> str:
    """The methods that were added later, each in the seeds that it has; "" if there are none."""
    lines, p_values = [], {other: [] for other in AGAINST}
    for method in ADDED_TITLES:
        runs = _runs_of(rows, shots, method)
        if runs is None:
            continue
        line = [ADDED_TITLES[method], str(len(runs.seeds))]
        line += [number(runs.mean(method, key), digits) for key, _, digits in ADDED_COLUMNS]
        for other in AGAINST:
            pair = None if other == method else _runs_of(rows, shots, method, other)
            if pair is None:
                line.append("-")
                p_values[other].append(None)
                continue
            by_seed, by_set = pair.differences(method, other, "H")
            mean, half = mean_interval(by_seed)
            spread = "" if half is None else f" ± {half:.2f}"
            line.append(f"{mean:+.2f}{spread}, {sum(x > 0 for x in by_set)}/{len(by_set)}")
            p_values[other].append(p_value(by_seed))
        lines.append(line)
    if not lines:
        return ""
    adjusted = zip(*(holm(p_values[other]) for other in AGAINST), strict=True)
    for line, own in zip(lines, adjusted, strict=True):
        line += ["-" if p is None else f"{p:.2g}" for p in own]
    minus = [f"H minus {title}, sets with more" for title in AGAINST.values()]
    return markdown(
        ["method", "seeds", *(title for _, title, _ in ADDED_COLUMNS), *minus,
         *(f"Holm p, {title}" for title in AGAINST.values())], lines,
    )  # fmt: skip


def report(rows: Sequence[dict[str, Any]], figure: Path) -> None:
    """Print the tables of every number of shots as Markdown; draw the figure.

    What was added to the protocol has a table of its own, with p-values adjusted within it, so that
    the table of the protocol is what it would be without.
    """
    kinds = sorted({row["shots"] for row in rows}, reverse=True)
    own = [row for row in rows if row["method"] not in ADDED_TITLES]
    done = {shots: Runs(own, shots) for shots in kinds}
    for shots, runs in done.items():
        if not runs.seeds:
            continue
        out(f"## {shots} shots: {len(runs.sets)} sets x {len(runs.seeds)} seeds\n\n{means(runs)}")
        for key in COMPARED:
            out(f"\n### mixture, in {key}\n\n{differences(runs, 'mixture', key)}\n")
        if found := added(rows, shots):
            out(f"\n### added later\n\n{found}\n")
    draw(done, figure)


def draw(done: dict[int, Runs], path: Path) -> None:
    """H of every method minus that of the MAP estimate, with intervals over seeds, most shots."""
    runs = next((r for r in done.values() if len(r.seeds) > 1), None)
    if runs is None:
        return
    names = [m for m in TITLES if m in runs.methods and m != "map"]
    found = [mean_interval(runs.differences(m, "map", "H")[0]) for m in names]

    def figure() -> Any:
        made, (axes,) = grid(1, 0.34 * len(names) + 0.8)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.errorbar(
            [mean for mean, _ in found], range(len(names)), xerr=[half for _, half in found],
            fmt="o", markersize=4, linewidth=1, color=COLORS[0],
        )  # fmt: skip
        axes.set_yticks(range(len(names)), [TITLES[m] for m in names])
        axes.invert_yaxis()
        axes.set_xlabel("H minus that of MAP with one template; 95 % over seeds")
        return made

    save(figure, path)
