"""Many runs: a whole table or a grid over options, on all GPUs or cores, Ray or SLURM.

    python sweep.py base2new --trainers VPT CoOp --datasets dtd eurosat --seeds 1 2 3
    python sweep.py cross --launcher ray --address auto
    python sweep.py fewshot --shots 1 4 16 --launcher slurm --slurm partition=gpu timeout_min=600
    python sweep.py my-grid.yaml

Tables: base2new, cross (ImageNet to other data sets), fewshot, zeroshot. A YAML file says more, see
docs/sweeps.md; settle runs five methods and compares them. Runs lie where the scripts in
scripts/vpt put them. What is finished is not run again, what is unfinished goes on; a run that
fails stops no other and is listed with its reason. Ctrl-C has the running ones save their states;
then the same command goes on.

The environment variables of the scripts (DATA OUTPUT TRAINER CFG SHOTS L EPOCHS DATASETS SEEDS ...)
count where a flag is not given. Exit code: 0 all complete, 1 some failed, 75 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..common.checks import check_choice, check_range
from ..common.console import say
from ..errors import ConfigError, VarPromptError
from ..run.interrupt import StopRequest, stop_on_signal
from ..settings.flags import Parser, given, given_among_others
from ..settings.recipes import ROOT
from .cells import TABLES, Cell, Wanted, cells_of
from .grid import LISTS, SINGLE, read_grid
from .memory import MemoryModel
from .schedule import Pool, Report, Scheduler
from .summary import conclude, show
from .work import Outcome

LAUNCHERS = ("local", "ray", "slurm")
_DEFAULT = {"zeroshot": "ZeroshotCLIP"}  # trainer of a table, else VPT


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("what", metavar="TABLE", help=f"{', '.join(TABLES)}, or a YAML file")
    several: dict[str, Any] = {"nargs": "+", "type": given_among_others}
    p.add_argument("--trainers", **several, help="VPT CoOp ... ZeroshotCLIP (default: VPT)")
    p.add_argument("--datasets", **several, help="names in configs/datasets, or YAML files")
    p.add_argument("--seeds", **several, help="default: 1 2 3")
    p.add_argument("--shots", **several, help="images a class; of fewshot a list")
    p.add_argument("--cfg", type=given, help="a name in configs/trainers/TRAINER, or a YAML file")
    p.add_argument("--epochs", type=given, help="length of training")
    p.add_argument("--data", type=given, help="folder of the data sets")
    p.add_argument("--output", type=given, help="folder of the results")
    p.add_argument("--launcher", choices=LAUNCHERS, default="local")
    p.add_argument(
        "--jobs", type=int, default=0,
        help="runs at a time at most: on each GPU or on the CPU (local), in the array (slurm)",
    )  # fmt: skip
    p.add_argument("--threads", type=int, default=0, help="of each run; default: cores / runs")
    p.add_argument(
        "--retries", type=int, default=2,
        help="further tries of a run that was killed, lost or interrupted; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--address", type=given, help="of a Ray cluster; default: the one that runs here"
    )
    p.add_argument(
        "--gpus-per-run", type=float,
        help="part of a GPU for each run on Ray; default: by the memory that finished runs took",
    )  # fmt: skip
    p.add_argument(
        "--slurm", nargs="+", type=given_among_others, default=[], metavar="NAME=VALUE",
        help="options of sbatch or submitit: partition=gpu timeout_min=600 gpus_per_node=1",
    )  # fmt: skip
    p.add_argument("--list", action="store_true", help="print the runs and their states only")
    p.add_argument("opts", nargs="*", metavar="KEY VALUE", help="for every run")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sweep; returns the exit code.

    Raises:
        ConfigError: everything that is wrong in the arguments or in any of the runs.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["settle"]:
        from .settle import settle

        return settle(words[1:])
    args = parser().parse_intermixed_args(words)
    with stop_on_signal() as stop:
        check(args)
        asked, output = wanted(args)
        cells, notes = cells_of(asked)
        for note in notes:
            say(f"note: {note}")
        check_options(cells)
        finished = finished_of(cells)
        if args.list:
            return show(cells, finished)
        if args.launcher == "slurm":
            return submit(args, cells, finished, output)
        stop.deferred = True
        report = execute(args, cells, finished, stop)
    return conclude(cells, report, output, bool(asked.grid))


def check(args: argparse.Namespace) -> None:
    """Say everything that is wrong with the numbers.

    Raises:
        ConfigError: something is.
    """
    problems: list[str] = []
    for name, most in (("jobs", 10**4), ("threads", 10**4), ("retries", 1000)):
        check_range(getattr(args, name), 0, most, f"--{name}", problems, whole=True)
    if args.gpus_per_run is not None:
        check_range(args.gpus_per_run, 0, 64, "--gpus-per-run", problems)
    for pair in args.slurm:
        if "=" not in pair.strip("="):
            problems.append(f"--slurm {pair!r}: give NAME=VALUE, such as partition=gpu")
    if problems:
        raise ConfigError(problems)


def wanted(args: argparse.Namespace) -> tuple[Wanted, Path]:
    """What the flags, the YAML file and the environment ask for, in this order; OUTPUT."""
    env = {name: value for name, value in os.environ.items() if value}
    asked: dict[str, Any] = {"table": args.what, "options": {}, "grid": {}}
    if args.what not in TABLES:
        if not args.what.endswith((".yaml", ".yml")):
            problems: list[str] = []
            check_choice(args.what, TABLES, "the table", problems)
            raise ConfigError([f"{problem}; or give a .yaml" for problem in problems])
        asked |= {"table": "base2new"} | read_grid(args.what)
    for key, name in (LISTS | SINGLE).items():
        value = getattr(args, key, None) or asked.get(key)
        if value:
            env[name] = " ".join(value) if isinstance(value, list) else str(value)
    shots = args.shots or asked.get("shots")
    if shots and asked["table"] != "fewshot":
        env["SHOTS"] = " ".join(shots)
    here = ROOT if (ROOT / "train.py").is_file() else Path.cwd()  # a checkout, or installed
    output = Path(os.path.expanduser(env.get("OUTPUT") or here / "output")).resolve()
    env["OUTPUT"] = str(output)
    if here != ROOT:
        env.setdefault("DATA", str(here / "data"))
    trainers = (
        args.trainers
        or asked.get("trainers")
        or [env.get("TRAINER", _DEFAULT.get(asked["table"], "VPT"))]
    )
    pairs = [word for pair in asked["options"].items() for word in pair]
    new = Wanted(asked["table"], trainers, env, [*pairs, *args.opts], asked["grid"])
    if env.get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = env["GPU"]
    return new, output


def check_options(cells: Sequence[Cell]) -> None:
    """See to it that not all runs end with one error: one of each trainer and point is tried.

    Raises:
        ConfigError: everything that is wrong in their options.
    """
    from ..commands.train import check_arguments

    kinds = {(cell.flag("--trainer"), *cell.point.items()): cell for cell in reversed(cells)}
    problems: dict[str, None] = {}
    for cell in kinds.values():
        try:
            check_arguments(cell.argv)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def finished_of(cells: Sequence[Cell]) -> list[str]:
    """Names of those that are finished, as `varprompt.run.run.Run` tells.

    What ends with an error is not: its process will say which.
    """
    there = [cell for cell in cells if (cell.folder / "results.json").is_file()]
    if not there:
        return []
    from ..commands.train import is_finished

    found = []
    for cell in tqdm(there, "finished runs", disable=None, leave=False):
        try:
            if is_finished(cell.argv):
                found.append(cell.name)
        except (VarPromptError, OSError):
            continue
    return found


def pool_of(args: argparse.Namespace, memory: MemoryModel) -> Pool:
    """Where the cells are run."""
    if args.launcher == "ray":
        from .on_ray import RayPool

        return RayPool(args.address or "", memory, args.gpus_per_run, args.threads or 1)
    from ..images.workers import n_cpus
    from .local import LocalPool, places_here

    places = places_here(args.jobs)
    runs = sum(place.slots for place in places if not place.number) or len(places)
    threads = args.threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    return LocalPool(places, memory, threads or max(1, n_cpus() // runs))


def execute(
    args: argparse.Namespace, cells: Sequence[Cell], finished: Sequence[str], stop: StopRequest
) -> Report:
    """Run the cells with a progress bar."""
    memory = MemoryModel()
    memory.learn(cell for cell in cells if cell.name in set(finished))
    say(f"{len(cells)} runs, {len(finished)} of them finished before")
    if len(finished) == len(cells):
        return Report(list(finished))
    with tqdm(total=len(cells), initial=len(finished), unit="run", disable=None) as bar:

        def progress(cell: Cell, outcome: Outcome, again: bool) -> None:
            bar.update(not again)
            if outcome.code:
                then = "; tried again" if again else ""
                bar.clear()
                say(f"{'again' if again else 'failed'}: {cell.name}: {outcome.reason}{then}")

        scheduler = Scheduler(pool_of(args, memory), args.retries, stop, progress)
        return scheduler.run(cells, finished)


def submit(
    args: argparse.Namespace, cells: Sequence[Cell], finished: Sequence[str], output: Path
) -> int:
    """Submit what is not finished as an array of SLURM, and say how to look after it."""
    from .on_slurm import chains, submit

    options = dict(pair.split("=", 1) for pair in args.slurm)
    work = chains(cells, args.retries, args.threads or 1, finished)
    if not work:
        say(f"all {len(cells)} runs are finished")
        return 0
    jobs = submit(work, output / "slurm", options, args.jobs)
    say(f"{len(work)} tasks submitted: {jobs[0].job_id.partition('_')[0]}; --list shows how far")
    return 0
