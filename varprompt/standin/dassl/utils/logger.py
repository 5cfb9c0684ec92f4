"""The log file of a run."""

from __future__ import annotations

import os
import time

from varprompt.run.log import StdoutTee as Logger
from varprompt.run.log import tee_stdout

__all__ = ["Logger", "setup_logger"]


def setup_logger(output: str | None = None) -> None:
    """Repeat stdout in `output`, a .txt or .log file or else a folder for log.txt.

    An existing file is kept: the new one gets the time as a suffix. None does nothing.
    """
    if output is None:
        return
    path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(path):
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
    tee_stdout(path)
