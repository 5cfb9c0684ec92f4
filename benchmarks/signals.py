"""Whether a signal at any moment loses nothing: SIGKILL, SIGTERM and Ctrl-C, at random moments.

Commands of four kinds are disturbed: a training, a test with and one without cached image features,
and a first start that downloads its CLIP (from this machine, slowly). Each with and without workers
and with one and two threads, in processes forked from one that has imported everything. A disturbed
command is given again until it ends by itself. Then

- its results and its model are those of the command that nobody disturbed,
- no exit code was 0 before the end, and 75 is the only one that SIGTERM and Ctrl-C lead to,
- no traceback was printed, no process and no unfinished file is left.

    python benchmarks/signals.py --output benchmarks/results/signals_cpu.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks._download import archive, slow_server  # noqa: E402
from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._runs import EPOCHS, Run, command, preload, results  # noqa: E402
from varprompt.common.console import exit_at_interrupt  # noqa: E402

KINDS = ("training", "test", "test without cached features", "first download")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WORKERS, THREADS = (0, 2), (1, 2)
RESUMABLE = 75
ORPHANS_END = 15  # seconds until workers whose parent was killed have noticed


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--signals", type=int, default=200, help="at least")
    p.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    p.add_argument("--output", help="JSON file")
    return p


@dataclass
class Case:
    """One command: what it does, with how many workers and threads."""

    kind: str
    workers: int
    threads: int

    def arguments(self, folder: Path, model: Path) -> list[str]:
        """Of train.py."""
        pairs: list[Any] = ["DATALOADER.NUM_WORKERS", self.workers, "TRAIN.CHECKPOINT_STEPS", 2]
        if self.kind == "first download":
            pairs += ["MODEL.BACKBONE.NAME", "ViT-B/32"]
        arguments = command(folder, "VPT", 1, "digits", *pairs)
        if self.kind.startswith("test"):
            arguments[:0] = ["--eval-only", "--model-dir", str(model)]
        return arguments


class Process(Run):
    """A forked run in a session of its own, so that what it leaves behind can be found."""

    threads = 1

    def start(self) -> Process:
        """Start it, and wait until it can take a signal as the command does."""
        super().start()
        while os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)
        return self

    def _main(self) -> None:
        exit_at_interrupt(RESUMABLE)
        os.setsid()
        torch.set_num_threads(self.threads)
        super()._main()

    def left(self) -> list[int]:
        """Processes of its session that are alive."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found


@dataclass
class SignalTest:
    """Disturbs commands in `folder` and compares what becomes of them."""

    folder: Path
    chance: random.Random
    counts: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    references: dict[tuple, tuple[dict[str, Any], float]] = field(default_factory=dict)

    def run(self, n_signals: int) -> dict[str, Any]:
        """Go on until `n_signals` were sent."""
        cases = [Case(k, w, t) for k in KINDS for w in WORKERS for t in THREADS]
        training = Case("training", 0, 1)
        self._start(training).finish()
        (self.folder / "run").rename(self.folder / "model")
        bar = tqdm(total=n_signals, desc="signals", disable=None)
        while self.counts["signals"] < n_signals:
            case = cases[self.counts["cases"] % len(cases)]
            self._disturb(case, *self._reference(case))
            self.counts["cases"] += 1
            bar.update(self.counts["signals"] - bar.n)
        bar.close()
        return {**self.counts, "problems": self.problems}

    def _start(self, case: Case) -> Process:
        arguments = case.arguments(self.folder, self.folder / "model")
        process = Process(arguments, self.folder / "cache", self.folder / "console.txt")
        process.threads = case.threads
        process.start()
        return process

    def _fresh(self, case: Case) -> None:
        """As before the command was ever given."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "console.txt").unlink(missing_ok=True)
        if case.kind == "test without cached features":
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
        if case.kind == "first download":
            shutil.rmtree(Path.home() / ".cache" / "clip", ignore_errors=True)

    def _reference(self, case: Case) -> tuple[dict[str, Any], float]:
        """What the command ends with if nobody disturbs it, and its seconds."""
        key = (case.kind, case.workers, case.threads)
        if key not in self.references:
            self._fresh(case)
            started = time.monotonic()
            self._start(case).finish()
            self.references[key] = (self._end(), time.monotonic() - started)
        return self.references[key]

    def _end(self) -> dict[str, Any]:
        """All that two runs of one command must agree in."""
        run = self.folder / "run"
        model = run / f"prompt_learner/model.pth.tar-{EPOCHS}"
        return {
            "results": json.dumps(results(run), sort_keys=True),
            "model": model.read_bytes() if model.exists() else b"",
            "unfinished": [p.name for p in self.folder.rglob(".*.tmp")],
        }

    def _disturb(self, case: Case, reference: dict[str, Any], seconds: float) -> None:
        """Send signals to one command, at least one, and let it end."""
        self._fresh(case)
        sent: list[str] = []
        while not sent or self.chance.random() < 0.4:
            process = self._start(case)
            at = time.monotonic() + self.chance.uniform(0, seconds)
            if not process.wait(lambda at=at: time.monotonic() > at, 0.001):
                if process.code:
                    self.problems.append(f"{case}, {sent}: exit code {process.code} by itself")
                break
            number = self.chance.choice(SIGNALS)
            # Ctrl-C reaches the whole group of a terminal, the others what they are sent to
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            sent.append(number.name)
            self.counts["signals"] += 1
            self.counts[number.name] += 1
            self._check_exit(case, process, number, sent)
        self._start(case).finish()
        self._compare(case, reference, sent)

    def _check_exit(self, case: Case, process: Process, number: int, sent: list[str]) -> None:
        process.wait()
        allowed = {-number} if number == signal.SIGKILL else {RESUMABLE}
        ended = (self.folder / "run" / "results.json").exists()
        if process.code not in allowed and not (process.code == 0 and ended):
            said = (self.folder / "console.txt").read_text()[-300:]
            self.problems.append(f"{case}, {sent}: exit code {process.code}: {said}")
        end = time.monotonic() + ORPHANS_END
        while process.left() and time.monotonic() < end:
            time.sleep(0.05)
        for pid in process.left():
            self.problems.append(f"{case}, {sent}: process {pid} is left")
            os.kill(pid, signal.SIGKILL)

    def _compare(self, case: Case, reference: dict[str, Any], sent: list[str]) -> None:
        end = self._end()
        different = [name for name in end if end[name] != reference[name]]
        if "Traceback" in (console := (self.folder / "console.txt").read_text()):
            different.append("a traceback")
        if different:
            shown = console[max(0, console.find("Traceback")) :][:3000]
            self.problems.append(f"{case}, {sent}: {different} {shown}")
        self.counts["identical"] += not different


def main() -> int:
    """Disturb, print and write the counts; 1 if anything was lost."""
    import hashlib

    args = parser().parse_args()
    preload()
    from varprompt.towers.load import clip_module

    content = archive()
    with tempfile.TemporaryDirectory() as name, slow_server(content) as address:
        os.environ["HOME"] = name  # where downloads go
        url = f"{address}/{hashlib.sha256(content).hexdigest()}/ViT-B-32.pt"
        clip_module().clip._MODELS["ViT-B/32"] = url
        folder = Path(name)
        (folder / "data").mkdir()
        test = SignalTest(folder, random.Random(args.seed))  # noqa: S311
        found = test.run(args.signals)
    print(json.dumps(found, indent=1))
    if args.output:
        report = {"environment": environment(torch.device("cpu")), "signals": found}
        write_json(args.output, report)
    return int(bool(found["problems"]))


if __name__ == "__main__":
    sys.exit(main())
