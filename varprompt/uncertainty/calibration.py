"""Calibration errors: how far confidence is from accuracy.

All take confidences `(N,)` and correctness `(N,)` in {0, 1}, float64, and `weight` `(..., N)`: how
often each image counts, 1 if None. The errors are parts of 1 in the leading shape of `weight`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checks import N_BINS
from .samples import as_samples, blocks, predictive, without_each


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
    return bin_sums(equal_width(confidence, n_bins), confidence, correct, n_bins, weight)


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


def bin_sums(
    index: Tensor, confidence: Tensor, correct: Tensor, n_bins: int, weight: Tensor
) -> Bins:
    """Of images in the bins `index` `(N,)`, each counting `weight` `(..., N)` times."""
    inside = F.one_hot(index, n_bins).double()  # (N, n_bins)
    return Bins(weight @ inside, (weight * confidence) @ inside, (weight * correct) @ inside)


def _equal_mass(confidence: Tensor, correct: Tensor, n_bins: int, weight: Tensor) -> Bins:
    values, group = confidence.unique(return_inverse=True)  # ascending, ties together
    shape = (*weight.shape[:-1], len(values))
    count = weight.new_zeros(shape).index_add_(-1, group, weight)
    right = weight.new_zeros(shape).index_add_(-1, group, weight * correct)
    ranks, rights = count.cumsum(-1), right.cumsum(-1)
    confidences = (count * values).cumsum(-1)
    total = ranks[..., -1:]
    edges = (
        (torch.arange(n_bins + 1, device=total.device) * total / n_bins - 1e-9).ceil().clamp_min(0)
    )
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
    weight = torch.ones_like(labels, dtype=torch.float64) if weight is None else weight
    parts = (
        _class_sums(predictive(part).exp(), labels[where], n_bins, weight[..., where])
        for part, where in blocks(samples)
    )
    return _classwise(parts, weight)


def classwise_left_out(log_prob: Tensor, labels: Tensor, n_bins: int = N_BINS) -> Tensor:
    """The same of samples `(L, N, C)` without each of the draws, `(L,)`."""
    weight = torch.ones_like(labels, dtype=torch.float64)
    parts = (
        torch.stack(
            [
                _class_sums(prob, labels[where], n_bins, weight[where])
                for prob in without_each(part.double().exp())
            ]
        )
        for part, where in blocks(as_samples(log_prob, labels))
    )
    return _classwise(parts, weight)


def _classwise(parts: Iterable[Tensor], weight: Tensor) -> Tensor:
    sums = functools.reduce(torch.add, parts)
    return sums.abs().sum(-1).mean(-1) / weight.sum(-1)


def _class_sums(prob: Tensor, labels: Tensor, n_bins: int, weight: Tensor) -> Tensor:
    """Sums of probability minus truth, `(..., C, n_bins)`, of probabilities `(n, C)`."""
    n_classes = prob.shape[1]
    bins = equal_width(prob, n_bins)
    excess = prob - F.one_hot(labels.long(), n_classes)
    image, label = bins.nonzero(as_tuple=True)  # not the first bin, where most of them are
    cell = label * n_bins + bins[image, label]
    sums = weight.new_zeros(*weight.shape[:-1], n_classes * n_bins)
    sums.index_add_(-1, cell, weight[..., image] * excess[image, label])
    by_bin = sums.unflatten(-1, (n_classes, n_bins))
    by_bin[..., 0] = weight @ excess - by_bin.sum(-1)
    return by_bin


def ece_if_calibrated(confidence: Tensor, n_draws: int = 200, seed: int = 0) -> dict[str, float]:
    """The ECE in percent if every prediction were right with the probability that it claims.

    Mean and the middle 95 % (`low`, `high`) over `n_draws` draws of which predictions are right,
    the same draws for the same number of images.
    """
    generator = torch.Generator().manual_seed(seed)
    confidence = confidence.cpu()
    uniform = torch.rand(n_draws, len(confidence), generator=generator, dtype=torch.float64)
    eces = 100 * torch.stack([ece(confidence, (draw < confidence).double()) for draw in uniform])
    low, high = eces.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": eces.mean().item(), "low": low, "high": high}
