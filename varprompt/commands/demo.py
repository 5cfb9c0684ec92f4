"""Train every method on base classes of the embedded data sets and test on new ones.

Prints one table and writes it as CSV, JSON, Markdown, LaTeX and a figure. Finished runs are kept:
a second call goes on where the first one stopped. Figures of the same seed differ a little between
CPUs and versions of PyTorch.

With a folder of photos as first argument (varprompt demo FOLDER, or --own FOLDER) something else is
shown: a classifier of one's own; see varprompt demo --own --help.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path

from ..common.checks import check_choice, check_range
from ..common.console import out, say
from ..errors import ConfigError, VarPromptError
from ..settings.flags import Parser, given_path
from ..settings.recipes import ROOT
from ..settings.user_input import config_names
from .demo_runs import DATASETS, LEARNERS, METHODS, SEEDS, all_runs

_stopped = False  # whether a signal has ended a run of this process


class RunFailed(VarPromptError):
    """A run ended with an error; the message is what it said."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    base = ROOT if (ROOT / "train.py").is_file() else Path()
    p = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("--output", type=given_path, default=base / "output" / "demo",
                   help="folder of the results; default: %(default)s")  # fmt: skip
    p.add_argument("--data", type=given_path, default=base / "data",
                   help="the data sets, made on first use; default: %(default)s")  # fmt: skip
    p.add_argument("--datasets", nargs="+", default=DATASETS, metavar="NAME",
                   help=f"of configs/datasets; default: {' '.join(DATASETS)}")  # fmt: skip
    p.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: 1 2 3")
    p.add_argument("--quick", action="store_true", help=f"a first look: {DATASETS[0]} only")
    p.add_argument("--learners", action="store_true",
                   help="KgCoOp, MaPLe, PromptSRC, too, on the vision transformer")  # fmt: skip
    p.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1),
                   help="runs at the same time, one thread each; default: %(default)s")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, or `varprompt.commands.own` if a folder is named first or by ``--own``.

    Returns:
        The exit code: 1 when runs failed, 130 after Ctrl-C.

    Raises:
        ConfigError: an argument that cannot be.
        OSError: the results cannot be written.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--own"] or _names_folder(words):
        from .own import main as own

        return own(words[words[0] == "--own" :])
    args = parser().parse_args(words)
    if args.quick:
        args.datasets = DATASETS[:1]
    check(args)
    args.output, args.data = args.output.resolve(), args.data.resolve()
    for folder in (args.output, args.data):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"nothing can be written into {folder}; see --output and --data")
    runs = all_runs(
        args.datasets, args.seeds, args.data, args.output, LEARNERS if args.learners else METHODS
    )
    names, seeds = ", ".join(args.datasets), ", ".join(map(str, args.seeds))
    say(f"{len(runs)} runs ({names}; seeds {seeds}) into {args.output}")
    try:
        failures = execute(runs, args.jobs)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    if len(failures) < len(runs):
        show(args.output)
    for failure in failures:
        say(f"failed: {failure}")
    return 1 if failures else 0


def _names_folder(words: Sequence[str]) -> bool:
    """Whether a folder of photos is meant: the first word, or one behind flags that is there."""
    if not words or not words[0].startswith("-"):
        return bool(words)
    return any(map(os.path.exists, parser().parse_known_args(words)[1]))


def check(args: argparse.Namespace) -> None:
    """Say everything that is wrong with the arguments.

    Raises:
        ConfigError: something is.
    """
    problems: list[str] = []
    for name in args.datasets:
        check_choice(name, config_names("datasets"), "--datasets", problems)
    for seed in args.seeds:
        check_range(seed, 0, 2**32 - 1, "--seeds", problems)
    check_range(args.jobs, 1, 1000, "--jobs", problems)
    if problems:
        raise ConfigError(problems)


def execute(runs: dict[str, list[list[str]]], jobs: int) -> list[str]:
    """Run everything with a progress bar; returns what failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the runs in progress have been stopped.
    """
    from tqdm import tqdm

    failures = []
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers: one thread a run
    sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)
    _start_tracker()
    context = multiprocessing.get_context("spawn")
    deaf = (signal.SIGINT, signal.SIG_IGN)  # a terminal tells all; only this process listens
    with (
        ProcessPoolExecutor(jobs, context, signal.signal, deaf) as pool,
        tqdm(total=len(runs), unit="run", desc="demo", smoothing=0) as bar,
    ):
        slow_first = sorted(runs, key=lambda name: not name.startswith("VPT_CoCoOp"))
        waiting = {pool.submit(run, runs[name]): name for name in slow_first}
        try:
            for future in as_completed(waiting):
                bar.set_postfix_str(waiting[future])
                bar.update()
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    failures.append(f"{waiting[future]}: a process was killed; the memory is full?")
                elif error is not None:
                    failures.append(f"{waiting[future]}: {error}")
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near: no second traceback
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, sigterm)
    return failures


def _start_tracker() -> None:
    """Start Python's resource tracker deaf to a closed terminal.

    It would end, and the next one, which knows of nothing, print tracebacks.
    """
    if hasattr(signal, "SIGHUP"):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        resource_tracker.ensure_running()
        signal.signal(signal.SIGHUP, before)


def run(argvs: list[list[str]]) -> None:
    """Call train.py's main in this process; what it prints goes to the run's log.txt only.

    Raises:
        RunFailed: it ended with an error.
    """
    global _stopped
    if _stopped:  # what the pool had handed out before the signal
        return
    import torch

    from .train import main as train

    torch.set_num_threads(1)
    for argv in argvs:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            try:
                code = train(argv)
            except SystemExit:  # a signal
                _stopped = True
                raise
        if code:
            folder = argv[argv.index("--output-dir") + 1]
            raise RunFailed(f"{errors.getvalue().strip() or f'exit code {code}'} ({folder})")
    gc.collect()  # a trainer holds itself in a cycle, with its model


def show(output: Path) -> None:
    """Print the best method and the table; write it and the figure into `output`."""
    from ..report.best import highest
    from ..report.command import main as report
    from ..report.runs import find_runs

    runs = find_runs(output).runs
    if said := highest(runs):
        out(said)
    report([str(output), "--write", str(output), "--no-published"])
    rows = [
        {
            "trainer": r.method.trainer, "config": r.method.config, "dataset": r.dataset,
            "classes": r.part, "seed": r.seed, **r.metrics,
        }
        for r in runs
    ]  # fmt: skip
    (output / "runs.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
