"""Calibrators: what is fitted before the test, without a test label, and applied to its samples.

`CALIBRATORS["mine"] = fit_mine` adds one, from another package too: a function of an `Evidence`
that gives a `Calibrator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..objective import average_samples
from .temperature import fit_temperature

_SAME_CLASS = 0.05  # distance of texts below which a class counts as a base class, as DAC has it


class Calibrator(Protocol):
    """Changes log-probabilities."""

    def __call__(self, log_prob: Tensor) -> Tensor:
        """Calibrated log-probabilities of the samples: `(L, N, C)` or `(N, C)`, shape kept."""


@dataclass(frozen=True)
class Evidence:
    """What may be known before a test: nothing in here is a label of a test image.

    Attributes:
        log_prob: of held-out images of the training's classes, `(L, N, C)` or `(N, C)`, by the
            classifier that is tested, with as many samples as in the test.
        labels: of the same, `(N,)`.
        base_text: unit-norm text features of the training's classes, `(C, E)`, tuned (averaged
            over samples and of unit norm again).
        text: the same of the classes of the test.
        base_text_zero_shot: of the training's classes before tuning.
        text_zero_shot: of the classes of the test before tuning.
    """

    log_prob: Tensor | None = None
    labels: Tensor | None = None
    base_text: Tensor | None = None
    text: Tensor | None = None
    base_text_zero_shot: Tensor | None = None
    text_zero_shot: Tensor | None = None


@dataclass(frozen=True)
class Identity:
    """Changes nothing."""

    def __call__(self, log_prob: Tensor) -> Tensor:
        """The same log-probabilities."""
        return log_prob


@dataclass(frozen=True)
class DistanceScale:
    """Multiplies an image's logits by the `scale` `(C,)` of the class that it is taken for."""

    scale: Tensor

    def __call__(self, log_prob: Tensor) -> Tensor:
        """log_softmax(scale[c] * log_prob), c the class predicted by the mean of the samples.

        Raises:
            ValueError: log-probabilities of another number of classes.
        """
        if log_prob.shape[-1] != len(self.scale):
            raise ValueError(
                f"this calibrator is for {len(self.scale)} classes, got {log_prob.shape[-1]}"
            )
        mean = average_samples(log_prob) if log_prob.dim() == 3 else log_prob
        scale = self.scale.to(log_prob)[mean.argmax(-1)][:, None]  # (N, 1)
        return F.log_softmax(log_prob * scale, -1)


def fit_distance(
    base_text: Tensor,
    text: Tensor,
    base_text_zero_shot: Tensor,
    text_zero_shot: Tensor,
    n_nearest: int = 5,
) -> DistanceScale:
    """For classes without labels: less confidence where tuning moved a class away from the base.

    With d_k(t, S) the mean Euclidean distance of the text t from its k nearest in S, class c gets
    the factor exp(-d_k(t_c, base) ) / exp(-d_k(t0_c, base0)), t tuned and t0 zero-shot; 1 for a
    class that is nearer than 0.05 to a base class, being one. That is distance-aware calibration
    (DAC; Wang et al. 2024, arXiv 2402.04655), with k = 5 as in the authors' published code.

    Args:
        base_text: unit-norm features of the training's classes, tuned, `(C_base, E)`.
        text: of the classes of the test, tuned, `(C, E)`.
        base_text_zero_shot: `(C_base, E)`.
        text_zero_shot: `(C, E)`.
        n_nearest: k; fewer if there are fewer base classes.

    Raises:
        ValueError: shapes do not fit.
    """
    if base_text.shape != base_text_zero_shot.shape or text.shape != text_zero_shot.shape:
        raise ValueError(
            "tuned and zero-shot texts must have the same shapes, got "
            f"{tuple(base_text.shape)} and {tuple(base_text_zero_shot.shape)} of base classes, "
            f"{tuple(text.shape)} and {tuple(text_zero_shot.shape)} of the test's"
        )
    n_nearest = min(n_nearest, len(base_text))
    exact = "donot_use_mm_for_euclid_dist"  # else distances near 0 are off by 1e-4
    tuned, before = (
        torch.cdist(new.double(), base.double(), compute_mode=exact)
        .topk(n_nearest, largest=False)
        .values
        for new, base in ((text, base_text), (text_zero_shot, base_text_zero_shot))
    )
    factor = (before.mean(-1) - tuned.mean(-1)).exp()
    return DistanceScale(torch.where(tuned[:, 0] < _SAME_CLASS, 1.0, factor))


def _temperature(evidence: Evidence) -> Calibrator:
    if evidence.log_prob is None or evidence.labels is None:
        raise ValueError("'temperature' needs held-out log-probabilities and their labels")
    return fit_temperature(evidence.log_prob, evidence.labels)


def _distance(evidence: Evidence) -> Calibrator:
    if (
        evidence.base_text is None
        or evidence.text is None
        or evidence.base_text_zero_shot is None
        or evidence.text_zero_shot is None
    ):
        raise ValueError("'distance' needs texts of base and tested classes, before and after")
    return fit_distance(
        evidence.base_text, evidence.text, evidence.base_text_zero_shot, evidence.text_zero_shot
    )


CALIBRATORS: dict[str, Callable[[Evidence], Calibrator]] = {
    "none": lambda evidence: Identity(),
    "temperature": _temperature,
    "distance": _distance,
}
