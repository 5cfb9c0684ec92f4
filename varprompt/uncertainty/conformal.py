"""Prediction sets that hold the true class with a promised probability.

A score says how badly a class fits an image; a set holds the classes whose score is at most a
threshold, a quantile of the scores of the true classes of calibration images. Whatever the
classifier, a set of a new image holds its class with probability 1 - alpha or more, on average
over calibration and test images that are drawn alike (Vovk et al. 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .samples import as_samples, blocks, predictive

ALPHA = 0.1
_RAPS_WEIGHT, _RAPS_FREE = 0.01, 5  # lambda and k_reg


def lac(prob: Tensor, noise: Tensor) -> Tensor:
    """1 - p_c (Sadinle et al. 2019, arXiv 1609.00451): the smallest sets; may be empty.

    Args:
        prob: `(N, C)`.
        noise: uniform in [0, 1), `(N,)`; not used here.
    """
    return 1 - prob


def aps(prob: Tensor, noise: Tensor) -> Tensor:
    """Mass of more probable classes plus `noise` p_c (Romano et al. 2020, arXiv 2006.02544)."""
    order = prob.argsort(dim=-1, descending=True, stable=True)
    ordered = prob.gather(-1, order)
    mass = ordered.cumsum(-1) - ordered + noise[:, None] * ordered
    return torch.empty_like(mass).scatter_(-1, order, mass)


def raps(prob: Tensor, noise: Tensor) -> Tensor:
    """APS plus 0.01 for each rank after the fifth (Angelopoulos et al. 2021, arXiv 2009.14193)."""
    rank = prob.argsort(dim=-1, descending=True, stable=True).argsort(-1) + 1
    return aps(prob, noise) + _RAPS_WEIGHT * (rank - _RAPS_FREE).clamp_min(0)


CONFORMAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"lac": lac, "aps": aps, "raps": raps}


def conformal_threshold(scores: Tensor, alpha: float = ALPHA) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest of the true classes' scores `(n,)`.

    Infinite, so that sets hold all classes, if there are fewer than 1 / alpha - 1 images.

    Raises:
        ValueError: alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return scores.double().sort().values[rank - 1].item() if rank <= len(scores) else math.inf


def conformal_sets(
    log_prob: Tensor,
    calibration: tuple[Tensor, Tensor],
    method: str = "aps",
    alpha: float = ALPHA,
    seed: int = 0,
) -> Tensor:
    """Whether each class is in the set of each image, `(N, C)`, bool.

    Args:
        log_prob: of the images, `(N, C)`, or `(L, N, C)` of samples to be averaged.
        calibration: log-probabilities and labels `(n,)` of other images of the same classes.
        method: a name in `CONFORMAL`.
        alpha: how often the true class may be missing.
        seed: of the noise that APS and RAPS break ties with.

    Raises:
        ValueError: shapes do not fit, or an unknown method.
    """
    if method not in CONFORMAL:
        raise ValueError(f"method {method!r} is unknown; choose from {list(CONFORMAL)}")
    score, (known, labels) = CONFORMAL[method], calibration
    samples, own = as_samples(log_prob), as_samples(known, labels)
    generator = torch.Generator().manual_seed(seed)
    noise, more = (
        torch.rand(part.shape[1], generator=generator, dtype=torch.float64).to(part.device)
        for part in (own, samples)
    )
    of_label = [
        score(predictive(part).exp(), noise[where]).gather(-1, labels[where, None].long())[:, 0]
        for part, where in blocks(own)
    ]
    threshold = conformal_threshold(torch.cat(of_label), alpha)
    return torch.cat(
        [score(predictive(part).exp(), more[where]) <= threshold for part, where in blocks(samples)]
    )
