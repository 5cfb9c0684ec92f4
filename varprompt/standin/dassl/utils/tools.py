"""Files, seeds, names."""

from __future__ import annotations

import json
import os
import random
import warnings
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import PIL
import torch

from varprompt.common.files import write_atomic
from varprompt.errors import ConfigError, DataError


class UnknownNameError(ConfigError, ValueError):
    """A name that is not among the registered ones; a ValueError as in Dassl."""


def mkdir_if_missing(dirname: str) -> None:
    """Make a folder and those above it, unless it exists."""
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    """Whether `fpath` is a file; warns if not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


def read_json(fpath: str) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: it is not JSON.
    """
    with open(fpath, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise DataError(f"{fpath} is not a JSON file: {error}") from error


def write_json(obj: Any, fpath: str) -> None:
    """Write `obj` as JSON, making the folder if needed."""
    text = json.dumps(obj, indent=4, separators=(",", ": "))
    write_atomic(fpath, lambda file: file.write(text.encode()))


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy, and torch on the CPU and all GPUs."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """Report on machine and versions; takes seconds, as it runs external commands."""
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """Names in a folder that do not start with a dot, in the file system's order or sorted."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def get_most_similar_str_to_a_from_b(a: str, b: list[str]) -> str | None:
    """The string of `b` that resembles `a` most; of equals the last; None if `b` is empty."""
    return max(reversed(b), key=lambda s: SequenceMatcher(None, a, s).ratio(), default=None)


def check_availability(requested: str, available: list[str], key: str = "") -> None:
    """Check a name against the registered ones; `key` says where it was set.

    Raises:
        ValueError: it is not among them; the message suggests the nearest.
    """
    if requested in available:
        return
    nearest = get_most_similar_str_to_a_from_b(requested, available)
    raise UnknownNameError(
        f"{requested!r} is unknown (do you mean {nearest!r}?); choose from {available}"
        + (f" ({key})" if key else "")
    )


def tolist_if_not(x: Any) -> list[Any]:
    """`x` if it is a list, else a list of it."""
    return x if isinstance(x, list) else [x]
