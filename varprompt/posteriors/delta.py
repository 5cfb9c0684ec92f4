"""No noise: the control of the families that have some."""

from __future__ import annotations

from torch import Tensor

from .base import OF_NOISE
from .mean import MeanPosterior


class DeltaPosterior(MeanPosterior):
    """A point mass at the mean: the loss is that of a maximum a posteriori estimate."""

    kl_is_exact = True
    unread = ("rank", "component", "objective", "merge", *OF_NOISE)

    def noise_shape(self, n_samples: int, n_rows: int) -> None:
        """No noise."""
        return None

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """The mean, `(1, K, R, D)`."""
        return self.location(features)[None]

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """Minus the log-density of the prior at the mean, up to a constant, `(K,)`."""
        return residual[0].square().sum((1, 2)) / (2 * prior_std**2)
