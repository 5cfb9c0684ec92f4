"""Whether runs survive: killed at random moments and resumed, and in pairs on shared folders.

Kill test: short runs of train.py on the embedded CLIP are ended by SIGKILL, at a moment uniform
over their time or while a checkpoint is being written, and started again with the same command,
which may be killed again. The last model must be the same file, byte for byte, and results.json
the same but for date and commit, as those of a run that nobody disturbed.

Soak: runs two by two on one data root, empty at first, and one feature cache. Each must end with
the parameters and results that it has when it is alone.

    python benchmarks/survival.py --output benchmarks/results/survival_cpu.json
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._runs import EPOCHS, Run, command, preload, results, unfinished  # noqa: E402

TRAINERS = ("VPT", "VPT_CoCoOp")
STEPS = (1, 2, 3)  # TRAIN.CHECKPOINT_STEPS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--kills", type=int, default=100, help="SIGKILLs, at least; 0 = no kill test")
    p.add_argument("--runs", type=int, default=20, help="runs of the soak; 0 = no soak")
    p.add_argument("--workers", type=int, default=0, help="DATALOADER.NUM_WORKERS")
    p.add_argument("--seed", type=int, default=0, help="of the moments of killing")
    p.add_argument("--output", help="JSON file")
    return p


@dataclass
class KillTest:
    """Kills runs in `folder` and compares what becomes of them."""

    folder: Path
    workers: int
    chance: random.Random
    counts: Counter = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)

    def run(self, n_kills: int) -> dict[str, Any]:
        """Go on until there were `n_kills` SIGKILLs."""
        kinds = [(trainer, steps) for steps in STEPS for trainer in TRAINERS]
        references = {}
        self._new(*kinds[0]).start().finish()  # makes the data, fills the cache
        shutil.rmtree(self.folder / "run")
        while self.counts["kills"] < n_kills:
            kind = kinds[self.counts["cases"] % len(kinds)]
            if kind not in references:
                references[kind] = self._reference(*kind)
            self._case(*kind, *references[kind])
        return {
            "settings": {"epochs": EPOCHS, "steps_an_epoch": 5, "checkpoint_steps": STEPS,
                         "trainers": TRAINERS, "workers": self.workers},
            **self.counts, "differing": self.differing,
        }  # fmt: skip

    def _new(self, trainer: str, steps: int) -> Run:
        options = ("TRAIN.CHECKPOINT_STEPS", steps, "DATALOADER.NUM_WORKERS", self.workers)
        arguments = command(self.folder, trainer, 1, "digits", *options)
        return Run(arguments, self.folder / "cache", self.folder / "console.txt")

    def _reference(self, trainer: str, steps: int) -> tuple[Path, float]:
        """A folder with the undisturbed run, and its seconds."""
        started = time.monotonic()
        self._new(trainer, steps).start().finish()
        seconds = time.monotonic() - started
        return (self.folder / "run").rename(self.folder / f"{trainer}-{steps}"), seconds

    def _case(self, trainer: str, steps: int, reference: Path, seconds: float) -> None:
        """Kill one run once or several times, let it end, compare."""
        killed = 0
        while killed == 0 or self.chance.random() < 0.5:
            run = self._new(trainer, steps).start()
            if not run.wait(self._moment(seconds), 0.001):
                if killed == 0:  # it was faster: again
                    shutil.rmtree(self.folder / "run")
                    continue
                break
            run.kill()
            killed += 1
            self._look(self.folder / "run")
        self._new(trainer, steps).start().finish()
        self.counts["kills"] += killed
        self.counts["cases"] += 1
        different = differences(reference, self.folder / "run")
        self.counts["identical"] += not different
        self.differing += [f"{trainer}, {steps}: {text}" for text in different]
        log = (self.folder / "run/log.txt").read_text()
        self.counts["resumed_from_a_state"] += log.count("will resume training")
        shutil.rmtree(self.folder / "run")

    def _moment(self, seconds: float) -> Callable[[], bool]:
        """When to kill: at a uniform time, or during the n-th writing of a checkpoint."""
        if self.chance.random() < 0.5:
            at = time.monotonic() + self.chance.uniform(0, seconds)
            return lambda: time.monotonic() > at
        nth, seen = self.chance.randint(1, 8), set()

        def writing() -> bool:
            seen.update(unfinished(self.folder / "run"))
            return len(seen) >= nth

        return writing

    def _look(self, run: Path) -> None:
        """Count in which state a killed run was left."""
        states = {p.name for p in (run / "prompt_learner").glob("resume*")}
        self.counts["left_a_checkpoint_unfinished"] += bool(unfinished(run))
        self.counts["left_between_two_renames"] += states == {"resume-before.pth.tar"}
        self.counts["left_without_any_state"] += not states


def differences(reference: Path, run: Path) -> list[str]:
    """What differs between the ends of two runs of one command."""
    name = f"prompt_learner/model.pth.tar-{EPOCHS}"
    pairs = {
        name: [(folder / name).read_bytes() for folder in (reference, run)],
        "results.json": [results(folder) for folder in (reference, run)],
        "unfinished files": [[], unfinished(run)],
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def soak(folder: Path, n_runs: int) -> dict[str, Any]:
    """Runs in pairs, then each of them alone on a data root and cache of its own."""
    kinds = [(d, t) for d in ("digits", "chalk") for t in (*TRAINERS, "CoOp", "CoCoOp")]
    plan = [(*kinds[i % len(kinds)], i // len(kinds) + 1) for i in range(n_runs)]
    ended = {name: soak_runs(folder / name, plan, width) for name, width in
             (("pairs", 2), ("alone", 1))}  # fmt: skip
    same = [one == other for one, other in zip(ended["pairs"], ended["alone"], strict=True)]
    own = [(r["dataset"].lower(), r["trainer"], r["seed"]) == kind
           for (r, _), kind in zip(ended["pairs"], plan, strict=True)]  # fmt: skip
    return {"runs": n_runs, "ended": len(ended["pairs"]), "own_result": sum(own),
            "same_as_alone": sum(same)}  # fmt: skip


def soak_runs(folder: Path, plan: list[tuple[str, str, int]], width: int) -> list[tuple]:
    """Results and parameters of the planned runs, `width` at a time."""
    (folder / "data").mkdir(parents=True)
    ended: list[tuple] = []
    for start in range(0, len(plan), width):
        batch = []
        for number in range(start, min(start + width, len(plan))):
            dataset, trainer, seed = plan[number]
            place = folder / str(number)
            place.mkdir()
            (place / "data").symlink_to(folder / "data")
            arguments = command(place, trainer, seed, dataset)
            batch.append((place, Run(arguments, folder / "cache", place / "console.txt").start()))
        for place, run in batch:
            run.finish()
            model = torch.load(place / f"run/prompt_learner/model.pth.tar-{EPOCHS}")
            values = {k: v.tolist() for k, v in model["state_dict"].items()}
            ended.append((results(place / "run", "config"), values))
    return ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run both, print and write the counts; 1 if a run was lost or differs."""
    args = parser().parse_args(argv)
    preload()
    report: dict[str, Any] = {"environment": environment(torch.device("cpu"))}
    lost = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        if args.kills:
            test = KillTest(folder, args.workers, random.Random(args.seed))  # noqa: S311
            report["kill_test"] = found = test.run(args.kills)
            lost |= found["identical"] < found["cases"]
        if args.runs:
            report["soak"] = found = soak(folder / "soak", args.runs)
            lost |= min(found["own_result"], found["same_as_alone"]) < found["runs"]
    for part in ("kill_test", "soak"):
        print(f"{part}: {json.dumps(report.get(part))}")
    if args.output:
        write_json(args.output, report)
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
