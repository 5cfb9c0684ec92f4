"""Mean and spread of the test results of one experiment, read from the log of every seed.

    python parse_test_res.py output/imagenet/VPT/vit_b16_c4_ep10_batch1_ctxv1_16shots

reads `*/log.txt` below that folder. Numbers and wording are those of CoOp's script of this name.
Both wordings of Dassl for the end of a training run are understood; a run without a result is
reported and left out. A later log (`log.txt-DATE`) is read only where log.txt holds no result.
Runs whose results.json records other data or other CLIP weights than that of most are left out.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common.characters import printable
from ..common.console import out, say
from ..errors import ConfigError
from ..settings.flags import Parser
from .logs import TEST_BEGINS, TRAINING_ENDS, Reading, logs_of, result_in
from .record import RESULTS, NotARecord, Record, copy_of, read_record
from .settle import odd_ones_out
from .walk import folders_in


@dataclass(frozen=True)
class Query:
    """What to look for: the value (in %) named `keyword` behind a line that is in `signals`."""

    keyword: str = "accuracy"
    signals: tuple[str, ...] = TRAINING_ENDS
    ci95: bool = False
    any_root: bool = False

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
        name = printable(self.query.keyword)
        lines = [f"file: {printable(file)}. {name}: {value:.2f}%. " for file, value in self.runs]
        spread = self.query.spread(self.values)
        lines += ["===", f"Summary of directory: {printable(self.directory)}"]
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


def read_experiment(directory: str, query: Query) -> Experiment:
    """Read the log of every folder in `directory`.

    Raises:
        OSError: `directory` cannot be read.
    """
    experiment = Experiment(directory, query)
    names, experiment.skipped = folders_in(directory)
    records: dict[str, Record | None] = {}
    originals: dict[str, str] = {}
    for name in names:
        folder = os.path.join(directory, name)
        try:
            reading = _reading(folder, query)
            record = _record(folder)
            if why := copy_of(originals, record, printable(reading.file)):
                raise NotARecord(f"{printable(reading.file)}: {why}")
            records[reading.file] = record
        except NotARecord as reason:
            experiment.skipped.append(str(reason))
        else:
            experiment.runs.append((reading.file, reading.value))
    odd = odd_ones_out(records, query.any_root)
    experiment.skipped += [f"{printable(file)}: its {why}" for file, why in odd.items()]
    experiment.runs = [run for run in experiment.runs if run[0] not in odd]
    return experiment


def _reading(folder: str, query: Query) -> Reading:
    shown = printable(folder)
    try:
        logs = logs_of(folder)
    except OSError as error:
        raise NotARecord(f"{shown} is not readable ({error.strerror})") from error
    if not logs:
        raise NotARecord(f"no log.txt in {shown}")
    reading = result_in(logs, query.keyword, query.signals)
    if reading is None:
        behind = f"behind {query.signals[0]!r} in {printable(logs[0])}"
        raise NotARecord(f"no {printable(query.keyword)} {behind}")
    if reading.bad:
        raise NotARecord(f"{printable(reading.file)}: {reading.bad}")
    return reading


def _record(folder: str) -> Record | None:
    """What results.json beside the log says; None if there is none, or no readable one."""
    file = os.path.join(folder, RESULTS)
    if not os.path.lexists(file):
        return None
    try:
        return read_record(file)
    except NotARecord as reason:
        say(f"data not compared: {printable(file)}: {reason}")
        return None


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
    new = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    new.add_argument("directory", help="folder that holds one folder for every seed")
    new.add_argument("--ci95", action="store_true", help="95%% interval instead of the deviation")
    new.add_argument("--test-log", action="store_true", help="logs of evaluations without training")
    new.add_argument("--multi-exp", action="store_true", help="DIRECTORY holds several experiments")
    new.add_argument("--keyword", default="accuracy", help="accuracy, error, macro_f1, average ...")
    new.add_argument(
        "--any-root", action="store_true",
        help="data sets under another DATASET.ROOT are the same (for results of version 0.1.0)",
    )  # fmt: skip
    new.add_argument("--json", action="store_true", help="print JSON instead of text")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when something was found.

    Raises:
        ConfigError: nothing was.
        OSError: the folder cannot be read.
    """
    args = parser().parse_args(argv)
    query = Query(
        args.keyword, TEST_BEGINS if args.test_log else TRAINING_ENDS, args.ci95, args.any_root
    )
    if not os.path.isdir(args.directory):
        raise ConfigError(f"{args.directory} is not a folder")
    if not args.multi_exp:
        experiment = read_experiment(args.directory, query)
        if not experiment.runs:
            raise ConfigError(nothing_found(experiment))
        _print(experiment, args.json)
        if args.json:
            out(json.dumps(experiment.record()))
        return 0
    return _several(args.directory, query, args.json)


def _print(experiment: Experiment, quiet: bool) -> None:
    for reason in experiment.skipped:
        say(f"skipped: {reason}")
    if not quiet:
        out(f"Parsing files in {printable(experiment.directory)}")
        out(experiment.text())


def _several(directory: str, query: Query, as_json: bool) -> int:
    names, problems = folders_in(directory)
    for problem in problems:
        say(f"skipped: {problem}")
    found = []
    for name in names:
        experiment = read_experiment(os.path.join(directory, name), query)
        if experiment.runs:
            found.append(experiment)
            _print(experiment, as_json)
        else:
            say(f"skipped: {nothing_found(experiment)}")
    if not found:
        raise ConfigError(f"Nothing found in {directory}: no folder in it is an experiment")
    mean = float(np.mean([experiment.mean for experiment in found]))
    if as_json:
        out(json.dumps({"experiments": [e.record() for e in found], "mean": mean}))
        return 0
    partial = f" ({len(found)} of {len(names)} experiments)"
    out("Average performance" + (partial if len(found) < len(names) else ""))
    out(f"* {printable(query.keyword)}: {mean:.2f}%")
    return 0
