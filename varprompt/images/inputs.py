"""Images as people hold them: paths, PIL images, arrays, tensors; all become the same pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, Sized
from typing import Any, cast

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode

from ..errors import DataError, brief, pass_on_memory
from .read import in_rgb, read_rgb

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
_FORMS = (
    "give paths, PIL images, an array (N, H, W, 3) of uint8, or a tensor (N, 3, H, W) of uint8 or "
    "of floats from 0 to 1"
)


def pixels_transform(
    size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bicubic"
) -> Callable[[Image.Image], Tensor]:
    """From an RGB image to the tensor `(3, size, size)` that an image tower takes.

    As CLIP and CoOp's tests have it: the shorter side becomes `size`, the middle is cut out.

    Args:
        size: side in pixels.
        mean: of red, green and blue in [0, 1].
        std: their standard deviations.
        interpolation: one of `INTERPOLATIONS`.
    """
    return T.Compose([
        T.Resize(size, InterpolationMode(interpolation)), T.CenterCrop(size), T.ToTensor(),
        T.Normalize(mean, std),
    ])  # fmt: skip


def check_images(images: Any) -> Sequence[Any]:
    """`images` as a sequence of single ones; a path or PIL image alone is one.

    Raises:
        DataError: it is no form of images that is known.
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor) and images.ndim != 1:  # one axis: of paths
        _check_block(images)
        return cast(Sequence[Any], images)
    listed = isinstance(images, Sized) and hasattr(images, "__iter__")
    if isinstance(images, bytes | Mapping | Set) or not listed:
        raise DataError(f"images are {brief(images)}; {_FORMS}")
    return images if isinstance(images, Sequence) else list(cast(Iterable[Any], images))


def _check_block(images: np.ndarray | Tensor) -> None:
    is_tensor = isinstance(images, Tensor)
    channels = 1 if is_tensor else -1
    kinds = (torch.uint8, torch.float16, torch.float32, torch.float64) if is_tensor else (np.uint8,)
    shape = images.shape
    if images.ndim != 4 or shape[channels] != 3 or 0 in shape[1:] or images.dtype not in kinds:
        what = "a tensor" if is_tensor else "an array"
        raise DataError(f"images are {what} {tuple(images.shape)} of {images.dtype}; {_FORMS}")


def as_rgb(image: Any) -> Image.Image:
    """One image in RGB, turned upright if its EXIF data says how the camera was held.

    Args:
        image: a path, a PIL image, an array `(H, W, 3)` of uint8, or a tensor `(3, H, W)` of uint8
            or of floats from 0 to 1, which are rounded to 256 steps.

    Raises:
        DataError: it is none of these, or cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_rgb(os.fspath(image), upright=True)
    if isinstance(image, Image.Image):
        try:
            return in_rgb(image, upright=True)
        except Exception as error:  # of an opened file decoders raise anything
            pass_on_memory(error, "reading an image")
            raise DataError(f"an image cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(image, np.ndarray | Tensor):
        raise DataError(f"an image is {brief(image)}; {_FORMS}")
    _check_block(image[None])
    if isinstance(image, Tensor):
        if image.is_floating_point():
            if not (0 <= image.min() and image.max() <= 1):
                raise DataError(
                    f"a tensor has values from {image.min():.3g} to {image.max():.3g}: give pixels "
                    "from 0 to 1, before any normalisation"
                )
            image = (255 * image.double()).round().to(torch.uint8)
        image = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(image))


class GivenImages(Dataset):
    """Items ``{"img": tensor}`` of images in any form that `as_rgb` takes.

    Args:
        images: from `check_images`.
        transform: RGB image -> tensor.
    """

    def __init__(self, images: Sequence[Any], transform: Callable[[Image.Image], Tensor]):
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One image.

        Raises:
            DataError: it cannot be read, or has a shape that cannot be transformed.
        """
        given = self.images[index]
        image = as_rgb(given)
        try:
            return {"img": self.transform(image)}
        except Exception as error:  # a side of 0, or 1 x 40000
            pass_on_memory(error, "transforming an image")
            name = given if isinstance(given, str | os.PathLike) else f"image number {index}"
            raise DataError(
                f"{name}: an image of {image.width} x {image.height} pixels cannot be transformed "
                f"({type(error).__name__}: {error})"
            ) from error
