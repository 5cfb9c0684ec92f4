"""A run as a process of its own, which does not outlive the process that started it.

    python -m varprompt.sweep.child PARENT ARGUMENTS OF train.py

A worker or node of a cluster that is lost would leave its run behind, and that would keep the lock
of the output folder. So the run ends itself when its parent is gone: as by SIGTERM, with its state.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_EVERY = 0.5  # seconds between two looks at who the parent is


def main(argv: list[str]) -> int:
    """Run train.py with ``argv[1:]`` as long as ``argv[0]`` is the parent's number."""
    parent = int(argv[0])
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    from varprompt.commands.train import main as train

    return train(argv[1:])


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
