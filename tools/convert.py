"""Prompt checkpoints from this project's layout to CoOp's: ``python tools/convert.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = "varprompt.commands.convert"


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
