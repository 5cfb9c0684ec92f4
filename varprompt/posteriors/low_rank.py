"""A Gaussian whose covariance is a diagonal plus a matrix of low rank."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops import gaussian_kl
from .base import Marginals, Posterior, PosteriorSpec
from .gaussian import GaussianPosterior

_START = 0.1  # initial size of the factor relative to the diagonal's deviation; not measured


class LowRankPosterior(GaussianPosterior):
    """N(mu, diag(exp(logvar)) + U U^T) over the R * D numbers of a residual, U (R * D, rank).

    A conditional one computes mean and log-variance from the image; the factor U is the same for
    all images. With n = R * D, the prior N(0, s^2 I) and V = exp(-logvar / 2) U, the determinant is
    det(diag) det(I + V^T V), and the KL divergence is that of the diagonal Gaussian plus
    (|U|^2 / s^2 - log det(I + V^T V)) / 2: no n x n matrix is made.

    Args:
        rows: R.
        width: D.
        feature_width: E if the posterior depends on the image, else 0.
        logvar_init: initial log-variance of the diagonal; None = as in `GaussianPosterior`.
        rank: columns of U.
    """

    unread = ("component",)

    def __init__(
        self,
        rows: int,
        width: int,
        feature_width: int = 0,
        logvar_init: float | None = None,
        rank: int = 4,
    ):
        super().__init__(rows, width, feature_width, logvar_init)
        std = _START * math.exp((logvar_init or 0.0) / 2)
        self.factor = nn.Parameter(std * torch.randn(self.n_dims, rank))

    @classmethod
    def from_spec(cls, spec: PosteriorSpec) -> LowRankPosterior:
        """With the rank of `spec`."""
        return cls(spec.rows, spec.width, spec.feature_width, spec.logvar_init, spec.rank)

    sample = Posterior.sample  # the fused operation knows diagonal Gaussians only

    def noise_shape(self, n_samples: int, n_rows: int) -> tuple[int, int, int, int]:
        """`(L, K, 1, R * D + rank)`: noise of the diagonal, then of the factor's columns."""
        return n_samples, n_rows, 1, sum(self.factor.shape)

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """Residuals mu + exp(logvar / 2) eps_1 + U eps_2, `(L, K, R, D)`."""
        mu, logvar = self.moments(features)
        diagonal, columns = eps[:, :, 0].split(list(self.factor.shape), -1)
        common = (columns @ self.factor.T).unflatten(-1, self.shape)  # (L, K, R, D)
        return mu + (logvar / 2).exp() * diagonal.unflatten(-1, self.shape) + common

    def marginals(self, features: Tensor) -> Marginals:
        """Of the diagonal and the factor together."""
        mu, logvar = self.moments(features)
        common = self.factor.square().sum(1).unflatten(0, self.shape)  # (R, D)
        return Marginals(mu[None], (logvar.exp() + common).sqrt()[None])

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """Closed form `(K,)`; the residuals are not needed."""
        mu, logvar = self.moments(features)
        scaled = (-logvar / 2).exp().flatten(1)[..., None] * self.factor  # V (K, R * D, rank)
        inner = torch.eye(scaled.shape[-1]).to(scaled) + scaled.mT @ scaled
        # "_ex": neither waits for the device nor raises, so that a NaN reaches the loss
        root = torch.linalg.cholesky_ex(inner).L.diagonal(dim1=-2, dim2=-1)
        trace = self.factor.square().sum() / prior_std**2
        return gaussian_kl(mu, logvar, prior_std) + trace / 2 - root.log().sum(-1)
