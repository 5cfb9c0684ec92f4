"""Mean and spread of the test results of one experiment, read from the log of every seed.

    python parse_test_res.py output/imagenet/VPT/vit_b16_c4_ep10_batch1_ctxv1_16shots

reads `*/log.txt` below that folder. Numbers and wording are those of CoOp's script of this name.
Both wordings of Dassl for the end of a training run are understood; a run without a result is
reported and left out. A later log (`log.txt-DATE`) is read only where log.txt holds no result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from varprompt.report.logs import TEST_BEGINS, TRAINING_ENDS, logs_of, result_in
from varprompt.report.pipe import run_quietly


@dataclass(frozen=True)
class Query:
    """What to look for: the value (in %) named `keyword` behind a line that is in `signals`."""

    keyword: str = "accuracy"
    signals: tuple[str, ...] = TRAINING_ENDS
    ci95: bool = False

    def spread(self, values: list[float]) -> float:
        """Population standard deviation, or 1.96 times that over the root of the number."""
        deviation = np.std(values)
        return float(1.96 * deviation / np.sqrt(len(values)) if self.ci95 else deviation)


@dataclass
class Experiment:
    """The results of one folder: `runs` are (log file, value) pairs, values in %."""

    directory: str
    query: Query
    runs: list[tuple[str, float]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """One value a run."""
        return [value for _, value in self.runs]

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.values))

    def text(self) -> str:
        """CoOp's report."""
        name = self.query.keyword
        lines = [f"file: {file}. {name}: {value:.2f}%. " for file, value in self.runs]
        spread = self.query.spread(self.values)
        lines += ["===", f"Summary of directory: {self.directory}"]
        lines += [f"* {name}: {self.mean:.2f}% +- {spread:.2f}%", "==="]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "directory": self.directory,
            "keyword": self.query.keyword,
            "runs": [{"file": file, "value": value} for file, value in self.runs],
            "mean": self.mean,
            "spread": self.query.spread(self.values),
            "spread_is": "ci95" if self.query.ci95 else "population_std",
            "skipped": self.skipped,
        }


def visible(directory: str) -> list[str]:
    """Names of the folders in `directory` that are not hidden, sorted."""
    with os.scandir(directory) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def read_experiment(directory: str, query: Query) -> Experiment:
    """Read the log of every folder in `directory`."""
    experiment = Experiment(directory, query)
    for name in visible(directory):
        folder = os.path.join(directory, name)
        logs = logs_of(folder)
        run = result_in(logs, query.keyword, query.signals)
        if run:
            experiment.runs.append(run)
        else:
            reason = f"no {query.keyword} behind '{query.signals[0]}' in {logs[0]}" if logs else ""
            experiment.skipped.append(reason or f"no log.txt in {folder}")
    return experiment


def nothing_found(experiment: Experiment) -> str:
    """Why an experiment without runs has none, and what to do."""
    hints = "; ".join(experiment.skipped[:3]) or "it holds no folders"
    advice = (
        "Give the folder that holds the seed folders. For logs of evaluations (--eval-only) add "
        "--test-log, for a folder of experiments add --multi-exp."
    )
    return f"Nothing found in {experiment.directory}: {hints}. {advice}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new.add_argument("directory", help="folder that holds one folder for every seed")
    new.add_argument("--ci95", action="store_true", help="95%% interval instead of the deviation")
    new.add_argument("--test-log", action="store_true", help="logs of evaluations without training")
    new.add_argument("--multi-exp", action="store_true", help="DIRECTORY holds several experiments")
    new.add_argument("--keyword", default="accuracy", help="accuracy, error, macro_f1, average ...")
    new.add_argument("--json", action="store_true", help="print JSON instead of text")
    return new


def report(directory: str, query: Query, quiet: bool) -> Experiment | None:
    """Read one experiment and print what was found; None when it has no run at all."""
    experiment = read_experiment(directory, query)
    for reason in experiment.skipped if experiment.runs else [nothing_found(experiment)]:
        print(f"skipped: {reason}", file=sys.stderr)
    if not quiet:
        print(f"Parsing files in {directory}")
        if experiment.runs:
            print(experiment.text())
    return experiment if experiment.runs else None


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when something was found."""
    args = parser().parse_args(argv)
    query = Query(args.keyword, TEST_BEGINS if args.test_log else TRAINING_ENDS, args.ci95)
    if not os.path.isdir(args.directory):
        print(f"{args.directory} is not a folder", file=sys.stderr)
        return 1
    directories = [args.directory]
    if args.multi_exp:
        directories = [os.path.join(args.directory, name) for name in visible(args.directory)]
    found = [e for d in directories if (e := report(d, query, args.json))]
    if not found:
        if not directories:
            print(f"Nothing found in {args.directory}: it holds no folders", file=sys.stderr)
        return 1
    mean = float(np.mean([experiment.mean for experiment in found]))
    if args.json:
        records = [experiment.record() for experiment in found]
        print(json.dumps({"experiments": records, "mean": mean} if args.multi_exp else records[0]))
    elif args.multi_exp:
        partial = f" ({len(found)} of {len(directories)} experiments)"
        print("Average performance" + (partial if len(found) < len(directories) else ""))
        print(f"* {args.keyword}: {mean:.2f}%")
    return 0


if __name__ == "__main__":
    sys.exit(run_quietly(main))
