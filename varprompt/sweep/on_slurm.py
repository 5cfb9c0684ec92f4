"""Cells as an array of SLURM, written and submitted by submitit; survives requeueing.

A task of the array is a training with its tests, so no task waits for another. When SLURM takes the
node away (preemption, the end of the time), submitit is told some moments before: the run saves its
state, the task goes back into the queue, and what is finished by then is not run again.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..run.interrupt import StopRequest
from .cells import Cell
from .local import LocalPool, Place
from .memory import MemoryModel
from .schedule import Scheduler
from .work import PACKAGE

# Parameters that submitit calls the same for every cluster; others are sbatch's.
_SHARED = {"name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node"}
_DEFAULT = {"name": "varprompt", "timeout_min": 24 * 60, "gpus_per_node": 1, "cpus_per_task": 4}
_ENOUGH = 1 << 60  # bytes: a task has its device for itself


@dataclass
class Chain:
    """A training and its tests: what one task of the array runs, one after the other.

    Attributes:
        cells: the training first.
        retries: as of `Scheduler`.
        threads: of each run.
    """

    cells: Sequence[Cell]
    retries: int
    threads: int
    stop: StopRequest = field(default_factory=StopRequest)

    def __call__(self) -> dict[str, str]:
        """Run them; returns why some failed, by name.

        Raises:
            RuntimeError: some did: SLURM shall count the task as failed, too.
        """
        self.pool = LocalPool([Place("", _ENOUGH, 1)], MemoryModel(), self.threads)
        report = Scheduler(self.pool, self.retries, self.stop, lambda *_: None).run(self.cells)
        if report.failed:
            lines = (f"{name}: {reason}" for name, reason in report.failed.items())
            raise RuntimeError("failed: " + "; ".join(lines))
        return report.failed

    def checkpoint(self) -> Any:
        """Have the run save its state; returns what is submitted again (called by submitit)."""
        submitit = importlib.import_module("submitit.helpers")
        self.pool.end()
        return submitit.DelayedSubmission(Chain(self.cells, self.retries, self.threads))


def chains(
    cells: Iterable[Cell], retries: int, threads: int, finished: Iterable[str]
) -> list[Chain]:
    """Each training with its tests, without what is finished."""
    done = set(finished)
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.name not in done:
            found.setdefault(cell.needs or cell.name, []).append(cell)
    return [Chain(each, retries, threads) for each in found.values()]


def submit(
    work: Sequence[Chain], folder: Path, options: Mapping[str, str], jobs: int,
    cluster: str = "slurm",
) -> list[Any]:  # fmt: skip
    """Submit an array with a task for each chain; returns submitit's jobs.

    Args:
        work: the chains.
        folder: of submitit's files and of what tasks print.
        options: of submitit or sbatch, such as partition, timeout_min, account.
        jobs: tasks at a time at most, 0 = all.
        cluster: "slurm"; "local" runs them as processes here.

    Raises:
        ConfigError: submitit or SLURM is not there, or refuses an option.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "--launcher slurm needs the package submitit: pip install 'varprompt[slurm]'"
        ) from error
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise ConfigError("--launcher slurm needs SLURM's sbatch, which is not on PATH here")
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONPATH"] = path  # sbatch hands it on
    executor = submitit.AutoExecutor(folder=str(folder / "%j"), cluster=cluster)
    try:
        executor.update_parameters(**_parameters(options, jobs or len(work)))
        with executor.batch():
            submitted = [executor.submit(chain) for chain in work]
    except (NameError, ValueError, TypeError, submitit.core.utils.FailedJobError) as error:
        raise ConfigError(f"the array cannot be submitted: {error}") from error
    return submitted


def _parameters(options: Mapping[str, str], jobs: int) -> dict[str, Any]:
    """Parameters of submitit's AutoExecutor."""
    given = {k: int(v) if v.isdecimal() else v for k, v in options.items()}
    found: dict[str, Any] = _DEFAULT | {k: v for k, v in given.items() if k in _SHARED}
    more = {k: v for k, v in given.items() if k not in _SHARED}
    found["slurm_array_parallelism"] = jobs
    if "partition" in more:
        found["slurm_partition"] = more.pop("partition")
    if more:
        found["slurm_additional_parameters"] = more
    return found
