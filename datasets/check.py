"""The command that says which data sets are there: ``python -m datasets.check --help``."""

import sys
from collections.abc import Sequence

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = f"{__package__}.inspection"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and the gaps; return the exit code."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
