"""How much memory a cell takes: as much as a finished run of its kind has taken.

Every run writes down the most it had (``memory`` in results.json). A kind of which none is
finished yet is not guessed: its first run gets a GPU of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..run.results import read_results
from .cells import Cell

_SPARE = 1.15  # runs of one kind differ a little, and memory is in pieces
_CONTEXT = 1 << 29  # bytes that a process has on a GPU besides what torch counts
_SIZES = ("peak_gpu_bytes", "gpu_bytes", "peak_host_bytes")


class MemoryModel:
    """Knows what kinds of cells take, from those that are finished."""

    def __init__(self) -> None:
        self._most: dict[tuple[str, ...], dict[str, int]] = {}

    def learn(self, cells: Iterable[Cell]) -> None:
        """Look at the results of cells that are finished."""
        for cell in cells:
            results = read_results(cell.folder) or {}
            memory = results.get("memory", results.get("resources"))  # it was there before 0.2.0
            if not isinstance(memory, Mapping):
                continue
            known = self._most.setdefault(cell.kind, {})
            for key in _SIZES:
                value = memory.get(key)
                if type(value) is int and value > 0:
                    known[key] = max(value, known.get(key, 0))

    def on_gpu(self, cell: Cell) -> int | None:
        """Bytes of a GPU that it takes; None = not known yet."""
        peak = self._most.get(cell.kind, {}).get("peak_gpu_bytes")
        return None if peak is None else int(_SPARE * peak) + _CONTEXT

    def on_host(self, cell: Cell) -> int | None:
        """Bytes of main memory that it takes; None = not known yet."""
        peak = self._most.get(cell.kind, {}).get("peak_host_bytes")
        return None if peak is None else int(_SPARE * peak)

    def gpu_share(self, cell: Cell) -> float:
        """Part of a GPU that it takes, in hundredths, rounded up; 1 = not known, or the most."""
        demand, total = self.on_gpu(cell), self._most.get(cell.kind, {}).get("gpu_bytes")
        if demand is None or not total or 2 * demand > total:
            return 1.0
        return max(1, -(-100 * demand // total)) / 100
