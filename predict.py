"""What is on images, and how sure that is: see ``python predict.py --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

try:
    from varprompt.common.console import run_script, run_tool
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(130)

TOOL = "varprompt.predict.command"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 all images are classified, 1 some are unreadable, 2 bad input."""
    return run_tool(TOOL, argv)


if __name__ == "__main__":
    sys.exit(run_script(TOOL))
