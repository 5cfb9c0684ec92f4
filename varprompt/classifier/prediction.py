"""What a classifier says of images, and how it was calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..objective import average_samples
from ..uncertainty import decompose


class Uncertainty(NamedTuple):
    """In nats, `(N,)` each: total = aleatoric + epistemic.

    Attributes:
        total: entropy of the predicted probabilities.
        aleatoric: mean entropy of the probabilities by each of the L samples.
        epistemic: how far the samples disagree (the mutual information of class and sample).
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What is predicted of N images.

    Attributes:
        prob: calibrated class probabilities `(N, C)`, averaged over samples.
        uncertainty: see `Uncertainty`.
    """

    prob: np.ndarray
    uncertainty: Uncertainty

    @staticmethod
    def of(samples: Tensor, temperature: float = 1.0) -> Prediction:
        """From log-probabilities `(L, N, C)` by each sample, each flattened by `temperature`."""
        log_prob = F.log_softmax(samples.double() / temperature, dim=-1)
        found = decompose(log_prob)
        terms = (term.cpu().numpy() for term in (found.total, found.aleatoric, found.epistemic))
        prob = average_samples(log_prob).exp()  # (N, C)
        return Prediction(prob.cpu().numpy(), Uncertainty(*terms))

    @staticmethod
    def none(n_classes: int) -> Prediction:
        """Of no image at all."""
        nothing = np.zeros(0)
        return Prediction(np.zeros((0, n_classes)), Uncertainty(nothing, nothing, nothing))


def join(parts: list[Prediction]) -> Prediction:
    """Predictions of parts of the images as one."""
    columns = zip(*(part.uncertainty for part in parts), strict=True)
    return Prediction(
        np.concatenate([part.prob for part in parts]), Uncertainty(*map(np.concatenate, columns))
    )
