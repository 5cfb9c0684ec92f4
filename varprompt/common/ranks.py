"""The processes of one run: one alone, or as many as torchrun has started.

All of them go through the same steps with the same numbers; what is expensive they share out, and
only the first one writes. What they exchange goes through here: a process that is lost ends the
others with one message.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import VarPromptError, out_of_memory

T = TypeVar("T")
_PATIENCE = datetime.timedelta(hours=2)  # the first one may read a whole data set meanwhile
# Exchanges before the end. A thread of gloo that is the last to let go of a tensor needs Python's
# lock for it, which the end of the group keeps while it waits for that thread (torch 2.6). These
# give it time without the lock, and their own tensors are not let go of by the threads.
_LAST = 8
_LOST = (
    "another process of this run has ended or cannot be reached ({}); what was saved is whole: the "
    "same command goes on from the last state"
)


@dataclass(frozen=True)
class Ranks:
    """Who takes part in a run.

    Attributes:
        number: of this process, from 0.
        size: how many there are.
        beside: how many of them share this machine's processors and memory.
        control: torch.distributed's group for flags and objects, on the CPU; None = all.
    """

    number: int = 0
    size: int = 1
    beside: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0

    def share(self, total: int, unit: int = 1) -> slice:
        """This process's part of `total` rows, in whole units but for the last one."""
        return share(total, self.number, self.size, unit)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.size == 1:
            return flag
        found = torch.tensor(int(flag))
        _exchange(lambda dist: dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control))
        return bool(found)

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in all; the others do not call it."""
        if self.size == 1:
            return make()
        box = [make() if self.first else None]
        _exchange(lambda dist: dist.broadcast_object_list(box, group=self.control))
        return box[0]  # type: ignore[return-value]

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The others begin when the first one is through: it makes the files that they read."""
        if not self.first:
            self.any(False)
        yield
        if self.first:
            self.any(False)

    def gather(self, own: Tensor) -> list[Tensor]:
        """The tensors of all processes, which have one shape; without gradient."""
        if self.size == 1:
            return [own]
        pieces = [torch.empty_like(own) for _ in range(self.size)]
        _exchange(lambda dist: dist.all_gather(pieces, own.contiguous()))
        return pieces

    def all_of(self, own: T) -> list[T]:
        """What each process has, in their order."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size
        _exchange(lambda dist: dist.all_gather_object(found, own, group=self.control))
        return found

    def rows(self, work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """``work(rows)``, of which each process does its share; without gradient."""
        if self.size == 1 or len(rows) < self.size:
            return work(rows)
        parts = [share(len(rows), number, self.size) for number in range(self.size)]
        own = work(rows[parts[self.number]])
        padded = own.new_zeros(max(part.stop - part.start for part in parts), *own.shape[1:])
        padded[: len(own)] = own
        pieces = zip(self.gather(padded), parts, strict=True)
        return torch.cat([piece[: part.stop - part.start] for piece, part in pieces])

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.size > 1:
            tensor = tensor.contiguous()
            _exchange(lambda dist: dist.all_reduce(tensor))
        return tensor


ALONE = Ranks()
_current = ALONE


def ranks() -> Ranks:
    """Who takes part in the run of this process."""
    return _current


@contextmanager
def joined(use_cuda: bool) -> Iterator[Ranks]:
    """Take part in the run that torchrun has started this process for, if it has.

    Args:
        use_cuda: whether a process may have a GPU: the one that $LOCAL_RANK numbers.

    Raises:
        VarPromptError: the others do not answer, or there are fewer GPUs than processes.
    """
    global _current
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    import torch.distributed as dist

    local, beside = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    cuda = use_cuda and torch.cuda.is_available()
    if cuda:
        if beside > torch.cuda.device_count():
            raise VarPromptError(
                f"torchrun has started {beside} processes on {torch.cuda.device_count()} GPU(s): "
                "give --nproc_per_node the number of GPUs, or USE_CUDA False"
            )
        torch.cuda.set_device(local)
    _exchange(lambda dist: dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE))
    small = [torch.zeros(1) for _ in range(_LAST)]  # lives until the group has ended
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE) if cuda else None
        _current = Ranks(dist.get_rank(), dist.get_world_size(), beside, control)
        yield _current
        with suppress(VarPromptError):  # whoever is lost now has nothing left to say
            _exchange(lambda dist: [dist.all_reduce(own, group=control) for own in small])
    finally:
        _current = ALONE
        dist.destroy_process_group()


def share(total: int, number: int, size: int, unit: int = 1) -> slice:
    """Part `number` of `size` of `total` rows, in whole units but for the last one."""
    units = -(-total // unit)
    ends = (min(total, unit * (units * n // size)) for n in (number, number + 1))
    return slice(*ends)


def _exchange(work: Callable[[Any], Any]) -> None:
    import torch.distributed as dist

    try:
        work(dist)
    except RuntimeError as error:  # of gloo and NCCL alike
        if out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise VarPromptError(_LOST.format(reason[0][:200])) from error
