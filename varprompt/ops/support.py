"""Whether this process can run the Triton kernels: found out once, when this is first imported.

Kernels draw other noise than the plain op does for the same seed. So a process must not change its
mind, and a run without them says so.
"""

import logging
import os
import shutil
import sysconfig
from pathlib import Path

_OLDEST = (3, 3)  # the kernels use tuples


def _find_problem() -> str:
    try:
        import triton
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST:
        return f"Triton is {triton.__version__}, older than 3.3"
    if os.environ.get("TRITON_INTERPRET") == "1":  # kernels run as Python, nothing is compiled
        return ""
    # Triton compiles the launcher of every kernel, which is C, on the user's machine
    if not any(map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))):
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").is_file():
        return "Python's headers (Python.h) are not installed"
    return ""


PROBLEM = _find_problem()
"""Why there are no kernels; empty if there are."""

if PROBLEM:
    logging.getLogger(__name__).warning(
        "no fused kernels: %s; the plain operations are used, whose noise differs for a seed",
        PROBLEM,
    )
