"""Reads one image as CoOp sees it, or says which file cannot be read."""

import numpy as np
from PIL import Image

from varprompt.errors import DataError


def read_rgb(path: str) -> Image.Image:
    """Return an image in RGB, its pixels as stored: no EXIF rotation, the first frame.

    Images of 16 bits per channel and one channel keep their upper 8 bits; Pillow's own conversion
    would turn nearly all of their values into white.

    Raises:
        DataError: if the file is missing, truncated, too large (a decompression bomb) or not an
            image with a defined range of values.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
                upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
                return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"mode {image.mode}: values without a defined range")
            if image.mode == "P" and "transparency" in image.info:
                return image.convert("RGBA").convert("RGB")  # the same pixels without a warning
            return image.convert("RGB")
    except Exception as error:  # hostile files make decoders raise anything
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not a readable image ({reason})") from error
