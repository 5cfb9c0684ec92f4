"""A learned mean of the residual: free, or computed from the image feature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import Posterior


class AmortizedNet(nn.Sequential):
    """Maps unit-norm image features `(B, E)` to `(B, n_out)`, in the dtype of its weights.

    Three linear layers with ELU, hidden width E // 2 (the authors' published runs used one such
    network for the mean and another for the log-variance).
    """

    def __init__(self, n_in: int, n_out: int):
        hidden = max(1, n_in // 2)
        super().__init__(
            nn.Linear(n_in, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(),
            nn.Linear(hidden, n_out),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Outputs `(B, n_out)` for features `(B, E)` of any dtype."""
        first: Any = self[0]
        return super().forward(features.to(first.weight.dtype))


class MeanPosterior(Posterior):
    """What the families with one learned mean share; no family itself."""

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__(rows, width, feature_width, logvar_init)
        if feature_width:
            self.mean = AmortizedNet(feature_width, self.n_dims)
        else:
            self.mu = nn.Parameter(torch.zeros(rows, width))

    def location(self, features: Tensor) -> Tensor:
        """The mean `(K, R, D)` for features `(B, E)`."""
        if self.conditional:
            return self.mean(features).unflatten(-1, self.shape)  # (B, R, D)
        return self.mu[None]  # (1, R, D)
