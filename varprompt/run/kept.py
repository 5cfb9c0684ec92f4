"""What a run keeps beside its model for later: small JSON files that are checked when read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..common.files import write_atomic
from ..errors import CheckpointError

K = TypeVar("K")


def write_kept(file: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all; numbers come back to the last bit."""
    text = json.dumps(record, indent=2, allow_nan=False)
    write_atomic(file, lambda stream: stream.write(text.encode()))


def read_kept(file: Path, checked: Callable[[Mapping[str, Any]], K], advice: str) -> K | None:
    """What `checked` makes of the record in a file; None if there is no file.

    Args:
        file: JSON.
        checked: raises ValueError, KeyError or TypeError for what cannot be.
        advice: what to do with a damaged file.

    Raises:
        CheckpointError: it is damaged.
    """
    if not file.is_file():
        return None
    try:
        return checked(json.loads(file.read_bytes()))
    except (ValueError, RecursionError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): {advice}") from error
