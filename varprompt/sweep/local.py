"""Cells as processes of this machine: several on a GPU if they fit, else one on each core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .cells import Cell
from .memory import MemoryModel
from .work import Outcome, Process

_MOST = 16  # runs on a GPU at a time, however small: they share its cores, too


@dataclass
class Place:
    """A device.

    Attributes:
        number: of the GPU, as CUDA_VISIBLE_DEVICES has it; "" = the CPU.
        memory: bytes that may be taken.
        slots: runs at a time at most.
        taken: name of a running cell -> bytes that it has room for.
    """

    number: str
    memory: int
    slots: int
    taken: dict[str, int] = field(default_factory=dict)

    def room(self, demand: int | None, alone: bool) -> int | None:
        """Bytes that a cell of this `demand` would take here; None = there is no room."""
        if alone or (demand is None and self.number):
            demand = self.memory
        demand = min(demand or 0, self.memory)
        if len(self.taken) >= self.slots or sum(self.taken.values()) + demand > self.memory:
            return None
        return demand


class LocalPool:
    """Runs cells on places.

    Args:
        places: the devices.
        memory: what cells take.
        threads: of each process.
    """

    def __init__(self, places: Sequence[Place], memory: MemoryModel, threads: int):
        self.places, self.memory, self.threads = places, memory, threads
        self._running: dict[str, tuple[Process, Place]] = {}

    def start(self, cell: Cell, alone: bool) -> bool:
        """Start it on the place with the fewest runs that has room."""
        on_gpu = any(place.number for place in self.places)
        demand = (self.memory.on_gpu if on_gpu else self.memory.on_host)(cell)
        for place in sorted(self.places, key=lambda place: len(place.taken)):
            room = place.room(demand, alone)
            if room is not None:
                env = {"OMP_NUM_THREADS": str(self.threads)}
                env |= {"CUDA_VISIBLE_DEVICES": place.number} if place.number else {}
                self._running[cell.name] = Process(cell, env).start(), place
                place.taken[cell.name] = room
                return True
        return False

    def ended(self) -> Iterator[tuple[Cell, Outcome]]:
        """Those that have ended."""
        for name, (process, place) in list(self._running.items()):
            outcome = process.poll()
            if outcome is not None:
                del self._running[name], place.taken[name]
                if outcome.code == 0:
                    self.memory.learn([process.cell])
                yield process.cell, outcome

    def stop(self) -> None:
        """Ask all to end."""
        for process, _ in self._running.values():
            process.stop()

    def end(self) -> None:
        """Ask all to end and wait until they have."""
        self.stop()
        for process, _ in self._running.values():
            process.wait()


def places_here(jobs: int = 0) -> list[Place]:
    """The GPUs of this machine, or its CPU.

    Args:
        jobs: runs at a time on each device at most; 0 = on a GPU as many as fit, on the CPU one
            for each core.
    """
    import torch

    from ..images.workers import n_cpus
    from ..towers.memory import free_memory

    count = torch.cuda.device_count()
    if not count:
        return [Place("", free_memory(torch.device("cpu")), jobs or n_cpus())]
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or "").split(",")
    names = visible if len(visible) == count and visible[0] else list(map(str, range(count)))
    sizes = (torch.cuda.get_device_properties(i).total_memory for i in range(count))
    return [Place(name, size, jobs or _MOST) for name, size in zip(names, sizes, strict=True)]
