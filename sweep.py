"""Many runs, on GPUs, cores, a Ray cluster or SLURM: see ``python sweep.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = "varprompt.sweep.command"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when all runs are complete."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
