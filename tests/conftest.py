"""The checkout's packages first, then the Dassl that DASSL_ROOT names, else the stand-in."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if os.environ.get("DASSL_ROOT"):
    sys.path.insert(1, os.environ["DASSL_ROOT"])

from varprompt.standin.which import ensure_dassl  # noqa: E402 - found by the lines above

ensure_dassl()


def pytest_configure(config):
    """Only tests marked cuda see a GPU: the others fork, and compare runs bit for bit."""
    if config.getoption("markexpr") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
