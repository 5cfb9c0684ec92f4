"""The checkout's packages first, then the Dassl that DASSL_ROOT names, else the stand-in.

Tests run in any order and beside each other (pytest-randomly, pytest-xdist): what one changes in
its process is put back, and each starts from the same state of the generators.
"""

import logging
import os
import random
import signal
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if os.environ.get("DASSL_ROOT"):
    sys.path.insert(1, os.environ["DASSL_ROOT"])

from range_server import range_server  # noqa: E402, F401 - a fixture for all

from varprompt.standin.which import ensure_dassl  # noqa: E402 - found by the lines above

ensure_dassl()

# the same examples in every run, however slow the machine is at that moment
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config):
    """Only tests marked cuda see a GPU: the others fork, and compare runs bit for bit.

    Under nohup SIGHUP is ignored, and so it would be in what the tests start.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if config.getoption("markexpr") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish():
    """Importing the command line, as some tests do, takes the signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def process_as_it_was():
    """Seed every generator; put back environment, folder, signal handlers, torch's switches."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    environment, folder, cudnn = dict(os.environ), os.getcwd(), torch.backends.cudnn
    switches = cudnn.benchmark, cudnn.deterministic
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark, cudnn.deterministic = switches
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def stand_in() -> bool:
    """Whether the stand-in is active, not the real Dassl."""
    import dassl

    return "standin" in Path(dassl.__file__).parts
