"""Reads one image as CoOp sees it, or says which file cannot be read; items of Dassl's form."""

from __future__ import annotations

import functools
import os
import stat
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from ..errors import DataError, pass_on_memory

_PROGRAMS = ("EPS",)  # Pillow hands them to Ghostscript, which runs what the file says


# What turns an image upright, by the number in its EXIF data that tells how the camera was held.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def add_formats() -> bool:
    """Let Pillow read HEIC, if the package pillow-heif is installed; whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def read_rgb(path: str, upright: bool = False) -> Image.Image:
    """Return an image in RGB, the first frame, its pixels as stored or turned `upright`.

    Images of 16 bits per channel and one channel keep their upper 8 bits; Pillow's own conversion
    would turn nearly all of their values into white.

    Raises:
        DataError: if the file is missing, not a regular file, truncated, too large (a
            decompression bomb), a program, or not an image with a defined range of values.
    """
    add_formats()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
            raise ValueError("not a regular file")
        with warnings.catch_warnings(), open(path, "rb") as file:
            # telephones make photos of 108 million pixels; twice as many are an error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return in_rgb(image, upright)
    except Exception as error:  # hostile files make decoders raise anything
        pass_on_memory(error, f"reading {path}")
        reason = f"{type(error).__name__}: {error}"
        if os.path.isdir(path):
            reason = "a folder: give the images in it"
        if isinstance(error, UnidentifiedImageError):  # its text is the name of a file object
            empty = os.path.getsize(path) == 0
            reason = "it is empty" if empty else "damaged, or no format that is read here"
        large = isinstance(error, Image.DecompressionBombError)
        advice = "; store it smaller, or take it out of the data set" if large else ""
        raise DataError(f"{path}: not a readable image ({reason}){advice}") from error


def in_rgb(image: Image.Image, upright: bool = False) -> Image.Image:
    """The first frame of an opened image in RGB, as stored or turned `upright`; see `read_rgb`."""
    turn = _UPRIGHT.get(_orientation(image)) if upright else None
    rgb = _to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 (as stored) if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except MemoryError:
        raise
    except Exception:  # EXIF data is whatever a camera or an editor wrote: pixels count
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.format in _PROGRAMS:
        raise ValueError(f"{image.format} is a program, not pixels")
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
        upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: values without a defined range")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the same pixels without a warning
    return image.convert("RGB")


class ImageItems(Dataset):
    """Dassl's items (img, label, domain, impath, index), read by `read_rgb`.

    To be given to Dassl's `DataManager` as its ``dataset_wrapper``.

    Args:
        cfg: not used; several transforms per image and untransformed ones are refused elsewhere.
        data_source: records with impath, label and domain.
        transform: RGB image -> tensor.
        is_train: not used.
    """

    def __init__(
        self,
        cfg: Any,
        data_source: Sequence[Any],
        transform: Callable[[Image.Image], Any],
        is_train: bool = False,
    ):
        self.data_source = data_source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item.

        Raises:
            DataError: the image cannot be read, or not be transformed.
        """
        item = self.data_source[index]
        image = read_rgb(item.impath, getattr(item, "upright", False))
        try:
            img = self.transform(image)
        except Exception as error:  # transforms of other people raise anything
            pass_on_memory(error, f"transforming {item.impath}")
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{item.impath}: an image of {image.width} x {image.height} pixels cannot be "
                f"transformed ({reason}); see INPUT.TRANSFORMS"
            ) from error
        return {
            "img": img,
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
        }
