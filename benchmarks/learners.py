"""Five prompt learners without and with a posterior, paired: what `varprompt demo --learners` ran.

    bash scripts/demo.sh --learners --seeds 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 --output FOLDER
    python benchmarks/learners.py FOLDER --output benchmarks/results/learners_cpu.json

Prints the means of all, and what the posterior adds to each base in accuracy of new classes, H and
expected calibration error, paired by data set and seed. Seeds that some learner lacks are left out
of all of them, and named.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._uncertainty_report import markdown, number  # noqa: E402
from benchmarks._uncertainty_stats import holm, p_value  # noqa: E402
from varprompt.common.console import out, say  # noqa: E402
from varprompt.report.runs import Run, find_runs  # noqa: E402
from varprompt.report.stats import harmonic, mean_interval  # noqa: E402

BASES = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC")
LEARNERS = [name for base in BASES for name in (base, f"VPT_{base}")]
NAMED = {"VPT": "VPT_CoOp"}  # the trainer's own name -> its name here
FIGURES = {"base": "base", "new": "new", "H": "H", "ece_new": "ECE new"}
Row = dict[str, Any]  # learner, dataset, seed and the figures, in %


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """One row for each learner, data set and seed that has base and new classes."""
    parts: dict[tuple[str, str, int], dict[str, dict[str, float]]] = {}
    for run in runs:
        name = NAMED.get(run.method.trainer, run.method.trainer)
        if name in LEARNERS and run.seed is not None:
            parts.setdefault((name, run.dataset, run.seed), {})[run.part] = run.metrics
    return [
        {
            "learner": name, "dataset": dataset, "seed": seed,
            "base": found["base"]["accuracy"], "new": found["new"]["accuracy"],
            "H": harmonic(found["base"]["accuracy"], found["new"]["accuracy"]),
            "ece_new": found["new"]["ece"],
        }
        for (name, dataset, seed), found in sorted(parts.items()) if found.keys() >= {"base", "new"}
    ]  # fmt: skip


class Table:
    """The rows of all seeds that every learner has on every data set.

    Attributes:
        datasets: all that were begun.
        seeds: those that are complete, ascending.
        left_out: the others.
    """

    def __init__(self, rows: Sequence[Row]):
        self._rows = {(row["learner"], row["dataset"], row["seed"]): row for row in rows}
        self.datasets = sorted({row["dataset"] for row in rows})
        seeds = sorted({row["seed"] for row in rows})
        wanted = [(name, dataset) for name in LEARNERS for dataset in self.datasets]
        self.seeds = [s for s in seeds if all((*key, s) in self._rows for key in wanted)]
        self.left_out = [s for s in seeds if s not in self.seeds]

    def by_seed(self, learner: str, figure: str) -> list[float]:
        """Means over data sets, in the order of the seeds."""
        return [
            statistics.fmean(self._rows[learner, d, seed][figure] for d in self.datasets)
            for seed in self.seeds
        ]

    def by_dataset(self, learner: str, figure: str) -> list[float]:
        """Means over seeds."""
        return [
            statistics.fmean(self._rows[learner, d, seed][figure] for seed in self.seeds)
            for d in self.datasets
        ]


def means(table: Table) -> str:
    """Of every learner, ± half of the 95 % interval over seeds."""
    lines = []
    for name in LEARNERS:
        cells = [mean_interval(table.by_seed(name, figure)) for figure in FIGURES]
        lines.append([name, *(_spread(mean, half, "") for mean, half in cells)])
    return markdown(["learner", *FIGURES.values()], lines)


def gains(table: Table) -> str:
    """What the posterior adds to each base; p-values are of H, adjusted by Holm over the bases."""
    lines, p_values = [], []
    for base in BASES:
        line = [base]
        for figure in ("new", "H", "ece_new"):
            delta = _minus(table.by_seed(f"VPT_{base}", figure), table.by_seed(base, figure))
            line.append(_spread(*mean_interval(delta), "+"))
            if figure == "H":
                p_values.append(p_value(delta))
        sets = _minus(table.by_dataset(f"VPT_{base}", "H"), table.by_dataset(base, "H"))
        lines.append([*line, f"{sum(x > 0 for x in sets)}/{len(sets)}"])
    for line, p in zip(lines, holm(p_values), strict=True):
        line.append("-" if p is None else f"{p:.2g}")
    return markdown(
        ["with a posterior minus without", "new", "H", "ECE new", "sets with more H", "Holm p"],
        lines,
    )


def _minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _spread(mean: float, half: float | None, sign: str) -> str:
    return number(mean, 2, sign) + ("" if half is None else f" ± {half:.2f}")


def main() -> int:
    """Print the tables and write the rows; 1 if no seed is complete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="--output of the demo")
    parser.add_argument("--output", type=Path, help="write the rows there as JSON")
    args = parser.parse_args()
    found = find_runs(args.folder)
    for problem in found.problems:
        say(problem)
    rows = rows_of(found.runs)
    table = Table(rows)
    if table.left_out:
        say(f"not complete, so left out: seeds {', '.join(map(str, table.left_out))}")
    if not table.seeds:
        say(f"error: no seed of {args.folder} is complete for {', '.join(LEARNERS)}")
        return 1
    out(
        f"{', '.join(table.datasets)}; {len(table.seeds)} seeds\n\n{means(table)}\n\n{gains(table)}"
    )
    if args.output:
        write_json(args.output, {**environment(torch.device("cpu")), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
