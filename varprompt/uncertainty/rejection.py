"""Whether confidence tells right from wrong predictions.

All take a score `(N,)` by which predictions are kept, the highest first, and correctness `(N,)` in
{0, 1}, and `weight` `(..., N)`: how often each image counts, 1 if None. Results have the leading
shape of `weight` and are NaN where they are not defined. Of equal scores no order is assumed:
risks are the mean over all orders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_STEPS = 20  # coverages that `risk_threshold` tries


@dataclass(frozen=True)
class _Ranked:
    """Per distinct score, descending, `(..., G)`: how many images, how many of them right."""

    count: Tensor
    right: Tensor

    @property
    def wrong(self) -> Tensor:
        return self.count - self.right


def _ranked(score: Tensor, correct: Tensor, weight: Tensor | None) -> _Ranked:
    score, correct = score.double(), correct.double()
    weight = torch.ones_like(score) if weight is None else weight
    values, group = (-score).unique(return_inverse=True)
    if len(values) == len(score):
        order = group.argsort()
        count = weight[..., order]
        return _Ranked(count, count * correct[order])
    empty = weight.new_zeros(*weight.shape[:-1], len(values))
    return _Ranked(empty.index_add(-1, group, weight), empty.index_add(-1, group, weight * correct))


def risk_coverage(score: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Coverage k / N and the error among the k predictions kept, k = 1..N, `(N,)` each."""
    values, group = (-score.double()).unique(return_inverse=True)
    ranked = _ranked(score, correct, None)
    rate = (ranked.wrong / ranked.count)[group.sort().values]
    kept = torch.arange(1, len(score) + 1).to(rate)
    return kept / len(score), rate.cumsum(0) / kept


def aurc(score: Tensor, correct: Tensor, weight: Tensor | None = None) -> Tensor:
    """Area under the risk-coverage curve, mean error over all coverages k / N.

    Geifman and El-Yaniv 2017 (arXiv 1705.08500). An image that counts w times is w steps of the
    curve, which a difference of harmonic numbers adds up.
    """
    ranked = _ranked(score, correct, weight)
    rate = ranked.wrong / ranked.count.clamp_min(1e-300)
    kept, errors = ranked.count.cumsum(-1), ranked.wrong.cumsum(-1)
    kept_before, errors_before = kept - ranked.count, errors - ranked.wrong
    steps = torch.arange(1, int(kept.max()) + 1).to(kept)
    harmonic = torch.cat([steps.new_zeros(1), steps.reciprocal().cumsum(0)])
    harmonics = harmonic[kept.round().long()] - harmonic[kept_before.round().long()]
    area = ranked.wrong + (errors_before - rate * kept_before) * harmonics
    return area.sum(-1) / kept[..., -1]


def e_aurc(score: Tensor, correct: Tensor, weight: Tensor | None = None) -> Tensor:
    """AURC minus that of the best order with as many errors (Geifman et al. 2019, 1805.08206).

    The best one is exact, not the usual approximation r + (1 - r) log(1 - r): never negative.
    """
    return aurc(score, correct, weight) - aurc(correct, correct, weight)


def accuracy_at_coverage(
    score: Tensor, correct: Tensor, coverage: float = 0.8, weight: Tensor | None = None
) -> Tensor:
    """Accuracy of the ceil(coverage N) predictions with the highest scores."""
    ranked = _ranked(score, correct, weight)
    kept, right = ranked.count.cumsum(-1), ranked.right.cumsum(-1)
    wanted = (coverage * kept[..., -1:] - 1e-9).ceil().clamp_min(1)
    at = (kept < wanted).sum(-1, keepdim=True)
    rate = ranked.right.gather(-1, at) / ranked.count.gather(-1, at)
    found = right.gather(-1, at) + rate * (wanted - kept.gather(-1, at))
    return (found / wanted)[..., 0]


def auroc(score: Tensor, correct: Tensor, weight: Tensor | None = None) -> Tensor:
    """Probability that a right prediction has a higher score than a wrong one, ties half."""
    ranked = _ranked(score, correct, weight)
    before = ranked.right.cumsum(-1) - ranked.right / 2
    pairs = ranked.right.sum(-1) * ranked.wrong.sum(-1)
    return (ranked.wrong * before).sum(-1) / pairs


def fpr95(score: Tensor, correct: Tensor, weight: Tensor | None = None) -> Tensor:
    """Part of the wrong predictions that pass where 95 % of the right ones do.

    The threshold is the highest score that lets at least 95 % of the right ones pass; all
    predictions of that score pass.
    """
    ranked = _ranked(score, correct, weight)
    passed, all_right = ranked.right.cumsum(-1), ranked.right.sum(-1, keepdim=True)
    at = (passed < 0.95 * all_right - 1e-9).sum(-1, keepdim=True)
    wrong = ranked.wrong.cumsum(-1)
    rate = wrong.gather(-1, at)[..., 0] / wrong[..., -1]
    return torch.where(all_right[..., 0] > 0, rate, torch.nan)


@dataclass(frozen=True)
class RiskThreshold:
    """Which predictions to keep: those with a confidence above `threshold`.

    `threshold` is -inf if all may be kept and inf if nothing is guaranteed. `coverage`, `error` and
    `bound` are the part of the held-out images kept, their error, and its upper bound.
    """

    threshold: float
    coverage: float
    error: float
    bound: float
    risk: float
    delta: float
    n_images: int


def risk_threshold(
    confidence: Tensor, correct: Tensor, risk: float, delta: float = 0.05
) -> RiskThreshold:
    """The smallest confidence above which predictions are wrong with at most probability `risk`.

    With probability 1 - `delta` over the held-out images, the error among all images like them
    whose confidence is above the threshold is at most `risk`. Tried are the thresholds that keep
    5, 10, ..., 100 % of the held-out images; taken is the lowest whose upper bound of Clopper and
    Pearson (1934) at level `delta` / 20 is at most `risk`. The bound is that of selection with
    guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500); their binary search is replaced
    by a grid that is fixed beforehand, so that the levels add up to `delta` whichever is taken.

    Args:
        confidence: of held-out images, `(N,)`; any score will do.
        correct: `(N,)`, 0 or 1.
        risk: allowed error, in (0, 1).
        delta: how likely the promise may be broken, in (0, 1).

    Raises:
        ValueError: shapes do not fit, or `risk` or `delta` is not between 0 and 1.
    """
    from scipy.special import betaincinv

    if confidence.dim() != 1 or not len(confidence) or correct.shape != confidence.shape:
        raise ValueError(
            f"confidence and correct must be (N,), not empty, got {tuple(confidence.shape)} and "
            f"{tuple(correct.shape)}"
        )
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    scores, right = confidence.double(), correct.double()
    n_images, ordered = len(scores), scores.sort(descending=True).values
    found = RiskThreshold(math.inf, 0.0, 0.0, 1.0, risk, delta, n_images)
    for step in range(1, _STEPS + 1):
        n_kept = -(-n_images * step // _STEPS)
        threshold = ordered[n_kept].item() if n_kept < n_images else -math.inf
        kept = scores > threshold  # independent of each other, given the threshold
        n = int(kept.sum())
        wrong = n - int(right[kept].sum())
        bound = 1.0 if wrong == n else float(betaincinv(wrong + 1, n - wrong, 1 - delta / _STEPS))
        if bound <= risk:
            found = RiskThreshold(threshold, n / n_images, wrong / n, bound, risk, delta, n_images)
    return found
