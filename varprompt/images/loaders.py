"""Training batches whose order and augmentation are a function of (seed, epoch, image) alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
from collections.abc import Iterator, Sequence, Sized
from multiprocessing.connection import wait
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ..errors import DataError, VarPromptError

_GRACE = 60  # seconds that a terminated worker goes on
_NO_WORKERS = (
    "set DATALOADER.NUM_WORKERS 0 or lower, or make /dev/shm larger (docker run --shm-size 1g)"
)
_FUNERAL = 1.0  # seconds that the system may take to say how a worker has ended


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^31) for the purpose that `parts` name; unrelated for other parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def only_deterministic() -> None:
    """Make this process use torch's deterministic algorithms only; an operator without fails."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first use of CUDA
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def n_cpus() -> int:
    """Those that this process may use; all where the system does not tell (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_signals_to_parent(worker: int) -> None:
    """Set up a data loader's worker: the process that it works for decides what a signal means.

    Ctrl-C reaches workers, too, and so does the SIGTERM of a batch system. A worker that is
    terminated goes on for a while, so that the step can be finished and its state be saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows, where nothing sends SIGTERM either
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE))


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (index, seed of that item) in an order that `seed` and `epoch` decide.

    Set `epoch`, and `first_batch` to leave out what an interrupted epoch had already seen.

    Args:
        n_items: how many there are, and how many an epoch has.
        batch_size: items of a batch.
        seed: decides the order.
        labels: `(n_items,)` for balanced epochs, in which all classes are as frequent: the images
            of small classes come several times, of large ones a new part in each epoch.
    """

    def __init__(
        self, n_items: int, batch_size: int, seed: int, labels: Sequence[int] | None = None
    ):
        self.n_items = n_items
        self.batch_size = min(batch_size, n_items)  # a smaller set makes one short batch
        self.seed = seed
        self.labels = None if labels is None else torch.tensor(list(labels))
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        return self.n_items // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, "order"))
        order = self._order(generator).tolist()
        for batch in range(self.first_batch, len(self)):
            items = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(i, derive_seed(self.seed, self.epoch, i)) for i in items]

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        if self.labels is None:
            return torch.randperm(self.n_items, generator=generator)
        classes = self.labels.unique()
        share = -(-self.n_items // len(classes))
        drawn = []
        for label in classes:
            mine = (self.labels == label).nonzero()[:, 0]
            rounds = [torch.randperm(len(mine), generator=generator)
                      for _ in range(-(-share // len(mine)))]  # fmt: skip
            drawn.append(mine[torch.cat(rounds)[:share]])
        every = torch.cat(drawn)
        return every[torch.randperm(len(every), generator=generator)[: self.n_items]]


class SeededItems(Dataset):
    """Items of another data set, with the random generators seeded around each access.

    The result does not depend on the number of workers, and the generators of the process are
    left as they were.
    """

    def __init__(self, items: Dataset):
        self.items: Any = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        index, seed = key
        python, numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # leaves CUDA alone
            random.seed(seed)
            np.random.seed(seed)
            try:
                return self.items[index]
            finally:
                random.setstate(python)
                np.random.set_state(numpy)


class PlainLoader(DataLoader):
    """A loader that tells what became of its workers in one message, without their traceback."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # all that is used of it
        """Go through the batches.

        Raises:
            DataError: an item cannot be read.
            VarPromptError: a worker has ended before its time, or cannot do its work here.
            MemoryError: there was not enough memory for an item.
        """
        try:
            batches = super().__iter__()
        except OSError as error:  # no semaphore, no process
            if not self.num_workers:
                raise
            # the destructor of what was never completed asks for this
            _MultiProcessingDataLoaderIter._shutdown = True
            raise VarPromptError(
                f"{self.num_workers} data loader workers cannot be started ({error}): {_NO_WORKERS}"
            ) from error
        workers = getattr(batches, "_workers", ())
        failure: Exception
        try:
            yield from batches
            return
        except DataError as error:
            failure = DataError(_message(error))
        except MemoryError as error:
            failure = MemoryError(_message(error) or "out of memory while reading images")
        except (OSError, EOFError, RuntimeError) as error:  # whatever the torn connection led to
            death = _death_among(workers)
            if death:
                _forget_workers(batches)
            elif not (workers and _lack(error)):
                raise
            failure = VarPromptError(death or _lack(error))
        # here the error and its frames are gone, and with them the workers that they would keep
        del batches, workers
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
            "or set DATALOADER.NUM_WORKERS 0"
        )
    return ""


def _forget_workers(batches: Any) -> None:
    """Keep torch's handler of SIGCHLD from telling of a dead worker again and again."""
    if getattr(batches, "_worker_pids_set", False):
        batches._worker_pids_set = False
        with contextlib.suppress(Exception):
            torch._C._remove_worker_pids(id(batches))


def _death_among(workers: Sequence[Any]) -> str:
    """Which worker has ended before its time, and why most likely; "" if none has."""
    with contextlib.suppress(RuntimeError):  # torch's handler of SIGCHLD raises in the midst
        ready = wait([worker.sentinel for worker in workers], _FUNERAL)
        for worker in workers:
            if worker.sentinel in ready:  # its files are closed: it is as good as ended
                worker.join(_FUNERAL)
    ended = [(number, worker) for number, worker in enumerate(workers) if worker.exitcode]
    if not ended:
        return ""
    number, worker = ended[0]
    name = f"DataLoader worker {number} (process {worker.pid})"
    again = "The same command goes on from the last state"
    if worker.exitcode > 0:
        return f"{name} ended with code {worker.exitcode}; its error is above. {again}"
    try:
        cause = signal.Signals(-worker.exitcode).name
    except ValueError:
        cause = f"signal {-worker.exitcode}"
    reasons = {
        "SIGKILL": "the memory seems full; lower BATCH_SIZE or DATALOADER.NUM_WORKERS",
        "SIGBUS": f"the shared memory /dev/shm seems full; {_NO_WORKERS}",
        "SIGSEGV": "a library that decodes images has crashed; NUM_WORKERS 0 shows where",
    }
    return f"{name} was killed by {cause}: {reasons.get(cause, 'somebody ended it')}. {again}"


def end_workers(loader: DataLoader) -> None:
    """End a loader's persistent workers; those left when Python ends would be terminated."""
    iterator, loader._iterator = cast(Any, loader._iterator), None
    if iterator is not None:
        iterator._shutdown_workers()


def seeded_loader(
    loader: DataLoader, batch_size: int, seed: int, labels: Sequence[int] | None = None
) -> DataLoader:
    """`loader`'s items in `EpochBatches`; the sampler is the new loader's ``batch_sampler``."""
    n_workers = loader.num_workers
    return PlainLoader(
        SeededItems(loader.dataset),
        batch_sampler=EpochBatches(len(cast(Sized, loader.dataset)), batch_size, seed, labels),
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        pin_memory=loader.pin_memory,
        worker_init_fn=leave_signals_to_parent,
    )
