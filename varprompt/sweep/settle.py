"""The comparison that settles it: six methods, eleven data sets, three seeds, with intervals.

    bash scripts/vpt/settle.sh              # also: python sweep.py settle
    DATASETS="eurosat dtd" SEEDS=1 bash scripts/vpt/settle.sh

Zero-shot CLIP, CoOp (50 epochs, from words), VPT as its authors ran it, a MAP estimate, the
mixture of six templates, and the same from the words of each class, all from base to new classes.
The runs are those of sweep.py base2new, in the same folders: what is finished is not run again, and
Ctrl-C loses nothing. First every method is run on the data set of the fewest classes, with the
first seed: what that took says about how long the others will take. At the end: the table beside
the published rows (with ECE, too), and the differences of both mixtures from each other method,
paired by data set and seed.

Takes the flags of sweep.py but --trainers, --cfg and --launcher slurm.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..commands.cost import CLASSES
from ..common.console import EXIT_RESUMABLE, out, say
from ..common.files import write_atomic
from ..errors import ConfigError
from ..report.command import main as report
from ..report.runs import Run, find_runs
from ..report.stats import harmonic, mean_interval
from .cells import Cell, cells_of
from .command import finished_of, parser, wanted
from .command import main as sweep

ZERO_SHOT = "ZeroshotCLIP"
_TIMES = "settle_seconds.json"  # in OUTPUT: what a run of each method took on the smallest data set
Parts = dict[str, Run]  # base, new -> the run
OURS = ("VPT vit_b16_c4_ep50_mixture", "VPT vit_b16_c4_ep50_mixture_words")


@dataclass(frozen=True)
class Entry:
    """A method: its trainer, and its config if it is not the trainer's own."""

    trainer: str
    config: str = ""

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.trainer} {self.config}".rstrip()

    @property
    def words(self) -> list[str]:
        """What sweep.py is told."""
        return ["--trainers", self.trainer, *(["--cfg", self.config] if self.config else [])]


METHODS = (
    Entry(ZERO_SHOT),
    Entry("CoOp", "vit_b16_ep50_ctxv1"),
    Entry("VPT"),
    Entry("VPT", "vit_b16_c4_ep50_map"),
    Entry("VPT", "vit_b16_c4_ep50_mixture"),
    Entry("VPT", "vit_b16_c4_ep50_mixture_words"),
)


def settle(words: Sequence[str]) -> int:
    """Run everything, then show it; returns the exit code of the first sweep that is not complete.

    Raises:
        ConfigError: everything that is wrong in the arguments or in any of the runs.
    """
    args = parser().parse_intermixed_args(["base2new", *words])
    if args.trainers or args.cfg or args.launcher == "slurm":
        raise ConfigError(
            "settle has methods of its own and waits for them: leave out --trainers, --cfg and "
            "--launcher slurm"
        )
    cells = {entry: _cells(entry, words) for entry in METHODS}
    output = wanted(args)[1]
    total = sum(map(len, cells.values()))
    done = sum(len(finished_of(own)) for own in cells.values())
    say(f"settle: {total} runs of {len(METHODS)} methods into {output}, {done} finished before")
    if args.list:
        return max(sweep(["base2new", *entry.words, *words]) for entry in METHODS)
    if done < total and (code := _trial(cells, words, output)):
        return code
    codes = []
    for entry in METHODS:
        codes.append(sweep(["base2new", *entry.words, *words]))
        if codes[-1] == EXIT_RESUMABLE:  # Ctrl-C ends all, not the runs of one method
            return EXIT_RESUMABLE
    if (output / "base2new").is_dir():
        show(output)
    return next((code for code in codes if code), 0)


def _cells(entry: Entry, words: Sequence[str]) -> list[Cell]:
    args = parser().parse_intermixed_args(["base2new", *entry.words, *words])
    return cells_of(wanted(args)[0])[0]


def _trial(cells: dict[Entry, list[Cell]], words: Sequence[str], output: Path) -> int:
    """Run each method on the smallest data set; say what the rest will take.

    What a run took is kept in `output`, so that a second call can say it, too.
    """
    trained = [c for entry, own in cells.items() if entry.trainer != ZERO_SHOT for c in own]
    smallest = min((_dataset(cell) for cell in trained), key=lambda name: CLASSES.get(name, 40))
    seed, times = trained[0].flag("--seed"), _read_times(output / _TIMES)
    for entry, own in cells.items():
        mine = [c for c in own if _dataset(c) == smallest]
        if entry.trainer != ZERO_SHOT:  # which has no seed
            mine = [c for c in mine if c.flag("--seed") == seed]
        before = len(finished_of(mine))
        if before == len(mine):
            continue
        started = time.monotonic()
        code = sweep(["base2new", *entry.words, *_few(words, smallest, seed)])
        if code:
            return code
        if not before:
            times[entry.name] = (time.monotonic() - started) / len(mine)
            text = json.dumps(times, indent=1)
            write_atomic(output / _TIMES, lambda file, text=text: file.write(text.encode()))
    _forecast(cells, times, CLASSES.get(smallest, 40))
    return 0


def _read_times(path: Path) -> dict[str, float]:
    """Seconds of a run of each method, by an earlier call; {} if there was none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # a forecast less


def _forecast(cells: dict[Entry, list[Cell]], times: dict[str, float], size: int) -> None:
    """Say what the unfinished runs will take, given those on a data set of `size` classes."""
    least = most = 0.0
    for entry, own in cells.items():
        done = set(finished_of(own))
        left = [_dataset(c) for c in own if c.name not in done]
        if left and entry.name not in times:
            say(f"settle: {entry.name} was begun by another call: no forecast of {len(left)} runs")
            continue
        seconds = times.get(entry.name, 0.0)
        least += seconds * len(left)
        most += seconds * sum((CLASSES.get(d, 40) / size) ** 2 for d in left)
    if most:
        say(
            f"settle: the other runs will take {_duration(least)} if the images decide, and up to "
            f"{_duration(most)} if the texts of all classes do, one run at a time; Ctrl-C loses "
            "nothing"
        )


def _few(words: Sequence[str], dataset: str, seed: str) -> list[str]:
    """The same words for one data set and seed: of a flag that comes twice the last one counts."""
    return [*words, "--datasets", dataset, "--seeds", seed, "--jobs", "1"]


def _dataset(cell: Cell) -> str:
    return Path(cell.flag("--dataset-config-file")).stem


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"


def show(output: Path) -> None:
    """Print and write the table, and the differences."""
    report([str(output), "--write", str(output / "settled"), "--tables", "base2new",
            "--columns", "accuracy", "calibration"])  # fmt: skip
    out(differences(find_runs(output).runs))


def differences(runs: Iterable[Run]) -> str:
    """Each mixture minus every other method, H and ECE of new classes, over data sets."""
    found: dict[str, dict[tuple[str, int | None], Parts]] = {}
    for run in runs:
        name = f"{run.method.trainer} {run.method.config}"
        found.setdefault(name, {}).setdefault((run.dataset, run.seed), {})[run.part] = run
    note = "mean over data sets of the difference, averaged over seeds, ± half of the 95 % interval"
    return "\n\n".join([*(_minus_others(found, ours) for ours in OURS if ours in found), note])


def _minus_others(found: dict[str, dict[tuple[str, int | None], Parts]], ours: str) -> str:
    from tabulate import tabulate

    rows = []
    for name, other in found.items():
        pairs = [(mine, theirs) for key, mine in found[ours].items()
                 if (theirs := other.get(key) or other.get((key[0], None)))]  # fmt: skip
        if name != ours and pairs:
            rows.append([name, *(_difference(pairs, of) for of in (_h, _ece))])
    return tabulate(rows, [f"{ours} minus", "H", "ECE of new classes"], disable_numparse=True)


def _difference(pairs: list[tuple[Parts, Parts]], of: Callable[[Parts], float | None]) -> str:
    by_set: dict[str, list[float]] = {}
    for ours, theirs in pairs:
        mine, other = of(ours), of(theirs)
        if mine is not None and other is not None:
            by_set.setdefault(ours["new"].dataset, []).append(mine - other)
    if not by_set:
        return "-"
    mean, half = mean_interval([statistics.fmean(values) for values in by_set.values()])
    spread = "" if half is None else f" ± {half:.2f}"
    return f"{mean:+.2f}{spread} ({len(by_set)} sets)"


def _h(parts: Parts) -> float | None:
    if not parts.keys() >= {"base", "new"}:
        return None
    return harmonic(*(parts[part].metrics["accuracy"] for part in ("base", "new")))


def _ece(parts: Parts) -> float | None:
    return parts["new"].metrics.get("ece") if "new" in parts else None
