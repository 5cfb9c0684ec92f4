"""Which of many image files cannot be read, once one could not: all are named at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..common.checks import SHOWN
from ..errors import DataError
from .stream import stream_images

_TOGETHER = 64


@contextmanager
def naming_faults(images: Sequence[Any], n_workers: int) -> Iterator[None]:
    """While images are read of which none may be missing: an error names all that are broken.

    Args:
        images: those that are read; of paths every one is tried when one has failed.
        n_workers: processes that read.

    Raises:
        DataError: images cannot be read.
    """
    try:
        yield
    except DataError as error:
        paths = [os.fspath(image) for image in images if isinstance(image, str | os.PathLike)]
        batches = stream_images(paths, _nothing, _TOGETHER, n_workers)
        found = [problem for batch in batches for problem in batch.unreadable]
        if len(found) < 2:
            raise
        more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        lines = "\n".join(f"  {line}" for line in [*found[:SHOWN], *more])
        raise DataError(
            f"{len(found)} of {len(paths)} images cannot be read; replace them or take them out:\n"
            f"{lines}"
        ) from error


def _nothing(image: Image.Image) -> Tensor:
    """Of an image that could be read nothing is kept."""
    return torch.empty(0)
