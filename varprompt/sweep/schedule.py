"""Which cell is started when: trainings before their tests, again after a loss, none forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..run.interrupt import StopRequest
from .cells import Cell
from .work import Outcome

NEEDED = "not run: its training failed"
_PAUSE = 0.05  # seconds between two looks at the cells that run
_BUSY_PAUSE = 2.0  # before a folder that another process holds is tried again


class Pool(Protocol):
    """Where cells are run."""

    def start(self, cell: Cell, alone: bool) -> bool:
        """Start `cell` if there is room; with `alone`, on a device that nobody shares."""

    def ended(self) -> Iterable[tuple[Cell, Outcome]]:
        """The cells that have ended since the last call; may wait a moment."""

    def stop(self) -> None:
        """Ask the running cells to save their states and end."""


@dataclass
class Report:
    """What became of all cells.

    Attributes:
        done: names of those that are complete, of those that were complete before, too.
        failed: name -> reason.
        interrupted: whether the sweep was stopped before its end.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class _Waiting:
    cell: Cell
    tries: int = 0
    not_before: float = 0.0
    alone: bool = False


class Scheduler:
    """Runs cells in a pool.

    Args:
        pool: runs them.
        retries: how often a cell is started again that was killed, lost or interrupted, or that
            found its folder busy or the memory full. Bad input is not tried again.
        stop: becomes true when the sweep shall end.
        progress: told ``(cell, outcome, whether it is tried again)`` of every end.
    """

    def __init__(
        self, pool: Pool, retries: int, stop: StopRequest,
        progress: Callable[[Cell, Outcome, bool], None],
    ):  # fmt: skip
        self.pool, self.retries, self.stop, self.progress = pool, retries, stop, progress
        self.report = Report()
        self._waiting: list[_Waiting] = []
        self._running: dict[str, _Waiting] = {}

    def run(self, cells: Sequence[Cell], finished: Iterable[str] = ()) -> Report:
        """Run all cells but those that are `finished`; returns when none runs any more."""
        self.report.done += finished
        done = set(self.report.done)
        self._waiting = [_Waiting(cell) for cell in cells if cell.name not in done]
        while (self._waiting and not self.stop) or self._running:
            if self.stop and not self.report.interrupted:
                self.report.interrupted = True
                self.pool.stop()
            if not self.stop:
                self._start()
            ended = list(self.pool.ended())
            for cell, outcome in ended:
                self._take(self._running.pop(cell.name), outcome)
            if not ended:
                time.sleep(_PAUSE)
        self.report.interrupted |= bool(self.stop)
        return self.report

    def _start(self) -> None:
        """Start what can be, in order; a test comes when its training is there."""
        ahead = {w.cell.name for w in self._waiting} | self._running.keys()
        now = time.monotonic()
        for waiting in list(self._waiting):
            cell = waiting.cell
            if cell.needs in self.report.failed:
                self._waiting.remove(waiting)
                self._fail(waiting, Outcome(1, NEEDED))
            elif (
                cell.needs not in ahead
                and waiting.not_before <= now
                and self.pool.start(cell, waiting.alone)
            ):
                self._waiting.remove(waiting)
                self._running[cell.name] = waiting

    def _take(self, waiting: _Waiting, outcome: Outcome) -> None:
        if outcome.code == 0:
            self.report.done.append(waiting.cell.name)
            self.progress(waiting.cell, outcome, False)
        elif self.stop and outcome.interrupted:
            return
        elif outcome.again and waiting.tries < self.retries:
            waiting.tries += 1
            waiting.alone |= outcome.memory_full
            waiting.not_before = time.monotonic() + _BUSY_PAUSE * outcome.busy
            self._waiting.insert(0, waiting)
            self.progress(waiting.cell, outcome, True)
        else:
            self._fail(waiting, outcome)

    def _fail(self, waiting: _Waiting, outcome: Outcome) -> None:
        self.report.failed[waiting.cell.name] = outcome.reason
        self.progress(waiting.cell, outcome, False)
