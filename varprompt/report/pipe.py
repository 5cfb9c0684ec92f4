"""Command lines whose reader may stop early, as in `report.py output | head`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def run_quietly(main: Callable[[], int]) -> int:
    """The exit code of `main`, or 1 without a traceback when nobody reads its output any more."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at its end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
