"""Ctrl-C and SIGTERM: training answers at the next step, everything else at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: run the same command again


class StopRequest:
    """True when a signal has arrived.

    Attributes:
        deferred: the first signal is only noted, for whoever asks; a second one, and any signal
            while this is False, raises SystemExit with `EXIT_RESUMABLE`.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.deferred = False

    def __bool__(self) -> bool:
        return self.signal != 0

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        first, self.signal = not self, number
        if not (first and self.deferred):
            raise SystemExit(EXIT_RESUMABLE)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Let a `StopRequest` handle SIGINT and SIGTERM."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    for s in previous:
        signal.signal(s, request)
    try:
        yield request
    finally:
        for s, old in previous.items():
            signal.signal(s, old)
