"""Calibration errors: how far confidence is from accuracy.

All take confidences `(N,)` and correctness `(N,)` in {0, 1}, float64, and `weight` `(..., N)`: how
often each image counts, 1 if None. The errors are parts of 1 in the leading shape of `weight`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .samples import as_samples, blocks, predictive

N_BINS = 15


@dataclass(frozen=True)
class Bins:
    """Sums over the images of each bin, `(..., n_bins)`: their number, confidence, correctness."""

    count: Tensor
    confidence: Tensor
    correct: Tensor

    @property
    def share(self) -> Tensor:
        """Distance of the sums of a bin, divided by the number of all images."""
        distance = (self.confidence - self.correct).abs()
        return distance / self.count.sum(-1, keepdim=True)

    @property
    def gap(self) -> Tensor:
        """Distance of mean confidence and accuracy in a bin; 0 in an empty one."""
        return (self.confidence - self.correct).abs() / self.count.clamp_min(1e-300)


def reliability(
    confidence: Tensor,
    correct: Tensor,
    n_bins: int = N_BINS,
    *,
    equal_mass: bool = False,
    weight: Tensor | None = None,
) -> Bins:
    """Bins of a reliability diagram.

    Of equal width: (a, b], the first with 0. Of equal mass: image r of N in the order of
    confidence (r from 0) is in bin floor(r n_bins / N), ties share their bins evenly.
    """
    confidence, correct = confidence.double(), correct.double()
    weight = torch.ones_like(confidence) if weight is None else weight
    if equal_mass:
        return _equal_mass(confidence, correct, n_bins, weight)
    return _sums(equal_width(confidence, n_bins), confidence, correct, n_bins, weight)


def reliability_points(
    confidence: Tensor, correct: Tensor, n_bins: int = N_BINS
) -> list[dict[str, float]]:
    """The points of a reliability diagram: a dict for each bin that is not empty, in order.

    It has the limits `low` and `high` of the bin, the number `count` of its images, and their mean
    `confidence` and `accuracy`; all but the number in percent.
    """
    bins, points = reliability(confidence, correct, n_bins), []
    columns = zip(bins.count.tolist(), bins.confidence.tolist(), bins.correct.tolist(), strict=True)
    for i, (count, confidences, right) in enumerate(columns):
        if count:
            points.append(
                {
                    "low": 100 * i / n_bins,
                    "high": 100 * (i + 1) / n_bins,
                    "count": int(count),
                    "confidence": 100 * confidences / count,
                    "accuracy": 100 * right / count,
                }
            )
    return points


def equal_width(confidence: Tensor, n_bins: int) -> Tensor:
    """Index of the bin (a, b] of each confidence."""
    return (confidence * n_bins).ceil().long().clamp(1, n_bins) - 1


def _sums(index: Tensor, confidence: Tensor, correct: Tensor, n_bins: int, weight: Tensor) -> Bins:
    inside = F.one_hot(index, n_bins).double()  # (N, n_bins)
    return Bins(weight @ inside, (weight * confidence) @ inside, (weight * correct) @ inside)


def _equal_mass(confidence: Tensor, correct: Tensor, n_bins: int, weight: Tensor) -> Bins:
    values, group = confidence.unique(return_inverse=True)  # ascending, ties together
    shape = (*weight.shape[:-1], len(values))
    count = torch.zeros(shape, dtype=torch.float64).index_add_(-1, group, weight)
    right = torch.zeros(shape, dtype=torch.float64).index_add_(-1, group, weight * correct)
    ranks, rights = count.cumsum(-1), right.cumsum(-1)
    confidences = (count * values).cumsum(-1)
    total = ranks[..., -1:]
    edges = (torch.arange(n_bins + 1) * total / n_bins - 1e-9).ceil().clamp_min(0)
    at = torch.searchsorted(ranks, edges.contiguous()).clamp_max(len(values) - 1)
    before = edges - ranks.gather(-1, at)  # images of the group `at` that are still to come, < 0
    mean = right / count.clamp_min(1e-300)
    to_edge = (
        edges,
        confidences.gather(-1, at) + before * values[at],
        rights.gather(-1, at) + before * mean.gather(-1, at),
    )
    return Bins(*(sums.diff(dim=-1) for sums in to_edge))


def ece(
    confidence: Tensor, correct: Tensor, n_bins: int = N_BINS, weight: Tensor | None = None
) -> Tensor:
    """Expected calibration error: share-weighted mean gap over bins of equal width.

    Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599). Not 0 for a calibrated classifier on
    finitely many images: see `ece_if_calibrated`.
    """
    return reliability(confidence, correct, n_bins, weight=weight).share.sum(-1)


def ace(
    confidence: Tensor, correct: Tensor, n_bins: int = N_BINS, weight: Tensor | None = None
) -> Tensor:
    """The same over bins of equal mass (adaptive calibration error, confidence only)."""
    return reliability(confidence, correct, n_bins, equal_mass=True, weight=weight).share.sum(-1)


def mce(
    confidence: Tensor, correct: Tensor, n_bins: int = N_BINS, weight: Tensor | None = None
) -> Tensor:
    """Maximum calibration error: the largest gap of a bin, were there one image in it."""
    return reliability(confidence, correct, n_bins, weight=weight).gap.amax(-1)


def mce_weighted(
    confidence: Tensor, correct: Tensor, n_bins: int = 10, weight: Tensor | None = None
) -> Tensor:
    """The largest gap times the bin's share of images: what DAC and TCPT publish as MCE."""
    return reliability(confidence, correct, n_bins, weight=weight).share.amax(-1)


def classwise_ece(
    log_prob: Tensor, labels: Tensor, n_bins: int = N_BINS, weight: Tensor | None = None
) -> Tensor:
    """Mean over classes of the ECE of "it is this class" (Kull et al. 2019, arXiv 1910.12656).

    Args:
        log_prob: `(N, C)`, or `(L, N, C)` of samples whose probabilities are averaged.
        labels: `(N,)`.
        n_bins: of equal width, from 0 to 1, for each class.
        weight: `(..., N)`.
    """
    samples = as_samples(log_prob, labels)
    n_images, n_classes = samples.shape[1:]
    weight = torch.ones(n_images, dtype=torch.float64) if weight is None else weight
    sums = torch.zeros(*weight.shape[:-1], n_classes * n_bins, dtype=torch.float64)
    total = torch.zeros(*weight.shape[:-1], n_classes, dtype=torch.float64)
    for part, where in blocks(samples):
        prob = predictive(part).exp()
        bins = equal_width(prob, n_bins)
        excess = prob - F.one_hot(labels[where].long(), n_classes)
        total += weight[..., where] @ excess
        image, label = bins.nonzero(as_tuple=True)  # not the first bin, where most of them are
        cell = label * n_bins + bins[image, label]
        sums.index_add_(-1, cell, weight[..., where][..., image] * excess[image, label])
    by_bin = sums.unflatten(-1, (n_classes, n_bins))
    first = total - by_bin.sum(-1)
    distance = by_bin.abs().sum(-1) + first.abs()
    return distance.mean(-1) / weight.sum(-1)


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
        return torch.ones(len(features), dtype=torch.float64)
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
    return _sums(cell, confidence, correct.double(), n_bins**2, weight).share.sum(-1)


def ece_if_calibrated(confidence: Tensor, n_draws: int = 200, seed: int = 0) -> dict[str, float]:
    """The ECE in percent if every prediction were right with the probability that it claims.

    Mean and the middle 95 % (`low`, `high`) over `n_draws` draws of which predictions are right,
    the same draws for the same number of images.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n_draws, len(confidence), generator=generator, dtype=torch.float64)
    draws = (uniform < confidence).double()
    eces = 100 * torch.stack([ece(confidence, hits) for hits in draws])
    low, high = eces.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": eces.mean().item(), "low": low, "high": high}
