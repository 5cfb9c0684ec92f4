"""Processes that keep a model and work in turn, so that a machine's moods meet all of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


class Process:
    """`serve(*args, pipe)` in a new process; it calls `answer` when its model stands."""

    def __init__(self, serve: Callable[..., None], *args: Any):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(*args, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that an end of the process is an end of the pipe

    def do(self, what: str) -> Any:
        """Let it work and wait.

        Raises:
            EOFError: it has ended; what it said is on the terminal.
        """
        self.pipe.send(what)
        return self.pipe.recv()

    def close(self) -> None:
        """Let it end."""
        self.pipe.close()
        self.process.join()


def answer(pipe: Any, work: Mapping[str, Callable[[], Any]]) -> None:
    """In the process: do what is asked for by name, until nobody asks any more."""
    with suppress(EOFError):
        while True:
            pipe.send(work[pipe.recv()]())
