"""Mean and spread of the results of one experiment: see ``python parse_test_res.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from varprompt.console import run_script, run_tool

TOOL = "varprompt.report.experiment"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when something was found, 2 and one line when not."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
