"""The processes that read images: how many, how they end, and what is said if one cannot go on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ..common.checks import check_range
from ..errors import ConfigError, DataError, VarPromptError

_GRACE = 60  # seconds that a terminated worker goes on
_ELSEWHERE = "(--workers, n_workers)"  # what DATALOADER.NUM_WORKERS of train.py is called there
_NO_WORKERS = (
    f"set DATALOADER.NUM_WORKERS {_ELSEWHERE} 0 or lower, or make /dev/shm larger (docker run "
    "--shm-size 1g)"
)
_FUNERAL = 1.0  # seconds that the system may take to say how a worker has ended
# what the destructor of one asks for whose making was interrupted, by a signal or a full disk
_MultiProcessingDataLoaderIter._shutdown = True


def n_cpus() -> int:
    """Those that this process may use; all where the system does not tell (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_readers(n_workers: int) -> int:
    """Of processes that are asked for to read images as many as there are CPUs.

    Raises:
        ConfigError: that is no number of processes.
    """
    problems: list[str] = []
    check_range(n_workers, 0, 1000, "n_workers", problems, whole=True)
    if problems:
        raise ConfigError(problems)
    return min(n_workers, n_cpus())


def set_up_worker(worker: int) -> None:
    """Set up a data loader's worker: the process that it works for decides what a signal means.

    Ctrl-C and the end of a terminal reach workers, too, and so does the SIGTERM of a batch system.
    A worker that is terminated goes on for a while, so that the step can be finished and its state
    be saved.

    A worker hands its tensors over in a thread of its own. If the process that it works for is
    killed at that moment, the connection is torn; that is nobody's error, and nothing is printed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows, where nothing sends SIGTERM either
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE))
    report = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and issubclass(kind, (OSError, EOFError)):
            end = time.monotonic() + _FUNERAL
            # parent.is_alive() asks a pipe that a later worker holds open, too
            while os.getppid() == parent.pid and time.monotonic() < end:
                time.sleep(0.01)
            if os.getppid() != parent.pid:
                return
        report(kind, error, trace)

    sys.excepthook = hook


def start_of_workers(n_workers: int) -> str | None:
    """How to start a data loader's workers; None = as Python does by default.

    A fork has the data set's modules, plug-ins and Dassl's stand-in among them, and the images'
    list without a copy. Python 3.14 starts another way by default, from an empty process.
    """
    return "fork" if n_workers and sys.platform == "linux" else None


class PlainLoader(DataLoader):
    """A loader that tells what became of its workers in one message, without their traceback.

    Workers end with the last batch, or with an error or as soon as nobody wants another batch;
    persistent ones stay after a whole pass. Arguments are torch's, but for how workers start.

    The death of a worker is an error of the next batch, which may come some seconds later. Torch's
    handler of SIGCHLD would raise at once, in the midst of whatever this process does.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int = 1, *, num_workers: int = 0, **options: Any
    ):
        super().__init__(
            dataset, batch_size, num_workers=num_workers, worker_init_fn=set_up_worker,
            multiprocessing_context=start_of_workers(num_workers), **options,
        )  # fmt: skip

    def __iter__(self) -> Generator[Any, None, None]:  # type: ignore[override] # all that is used of it
        """Go through the batches.

        Raises:
            DataError: an item cannot be read.
            VarPromptError: a worker has ended before its time, or cannot do its work here.
            MemoryError: there was not enough memory for an item.
        """
        try:
            batches: Any = super().__iter__()
        except OSError as error:  # no semaphore, no process
            if not self.num_workers:
                raise
            raise VarPromptError(
                f"{self.num_workers} data loader workers cannot be started ({error}): {_NO_WORKERS}"
            ) from error
        if getattr(batches, "_worker_pids_set", False):
            batches._worker_pids_set = False
            torch._C._remove_worker_pids(id(batches))
        workers, stay = getattr(batches, "_workers", ()), False
        failure: Exception
        try:
            yield from batches
            stay = self.persistent_workers
            return
        except DataError as error:
            failure = DataError(_message(error))
        except MemoryError as error:
            failure = MemoryError(_message(error) or "out of memory while reading images")
        except (OSError, EOFError, RuntimeError) as error:  # whatever the torn connection led to
            death = _death_among(workers)
            if not (death or (workers and _lack(error))):
                raise
            failure = VarPromptError(death or _lack(error))
        finally:  # not left to the garbage collector, which ends the queues first and then waits
            if workers and not stay:
                self._iterator = None
                batches._shutdown_workers()
        raise failure


def _message(error: Exception) -> str:
    """What an error says, without the traceback of a worker that stands before it."""
    names = (f"{DataError.__module__}.DataError", "MemoryError")
    text = str(error)
    for name in names:
        *_, text = text.rpartition(f"\n{name}: ")
    return "" if text.startswith("Caught ") else text.rstrip()


def _lack(error: Exception) -> str:
    """What workers and this process lack to hand over batches; "" if it is something else."""
    text = str(error)
    if "shared memory" in text or "/torch_" in text:
        reason = text.rstrip().splitlines()[-1].rpartition("Error: ")[2]
        return f"the shared memory /dev/shm seems full ({reason}): {_NO_WORKERS}"
    if "ancdata" in text or "Too many open files" in text:
        return (
            "too many files are open for data loader workers: raise the limit (ulimit -n 65536), "
            f"or set DATALOADER.NUM_WORKERS {_ELSEWHERE} 0"
        )
    return ""


def _death_among(workers: Sequence[Any]) -> str:
    """Which worker has ended before its time, and why most likely; "" if none has."""
    ready = wait([worker.sentinel for worker in workers], _FUNERAL)
    for worker in workers:
        if worker.sentinel in ready:  # its files are closed: it is as good as ended
            worker.join(_FUNERAL)
    ended = [(number, worker) for number, worker in enumerate(workers) if worker.exitcode]
    if not ended:
        return ""
    number, worker = ended[0]
    name = f"DataLoader worker {number} (process {worker.pid})"
    again = "Do the same again; a run of train.py goes on from its last state"
    if worker.exitcode > 0:
        return f"{name} ended with code {worker.exitcode}; its error is above. {again}"
    try:
        cause = signal.Signals(-worker.exitcode).name
    except ValueError:
        cause = f"signal {-worker.exitcode}"
    reasons = {
        "SIGKILL": "the memory seems full; lower BATCH_SIZE or DATALOADER.NUM_WORKERS "
        f"{_ELSEWHERE}",
        "SIGBUS": f"the shared memory /dev/shm seems full; {_NO_WORKERS}",
        "SIGSEGV": "a library that decodes images has crashed; without workers you see where",
    }
    return f"{name} was killed by {cause}: {reasons.get(cause, 'somebody ended it')}. {again}"


def end_workers(loader: DataLoader) -> None:
    """End a loader's persistent workers; those left when Python ends would be terminated."""
    iterator, loader._iterator = cast(Any, loader._iterator), None
    if iterator is not None:
        iterator._shutdown_workers()
