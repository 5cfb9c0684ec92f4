"""Accuracy and proper scores of predictive distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import per_image


def accuracy(log_prob: Tensor, labels: Tensor) -> float:
    """Part of the images whose most probable class is their label, in [0, 1]."""
    return per_image(log_prob, labels).correct.mean().item()


def nll(log_prob: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood in nats; infinite if a label has the probability 0.

    Args:
        log_prob: `(N, C)`, or `(L, N, C)` of samples whose probabilities are averaged.
        labels: `(N,)`.
    """
    return per_image(log_prob, labels).nll.mean().item()


def brier(log_prob: Tensor, labels: Tensor) -> float:
    """Mean over images of sum_c (p_c - [c = label])^2, in [0, 2] (Brier 1950)."""
    return per_image(log_prob, labels).brier.mean().item()


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of `values` `(N,)`, of which each counts `weight` `(..., N)` times -> `(...)`."""
    if weight is None:
        return values.mean()
    finite = values.isfinite()
    mean = weight @ torch.where(finite, values, 0.0) / weight.sum(-1)
    if finite.all():
        return mean
    return torch.where(weight @ (~finite).double() > 0, torch.inf, mean)
