"""Reads any number of images batch by batch; what cannot be read is named and the rest goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, pass_on_memory
from .read import read_rgb
from .workers import PlainLoader, n_readers

_QUALITY = 80  # of the JPEG that a thumbnail is


@dataclass(frozen=True)
class StreamBatch:
    """Some images in the order of their paths.

    Attributes:
        paths: of the B images that could be read.
        images: `(B, 3, H, W)`; `(0,)` if none could.
        thumbnails: JPEG files of them, empty ones if none were asked for.
        unreadable: why the others could not be read; begins with the path.
    """

    paths: list[str]
    images: Tensor
    thumbnails: list[bytes]
    unreadable: list[str]


def stream_images(
    paths: Iterable[str],
    transform: Callable[[Image.Image], Tensor],
    batch_size: int,
    n_workers: int = 0,
    thumbnail: int = 0,
) -> Iterator[StreamBatch]:
    """Batches of images, turned upright; few are held at a time, whatever their number.

    Args:
        paths: consumed as batches are asked for, two for each worker ahead.
        transform: RGB image -> `(3, H, W)`.
        batch_size: paths in a batch; unreadable ones make it smaller.
        n_workers: processes that read, no more than CPUs; 0 = this one.
        thumbnail: longest side in pixels of the thumbnails; 0 = none.

    Raises:
        ConfigError: that is no number of processes.
        VarPromptError: a worker has ended before its time.
        MemoryError: there was not enough memory for an image.
    """
    yield from PlainLoader(
        _Named(transform, thumbnail), batch_sampler=_groups(paths, batch_size), collate_fn=_collate,
        num_workers=n_readers(n_workers),
        generator=torch.Generator(),  # leaves the global one as it is
    )  # fmt: skip


def _groups(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    waiting = iter(paths)
    while group := list(islice(waiting, size)):
        yield group


@dataclass(frozen=True)
class _Read:
    """One image, or why there is none."""

    path: str
    image: Tensor | None = None
    thumbnail: bytes = b""
    problem: str = ""


class _Named(Dataset):
    """Images by their paths."""

    def __init__(self, transform: Callable[[Image.Image], Tensor], thumbnail: int):
        self.transform = transform
        self.thumbnail = thumbnail

    def __getitem__(self, path: str) -> _Read:
        try:
            image = read_rgb(path, upright=True)
            small = _thumbnail(image, self.thumbnail) if self.thumbnail else b""
            return _Read(path, self.transform(image), small)
        except DataError as error:
            return _Read(path, problem=str(error))
        except Exception as error:  # a shape that a transform cannot take, such as 1 x 40000
            pass_on_memory(error, f"transforming {path}")
            return _Read(path, problem=f"{path}: {type(error).__name__}: {error}")


def _thumbnail(image: Image.Image, side: int) -> bytes:
    small = image.copy()
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _collate(items: list[Any]) -> StreamBatch:
    good = [item for item in items if item.image is not None]
    return StreamBatch(
        [item.path for item in good],
        torch.stack([item.image for item in good]) if good else torch.empty(0),
        [item.thumbnail for item in good],
        [item.problem for item in items if item.image is None],
    )
