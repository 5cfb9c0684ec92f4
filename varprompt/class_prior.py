"""A prior of the residual around the words of an image's class, as VaMP's is of its class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import PromptConfig


class ClassPrior(nn.Module):
    """N(m_y, s^2 I) in place of N(0, s^2 I), y the label of an image that is trained on.

    Of residuals per layer the first one has it: what is in front of deeper layers are no words.

    Args:
        means: m `(C, D)`: from the mean of the initial context to that of the class's words.
        config: says how residuals are shared.
        prior_std: s.
    """

    means: Tensor

    def __init__(self, means: Tensor, config: PromptConfig, prior_std: float):
        super().__init__()
        self.register_buffer("means", means.detach().float(), persistent=False)
        self.first_only = config.residual == "per_layer"
        self.prior_std = prior_std

    def shift(self, residual: Tensor, labels: Tensor) -> Tensor:
        """What its KL has in excess of that from N(0, s^2 I), `(B,)` in nats.

        E[|r - m|^2 - |r|^2] / (2 s^2) = (|m|^2 - 2 <E[r], m>) / (2 s^2), for every posterior; with
        the mean of the samples for E[r] it is unbiased in value and gradient.

        Args:
            residual: mean of the samples, `(B, R, D)`.
            labels: `(B,)`.
        """
        if self.first_only:
            residual = residual[:, :1]
        mean = self.means[labels][:, None]  # (B, 1, D)
        terms = mean.square() - 2 * residual * mean  # (B, R, D)
        return terms.sum((1, 2)) / (2 * self.prior_std**2)

    def kl(self, kl: Tensor, residual: Tensor | None, labels: Tensor) -> Tensor:
        """The KL divergence from this prior `(B,)`, given the one from N(0, s^2 I)."""
        with torch.autocast(kl.device.type, enabled=False):
            return kl if residual is None else kl + self.shift(residual, labels)
