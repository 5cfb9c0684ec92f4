"""Ctrl-C and SIGTERM: training answers at the next step, everything else at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..common.console import EXIT_RESUMABLE, ends_politely, reason_for, say

INTERRUPTED = "interrupted: the same command goes on from the last state"
_AGAIN = 0.05  # seconds until a lost exception is raised again


class StopRequest:
    """True when a signal has arrived.

    Attributes:
        deferred: the first signal is only noted, for whoever asks; a second one, and any signal
            while this is False, raises SystemExit with `EXIT_RESUMABLE`.
        importing: a signal ends the process on the spot. Out of an import an exception may come
            as another one (an ImportError of numpy, say), and there is nothing to lose yet.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.deferred = False
        self.importing = False

    def __bool__(self) -> bool:
        return self.signal != 0

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        again = number == getattr(signal, "SIGALRM", None)
        first = not self
        self.signal = self.signal if again else number
        if self.importing:
            os.write(2, f"{INTERRUPTED}\n".encode())
            os._exit(EXIT_RESUMABLE)
        if again or not (first and self.deferred):
            raise SystemExit(EXIT_RESUMABLE)

    def raise_again(self) -> None:
        """See to it that the SystemExit that got lost is raised once more, a moment later."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:  # Windows, which has no fork whose hooks could lose it
            timer = threading.Timer(_AGAIN, signal.raise_signal, [self.signal])
            timer.daemon = True
            timer.start()


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Let a `StopRequest` handle SIGINT, SIGTERM and, of a terminal that is gone, SIGHUP.

    Python drops exceptions that are raised in the hooks of a fork, in destructors and in some
    callbacks of libraries. A SystemExit that is lost there is raised again.

    Once a signal has arrived, an error is told in one line and ends with the code for a stop, too:
    most likely it comes of the signal, as with a worker that has heard it. If not, the same
    command will meet it again.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    numbers = [signal.SIGINT, *ends_politely()]
    if hasattr(signal, "SIGALRM"):
        numbers.append(signal.SIGALRM)
    previous = {number: signal.getsignal(number) for number in numbers}
    report = sys.unraisablehook

    def report_or_raise_again(lost: Any) -> None:
        if request and lost.exc_type is SystemExit:
            request.raise_again()
        else:
            report(lost)

    sys.unraisablehook = report_or_raise_again
    for number in numbers:
        signal.signal(number, request)
    try:
        yield request
    except Exception as error:
        if not request:
            raise
        say(f"error: {reason_for(error)}")
        raise SystemExit(EXIT_RESUMABLE) from error
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for number, old in previous.items():
            signal.signal(number, old)
