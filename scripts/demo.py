"""The demo of ``varprompt/commands/demo.py``, from a checkout."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # instead of scripts/

from varprompt.common.console import run_script  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_script("varprompt.commands.demo"))
