"""What a run prints: also in its log file, and never a reason for the run to end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

from ..common.streams import let_go_of_broken_streams, open_standard_numbers


class SafeStream:
    """Text stream that writes to a console, whatever becomes of that.

    What is written to a console that is gone (closed, its reader or its window ended, its disk
    full) is lost; characters that it does not know are escaped. Everything else that libraries ask
    a stream (isatty, fileno, encoding, ...) the console answers. It is never closed.
    """

    def __init__(self, console: TextIO):
        self._console = console

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_console"], name)

    def write(self, text: str) -> int:
        """Write to the console."""
        _say(self._console, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the console."""
        with contextlib.suppress(OSError, ValueError):
            self._console.flush()


class StdoutTee(SafeStream):
    """Text stream that writes to the current stdout and appends to a file, line by line.

    Closing the tee closes the file and puts the console back. What goes to ``.buffer`` or
    ``.fileno()`` directly is not in the file. A file that cannot be written to (a full disk) ends
    the log, and the console is told.
    """

    def __init__(self, path: str | os.PathLike):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(sys.stdout)
        # names of files may be bytes that are no text: they are escaped, not refused
        self._file = open(path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")

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
        super().write(text)
        if not self._file.closed:
            try:
                self._file.write(text)
            except OSError as error:
                self._end_file(error)
        return len(text)

    def _end_file(self, error: OSError) -> None:
        with contextlib.suppress(OSError):  # closing writes what is left, which fails again
            self._file.close()
        _say(self._console, f"The log file ends here: {error}\n")

    def flush(self) -> None:
        """Flush console and file."""
        super().flush()
        if not self._file.closed:
            try:
                self._file.flush()
            except OSError as error:
                self._end_file(error)

    def close(self) -> None:
        """Close the file; stdout is the console again."""
        if sys.stdout is self:
            sys.stdout = self._console
        with contextlib.suppress(OSError):
            self._file.close()


def _say(console: TextIO, text: str) -> None:
    """Write to a console that may be gone, or may not know all characters."""
    try:
        console.write(text)
    except UnicodeEncodeError:
        encoding = getattr(console, "encoding", None) or "ascii"
        _say(console, text.encode(encoding, "backslashreplace").decode(encoding))
    except (OSError, ValueError):  # its reader has ended, or it is closed
        return


def open_standard_streams() -> None:
    """Give a process whose stdout or stderr is closed (``>&-``) one that leads nowhere."""
    open_standard_numbers()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Make standard output and error a `SafeStream` each, for bars, warnings and error lines."""
    open_standard_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast(TextIO, SafeStream(before[0])),
        cast(TextIO, SafeStream(before[1])),
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        let_go_of_broken_streams()


@contextlib.contextmanager
def quiet_writer_threads() -> Iterator[None]:
    """Say in one line what a thread that writes TensorBoard's file died of, without a traceback."""
    report = threading.excepthook

    def one_line(ended: threading.ExceptHookArgs) -> None:
        if isinstance(ended.exc_value, OSError):
            print(f"TensorBoard's curves end here: {ended.exc_value}", flush=True)  # noqa: T201
        else:
            report(ended)

    threading.excepthook = one_line
    try:
        yield
    finally:
        threading.excepthook = report


def tee_stdout(path: str | os.PathLike) -> StdoutTee:
    """From now on everything printed is also appended to `path`, until the tee is closed."""
    tee = StdoutTee(path)
    sys.stdout = tee
    return tee
