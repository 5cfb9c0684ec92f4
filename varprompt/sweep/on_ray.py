"""Cells as tasks of a Ray cluster, on parts of its GPUs; survives lost workers and nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError
from ..run.interrupt import EXIT_RESUMABLE
from .cells import Cell
from .memory import MemoryModel
from .work import PACKAGE, Outcome, Process

_LOST = "lost with its worker or node"
_WAIT = 0.2  # seconds for a task to end


class RayPool:
    """Runs cells on the nodes of a cluster, which see the same folders under the same paths.

    Args:
        address: of the cluster; "" = $RAY_ADDRESS or the one that runs here, else a new one of
            this machine alone.
        memory: what cells take.
        gpus: part of a GPU for each run; None = by measured memory, 0 = none.
        cpus: cores for each run.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str, memory: MemoryModel, gpus: float | None, cpus: int):
        self.memory, self.gpus, self.cpus = memory, gpus, cpus
        self._ray = connected(address)
        self._task = self._ray.remote(max_retries=0)(run_cell)  # the scheduler decides that
        self._running: dict[Any, tuple[Cell, float]] = {}

    def start(self, cell: Cell, alone: bool) -> bool:
        """Submit it if the cluster has room for it, as far as this sweep knows."""
        total = self._ray.cluster_resources()
        gpus = self._gpus(cell, alone, total)
        taken = sum(gpus for _, gpus in self._running.values())
        if gpus and taken + gpus > total.get("GPU", 0):
            return False
        if (1 + len(self._running)) * self.cpus > total.get("CPU", 0):
            return False
        task = self._task.options(num_cpus=self.cpus, num_gpus=gpus)
        env = {"OMP_NUM_THREADS": str(self.cpus)}
        self._running[task.remote(cell, env)] = cell, gpus
        return True

    def _gpus(self, cell: Cell, alone: bool, total: dict[str, float]) -> float:
        if self.gpus is not None:
            return self.gpus
        if not total.get("GPU"):
            return 0.0
        return 1.0 if alone else self.memory.gpu_share(cell)

    def ended(self) -> Iterator[tuple[Cell, Outcome]]:
        """Those that have ended or were lost."""
        if not self._running:
            return
        running = list(self._running)
        ready, _ = self._ray.wait(running, num_returns=len(running), timeout=_WAIT)
        for ref in ready:
            cell, _ = self._running.pop(ref)
            outcome = self._outcome(ref)
            if outcome.code == 0:
                self.memory.learn([cell])
            yield cell, outcome

    def _outcome(self, ref: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.TaskCancelledError:
            return Outcome(EXIT_RESUMABLE, "interrupted")
        except errors.RayTaskError as error:  # the task itself: a folder that cannot be made
            return Outcome(1, str(error.cause))
        except errors.RayError as error:
            return Outcome(1, f"{_LOST} ({type(error).__name__})")

    def stop(self) -> None:
        """Ask all to end."""
        for ref in self._running:
            self._ray.cancel(ref)


def run_cell(cell: Cell, env: dict[str, str]) -> Outcome:
    """On a worker: run a cell to its end; a cancelled one saves its state first."""
    process = Process(cell, env).start()
    try:
        return process.wait()
    except KeyboardInterrupt:  # what Ray makes of a cancellation
        process.stop()
        return process.wait()


def connected(address: str) -> Any:
    """The module ray, connected to a cluster.

    Raises:
        ConfigError: it is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--launcher ray needs the package ray: pip install 'varprompt[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    try:
        if address:
            ray.init(address=address, **options)
        else:
            try:
                ray.init(address="auto", **options)
            except ConnectionError:  # none runs here
                ray.init(include_dashboard=False, **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"no Ray cluster answers at {address or 'this machine'}: {first}") from (
            error
        )
    return ray
