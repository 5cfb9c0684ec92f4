"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any

import torch

from .errors import CheckpointError


def write_atomic(path: str | os.PathLike, save: Any) -> None:
    """Call ``save(file)`` on a temporary file beside `path`, then rename it to `path`.

    A reader sees the old content or the new one, never a part; a full disk leaves the old one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(state: dict[str, Any], path: str | os.PathLike) -> None:
    """Save `state` (tensors, numbers, strings and containers of them) so that `read` takes it.

    Raises:
        CheckpointError: `state` holds an object that the safe ``torch.load`` refuses.
    """

    def save(file: IO[bytes]) -> None:
        torch.save(state, file)
        file.seek(0)
        _load(file, path)  # proven readable before it replaces the previous one

    write_atomic(path, save)


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint onto the CPU with ``weights_only=True``.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint, or wants to run code.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    with open(path, "rb") as file:
        state = _load(file, path)
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, not a dict")
    return state


def _load(file: IO[bytes], path: str | os.PathLike) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds objects other than tensors and numbers, which "
            f"are never unpickled: {reason.splitlines()[0][:200]}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged: {str(error).splitlines()[0][:200] or type(error)}"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
