"""Training objective and predictive distribution (arXiv 2210.02390 and the authors' code)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import DataError

OBJECTIVES = ("iwae", "elbo")
KL_REDUCTIONS = ("mean", "sum", "elbo", "sum_per_image")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Which bound on the likelihood, and the factor in front of the KL in nats."""

    objective: str = "iwae"
    kl_scale: float = 0.0


@dataclass(frozen=True)
class Terms:
    """Scalars: `loss` = `nll` + kl_scale * `kl`; `kl` in nats, averaged over the K posteriors."""

    loss: Tensor
    nll: Tensor
    kl: Tensor


def kl_scale(weight: float, reduction: str, n_dims: int, n_train: int) -> float:
    """Factor in front of the KL summed over its `n_dims` dimensions.

    "mean" averages it over dimensions (the authors' published runs, weight 0.001) and "sum" takes
    it whole: with a posterior of each image, that is the negative evidence lower bound per image.
    "elbo" divides it by the number of training images: that is the bound per image of a residual
    shared by all images, and for nothing else. "sum_per_image" is the same number for a posterior
    of each image, where it is no bound but weighs the KL less.
    """
    return weight / {"mean": n_dims, "sum": 1, "elbo": n_train, "sum_per_image": n_train}[reduction]


def predictive_log_prob(logits: Tensor) -> Tensor:
    """Log of the class probabilities averaged over samples: `(L, B, C)` -> `(B, C)`.

    Float32, or float64 if `logits` are.
    """
    return average_samples(sample_log_prob(logits))


def average_samples(log_prob: Tensor) -> Tensor:
    """Log of the mean over samples of probabilities given by their logs: `(L, ...)` -> `(...)`."""
    return log_prob.logsumexp(0) - math.log(len(log_prob))


def objective(logits: Tensor, labels: Tensor, kl: Tensor, cfg: ObjectiveConfig) -> Terms:
    """Loss of a batch.

    "iwae" is minus the log of the mean likelihood over samples (arXiv 1509.00519; what the
    authors' code computes), "elbo" minus the mean of the log-likelihoods. With L = 1 both are the
    cross-entropy.

    Args:
        logits: `(L, B, C)`.
        labels: `(B,)`, int64.
        kl: `(K,)` in nats, summed over dimensions.
        cfg: which bound and the scale of the KL.

    Raises:
        DataError: not a label for each image; fewer would be taken for those of the first ones.
            Not whole numbers, or, on a CPU (a GPU tells later, by itself), not from 0 to C - 1.
    """
    if labels.shape != logits.shape[1:2]:
        raise DataError(
            f"labels have the shape {tuple(labels.shape)} for {logits.shape[1]} images: give (B,)"
        )
    if labels.is_floating_point():
        raise DataError(f"labels are {labels.dtype}; give whole numbers, the places of the classes")
    log_prob = sample_log_prob(logits)
    try:
        picked = log_prob.gather(-1, labels.expand(len(logits), -1)[..., None])[..., 0]  # (L, B)
    except RuntimeError as error:  # asked of the values only now: a step waits for nobody
        least, most, n_classes = int(labels.min()), int(labels.max()), logits.shape[2]
        if 0 <= least and most < n_classes:
            raise
        raise DataError(
            f"labels are from {least} to {most}; of {n_classes} classes they must lie within 0 and "
            f"{n_classes - 1}"
        ) from error
    if cfg.objective == "iwae":
        nll = (math.log(len(logits)) - picked.logsumexp(0)).mean()
    else:
        nll = -picked.mean()
    mean_kl = kl.mean()
    return Terms(nll + cfg.kl_scale * mean_kl, nll, mean_kl)


def sample_log_prob(logits: Tensor) -> Tensor:
    """Log-probabilities of every sample, in the shape of `logits`; float32 at least."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
