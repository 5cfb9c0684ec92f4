"""One cell as a process: started, watched, stopped, and what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..run.interrupt import EXIT_RESUMABLE
from .cells import Cell

LOG = "sweep.txt"  # in the cell's folder: what its last process printed
EXIT_BAD_INPUT = 2  # train.py says why in one line; another try would say the same
COMMAND = (sys.executable, "-m", "varprompt.sweep.child")
PACKAGE = Path(__file__).resolve().parents[2]  # where `varprompt` is imported from
_TAIL = 4000  # bytes of a log that may hold the reason
_BUSY = "another run is writing to"
_FULL = ("the memory seems full", "out of memory")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        code: exit code of its process, negative = killed by that signal.
        reason: why it is not 0, in one line.
    """

    code: int
    reason: str = ""

    @property
    def again(self) -> bool:
        """Whether another try may end better: not of what the input is to blame for."""
        return self.code != EXIT_BAD_INPUT or self.busy or self.memory_full

    @property
    def interrupted(self) -> bool:
        """It was told to stop, and has saved its state."""
        return self.code == EXIT_RESUMABLE

    @property
    def busy(self) -> bool:
        """Another process, which may be about to end, has the folder."""
        return _BUSY in self.reason

    @property
    def memory_full(self) -> bool:
        """It needs more memory than it was given room for."""
        return any(text in self.reason for text in _FULL)


@dataclass
class Process:
    """The process of a cell.

    Args:
        cell: what it runs.
        env: variables on top of this process's own, such as CUDA_VISIBLE_DEVICES.
    """

    cell: Cell
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Process:
        """Start it; a new log replaces the one before.

        Raises:
            OSError: its folder cannot be made.
        """
        self.cell.folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
        with open(self.cell.folder / LOG, "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*COMMAND, str(os.getpid()), *self.cell.argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, **self.env},
                start_new_session=True,  # Ctrl-C in a terminal: only the sweep hears it
            )  # fmt: skip
        return self

    def poll(self) -> Outcome | None:
        """What became of it; None while it is running."""
        code = self._process.poll()
        return None if code is None else outcome(self.cell, code)

    def wait(self) -> Outcome:
        """Wait for its end."""
        return outcome(self.cell, self._process.wait())

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self._process.terminate()


def outcome(cell: Cell, code: int) -> Outcome:
    """The outcome of a process of `cell` that ended with `code`."""
    return Outcome(code, _reason(cell, code) if code else "")


def last_words(cell: Cell) -> str:
    """The last "error:" line in the log of a cell, else its last line; "" without a log."""
    try:
        with open(cell.folder / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")


def _reason(cell: Cell, code: int) -> str:
    if code == EXIT_RESUMABLE:
        return "interrupted; its state is saved"
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
        return f"killed by {name}{'; is the memory full?' if name == 'SIGKILL' else ''}"
    words = last_words(cell)
    return words or f"exit code {code}, without a word"
