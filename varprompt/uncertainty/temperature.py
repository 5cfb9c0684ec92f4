"""A temperature for the mean of as many samples as are tested."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..objective import average_samples
from .samples import as_samples, blocks

TEMPERATURES = (0.05, 20.0)  # searched


@dataclass(frozen=True)
class Temperature:
    """Divides the logits of every sample by `value`, fitted to the mean of `n_samples` samples.

    The mean of more samples is less confident than that of one: a temperature holds for its L.
    """

    value: float
    n_samples: int = 1

    def __call__(self, log_prob: Tensor) -> Tensor:
        """log_softmax(log_prob / value); that of logits is the same.

        Raises:
            ValueError: another number of samples than the one it was fitted to.
        """
        n_samples = len(log_prob) if log_prob.dim() == 3 else 1
        if n_samples != self.n_samples:
            raise ValueError(
                f"this temperature was fitted to the mean of {self.n_samples} samples, got "
                f"{n_samples}; fit one to as many samples as are tested"
            )
        return F.log_softmax(log_prob / self.value, -1)


def fit_temperature(log_prob: Tensor, labels: Tensor) -> Temperature:
    """The temperature with the least negative log-likelihood of the mean over samples.

    One temperature scales all logits of all samples (Guo et al. 2017, arXiv 1706.04599), and what
    is fitted is -log mean_l softmax(z_l / T)[y], the prediction that is used. It is searched for
    between 1/20 and 20: on a grid, since with several samples there may be two minima, and then
    by golden sections. A few images that are all right ask for 0, whatever the probabilities are
    worth: they say nothing, and the temperature is 1.

    Args:
        log_prob: of held-out images, `(L, N, C)` or `(N, C)`.
        labels: `(N,)`.

    Raises:
        ValueError: shapes or labels do not fit.
    """
    samples = as_samples(log_prob, labels)

    def loss(log_value: float) -> float:
        value, total = math.exp(log_value), 0.0
        for part, where in blocks(samples):
            scaled = F.log_softmax(part.double() / value, -1)
            picked = scaled.gather(-1, labels[where].long().expand(len(part), -1)[..., None])
            total -= average_samples(picked).sum().item()
        return total / len(labels)

    low, high = (math.log(value) for value in TEMPERATURES)
    step = (high - low) / 24
    grid = [low + step * i for i in range(25)]
    losses = [loss(value) for value in grid]
    best = grid[min(range(25), key=losses.__getitem__)]
    if best == low:
        return Temperature(1.0, len(samples))
    found = _golden(loss, max(low, best - step), min(high, best + step))
    return Temperature(math.exp(found), len(samples))


def _golden(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum in [low, high] has it, to 1e-4."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return (low + high) / 2


def cross_validated_temperature(
    held_out: Callable[[Tensor, Tensor], Tensor],
    labels: Tensor,
    n_folds: int = 4,
    seed: int = 0,
) -> Temperature:
    """A temperature from the training images, where there are no others.

    Every image is predicted by a classifier that was trained without it; one temperature is fitted
    to all of these predictions. Those classifiers saw fewer shots than the one that is tested.

    Args:
        held_out: called with indices to train on and indices `(n,)` to predict; gives
            log-probabilities `(L, n, C)` or `(n, C)` of the latter.
        labels: of the training images, `(N,)`.
        n_folds: each with its share of every class.
        seed: of which image comes into which fold.

    Raises:
        ValueError: fewer than two images, or fewer than two folds.
    """
    if len(labels) < 2 or n_folds < 2:
        raise ValueError(
            f"cross-validation needs two images and folds, got {len(labels)} and {n_folds}"
        )
    fold = stratified_folds(labels, min(n_folds, len(labels)), seed)
    predicted, of_label = [], []
    for k in fold.unique():
        inside = (fold == k).nonzero()[:, 0]
        predicted.append(held_out((fold != k).nonzero()[:, 0], inside))
        of_label.append(labels[inside])
    return fit_temperature(torch.cat(predicted, -2), torch.cat(of_label))


def stratified_folds(labels: Tensor, n_folds: int, seed: int = 0) -> Tensor:
    """A fold in 0..n_folds-1 for each image, `(N,)`; classes are spread evenly over the folds."""
    generator, labels = torch.Generator().manual_seed(seed), labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # by class, at random within
    fold = torch.empty(len(labels), dtype=torch.long)
    fold[order] = torch.arange(len(labels)) % n_folds
    return fold
