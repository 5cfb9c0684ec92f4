"""A log file that repeats what a run prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any


class StdoutTee:
    """Text stream that writes to the current stdout and appends to a file, line by line.

    Everything else that libraries ask a stream (isatty, fileno, encoding, ...) the console
    answers. It is never closed; closing the tee closes the file and puts the console back.
    What goes to ``.buffer`` or ``.fileno()`` directly is not in the file.
    """

    def __init__(self, path: str | os.PathLike):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._console = sys.stdout
        self._file = open(path, "a", buffering=1, encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_console"], name)

    def __enter__(self) -> StdoutTee:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, text: str) -> int:
        """Write to the console and, unless closed, to the file."""
        if not self._file.closed:
            self._file.write(text)
        return self._console.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush console and file."""
        self._console.flush()
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Close the file; stdout is the console again."""
        if sys.stdout is self:
            sys.stdout = self._console
        self._file.close()


def tee_stdout(path: str | os.PathLike) -> StdoutTee:
    """From now on everything printed is also appended to `path`, until the tee is closed."""
    tee = StdoutTee(path)
    sys.stdout = tee
    return tee
