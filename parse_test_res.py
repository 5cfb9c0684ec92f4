"""Mean and spread of the results of one experiment: see ``python parse_test_res.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = "varprompt.report.experiment"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when something was found, 2 and one line when not."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
