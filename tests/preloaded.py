"""Imported by the process that runs for the tests of signals are forked from."""

import os
import sys

if os.environ.get("DASSL_ROOT"):
    sys.path.insert(1, os.environ["DASSL_ROOT"])

from benchmarks import survival

survival.preload()
