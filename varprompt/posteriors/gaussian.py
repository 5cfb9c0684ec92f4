"""Diagonal Gaussians: the paper's, and one whose variance is a constant (arXiv 2210.02390)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import gaussian_kl, reparam_kl
from .base import Marginals, PromptSample
from .mean import AmortizedNet, MeanPosterior

LOGVAR_BOUNDS = (-20.0, 10.0)  # standard deviations of 5e-5 and 150: no under- or overflow
_BEND = 3.0  # how sharply `bounded` turns at a bound


def bounded(logvar: Tensor) -> Tensor:
    """Keep log-variances within `LOGVAR_BOUNDS`, smoothly; unchanged to 1e-8 from -12 to 4.

    Two soft corners, l + softplus(b (x - l)) / b at the lower bound and its mirror image at the
    upper one, written as corrections of a clamp so that nothing is rounded in between.
    """
    low, high = LOGVAR_BOUNDS
    lift = F.softplus(-_BEND * (logvar - low).abs()) / _BEND
    drop = F.softplus(-_BEND * (logvar - high).abs()) / _BEND
    # unlike clamp's, the derivative of these is 1/2 at a bound in every version of torch
    inside = logvar.maximum(logvar.new_full((), low)).minimum(logvar.new_full((), high))
    return inside + lift - drop


class GaussianPosterior(MeanPosterior):
    """Diagonal Gaussian with a learned log-variance (the paper's).

    The authors start a free log-variance at U(0, 1), a standard deviation of 1 to 1.65, and leave
    the amortised one at its network's default initialisation, a standard deviation of about 1.
    """

    kl_is_exact = True
    logvar: Any  # a network if the posterior depends on the image, else a parameter or a constant

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__(rows, width, feature_width, logvar_init)
        self._make_logvar(logvar_init)

    def _make_logvar(self, logvar_init: float | None) -> None:
        if self.conditional:
            self.logvar = AmortizedNet(self.feature_width, self.n_dims)
            if logvar_init is not None:
                nn.init.constant_(self.logvar[-1].bias, logvar_init)
        else:
            start = torch.rand(*self.shape) if logvar_init is None else logvar_init
            self.logvar = nn.Parameter(torch.zeros(*self.shape) + start)

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance within `LOGVAR_BOUNDS`, `(K, R, D)` each."""
        if self.conditional:
            logvar = self.logvar(features).unflatten(-1, self.shape)
        else:
            logvar = self.logvar[None]
        return self.location(features), bounded(logvar)

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """Residuals mu + exp(logvar / 2) eps, `(L, K, R, D)`."""
        mu, logvar = self.moments(features)
        return mu + (logvar / 2).exp() * eps

    def marginals(self, features: Tensor) -> Marginals:
        """The parameters themselves, one component."""
        mu, logvar = self.moments(features)
        return Marginals(mu[None], (logvar / 2).exp()[None])

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """Closed form `(K,)`; the residuals are not needed."""
        return gaussian_kl(*self.moments(features), prior_std)

    def sample(
        self,
        context: Tensor,
        n_samples: int,
        features: Tensor,
        *,
        prior_std: float,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PromptSample:
        """As every posterior's, in one fused operation."""
        mu, logvar = self.moments(features)
        contexts, kl = reparam_kl(
            mu, logvar, context, n_samples,
            prior_std=prior_std, eps=eps, generator=generator, sampler=self.sampler,
        )  # fmt: skip
        return PromptSample(contexts, kl)


class FixedPosterior(GaussianPosterior):
    """Gaussian with a learned mean and the constant log-variance `logvar_init`."""

    def _make_logvar(self, logvar_init: float | None) -> None:
        if logvar_init is None:
            raise ConfigError("posterior 'fixed' needs logvar_init (-7.0: std 0.03)")
        self.register_buffer("logvar", torch.full((1, *self.shape), float(logvar_init)))

    @classmethod
    def problems(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """The constant must be given."""
        if values["logvar_init"] is not None:
            return []
        return [f"{names['posterior']} 'fixed' needs {names['logvar_init']} (-7.0: std 0.03)"]

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Learned mean and constant log-variance, `(K, R, D)` each."""
        mu = self.location(features)
        return mu, self.logvar.expand_as(mu)
