"""Calibration of images that have many or few others near them."""

from __future__ import annotations

import torch
from torch import Tensor

from .calibration import bin_sums, equal_width


def proximity(features: Tensor, reference: Tensor | None = None, n_nearest: int = 10) -> Tensor:
    """exp(-mean distance from the nearest `n_nearest`), `(N,)` (Xiong et al. 2023, 2306.04590).

    Args:
        features: of the images, `(N, E)`.
        reference: among which neighbours are looked for, `(R, E)`; None is the other images.
        n_nearest: fewer if there are fewer.
    """
    others = features if reference is None else reference
    own = int(reference is None)  # an image is the nearest to itself
    n_nearest = min(n_nearest, len(others) - own)
    if n_nearest < 1:
        return torch.ones_like(features[:, 0], dtype=torch.float64)
    nearest = [
        torch.cdist(part.double(), others.double()).topk(n_nearest + own, largest=False).values
        for part in features.split(1024)
    ]
    return (-torch.cat(nearest)[:, own:].mean(-1)).exp()


def piece(
    confidence: Tensor,
    correct: Tensor,
    nearness: Tensor,
    n_bins: int = 10,
    weight: Tensor | None = None,
) -> Tensor:
    """Proximity-informed ECE: bins by confidence and by proximity (Xiong et al. 2023, 2306.04590).

    `nearness` `(N,)` is that of `proximity`; its `n_bins` bins have equal mass and stay as they
    are where images are weighted, those of the confidence have equal width.
    """
    confidence = confidence.double()
    rank = nearness.argsort(stable=True).argsort()
    cell = rank * n_bins // len(rank) * n_bins + equal_width(confidence, n_bins)
    weight = torch.ones_like(confidence) if weight is None else weight
    return bin_sums(cell, confidence, correct.double(), n_bins**2, weight).share.sum(-1)
