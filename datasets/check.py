"""The command that says which data sets are there: ``python -m datasets.check --help``."""

import sys
from collections.abc import Sequence

from varprompt.console import run_script, run_tool

TOOL = f"{__package__}.inspection"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and the gaps; return the exit code."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
