"""Images that an exported file is compared with the model on: given ones, or made ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..images.listing import listed_images
from ..images.stream import stream_images

N_IMAGES = 64
_CELLS = 6  # patches of colour along a side of a made image


def check_images(
    names: Sequence[str], transform: Callable[[Image.Image], Tensor], size: int
) -> Tensor:
    """At most `N_IMAGES` images `(B, 3, H, W)`, B of 2 or more, from the first name to the last.

    Args:
        names: files, folders and patterns; [] = made ones, smooth random colours.
        transform: RGB image -> `(3, H, W)`.
        size: side of the square that the image tower takes.

    Raises:
        DataError: fewer than two of the files can be read.
    """
    if not names:
        generator = torch.Generator().manual_seed(0)
        cells = torch.randn(N_IMAGES, 3, _CELLS, _CELLS, generator=generator)
        return F.interpolate(cells, (size, size), mode="bicubic", align_corners=False)
    paths = list(listed_images(names, Counter()))
    chosen = paths[:: -(-len(paths) // N_IMAGES)] if paths else []
    batches = list(stream_images(chosen, transform, N_IMAGES))
    images = torch.cat([batch.images for batch in batches]) if batches else torch.empty(0)
    if len(images) < 2:
        bad = [problem for batch in batches for problem in batch.unreadable]
        raise DataError(
            f"{len(images)} images to compare with can be read of {', '.join(names)}"
            f"{f' ({bad[0]})' if bad else ''}; give two or more, or leave --check out"
        )
    return images
