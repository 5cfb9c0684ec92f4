"""The output folder of a run: one process at a time, no remains of killed ones, one seed."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..common.files import remove_unfinished, write_atomic
from ..errors import ConfigError

MODEL_FOLDER = "prompt_learner"
OTHER_MODEL_FOLDERS = ("MultiModalPromptLearner", "VLPromptLearner")  # MaPLe's, PromptSRC's
RESUME, RESUME_BEFORE = "resume.pth.tar", "resume-before.pth.tar"
RESULTS, INVENTORY = "results.json", "identity.json"
CALIBRATION, HELD_OUT = "calibration.json", "held_out.json"
_LOCK, _HOLDER, _SEED = ".lock", ".holder", ".seed"
# Names of the files that a run writes; what is called otherwise belongs to somebody else.
OWN_FILES = re.compile(
    r"results\.json|identity\.json|calibration\.json|held_out\.json|predictions\.(csv|parquet)|\.holder|\.seed|"
    r"cmat\.pt|checkpoint|resume(-before)?\.pth\.tar|model-best\.pth\.tar|model\.pth\.tar-\d+|bad-step-\d+\.pth\.tar"
)


@contextmanager
def lock_run_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of an output folder, and clear away what killed processes left unfinished.

    Raises:
        ConfigError: another run holds it, or it cannot be made or written to.
    """
    folder = Path(folder)
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another run is writing to {folder} ({_holder(folder)}): wait for it, or give another "
            "--output-dir"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"nothing can be written to the output folder {folder} ({error.strerror}): give "
            "another --output-dir"
        ) from error
    try:
        remove_unfinished(folder, OWN_FILES)
        remove_unfinished(folder / MODEL_FOLDER, OWN_FILES)
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {now}"
        write_atomic(folder / _HOLDER, lambda file: file.write(holder.encode()))
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        return (folder / _HOLDER).read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has the lock, but has not written this yet
        return "just started"


def drawn_seed(folder: str | os.PathLike) -> int | None:
    """The seed that was drawn for the run in a folder; None if none was."""
    with contextlib.suppress(OSError, ValueError):
        if 0 <= (seed := int(Path(folder, _SEED).read_text())) < 2**31:
            return seed
    return None


def kept_seed(folder: str | os.PathLike) -> int:
    """The seed of a run that was given none: drawn once, so that the run can be resumed."""
    file = Path(folder, _SEED)
    if (known := drawn_seed(folder)) is not None:
        return known
    seed = secrets.randbelow(2**31)
    write_atomic(file, lambda stream: stream.write(str(seed).encode()))
    return seed
