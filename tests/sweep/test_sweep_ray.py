"""What is tested on a Ray cluster, in a process of its own.

Ray's library does not survive a fork: workers of data loaders that are forked later in a process
that has loaded it crash.
"""

import subprocess
import sys
from pathlib import Path


def test_a_lost_node_changes_nothing():
    tests = Path(__file__).with_name("ray_cluster.py")
    options = ["-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
