"""The command that gets data sets from the network: ``python -m datasets.fetch --help``."""

import sys
from collections.abc import Sequence

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = f"{__package__}.fetching"


def main(argv: Sequence[str] | None = None) -> int:
    """Get what was asked for; return the exit code."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
