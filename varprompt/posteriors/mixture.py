"""Several Gaussians, one for each of several hand-written templates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Marginals, Posterior, PosteriorSpec, normal_log_prob
from .gaussian import bounded

_LOGVAR_INIT = -8.0  # std 0.018, a third of a token embedding's rms in the tiny CLIP; not measured


class MixturePosterior(Posterior):
    """q(r) = 1/G sum_g N(r; mu_g, diag(exp(logvar_g))) under a prior of the same form.

    With a_g the residual that turns the initial context into template g, the prior is
    p(r) = 1/G sum_g N(r; a_g, s^2 I), and component g starts at mu_g = a_g. The weights are
    constant. Keep the context fixed (`learn_context` False) for the prior to stay at the templates.

    The KL divergence has no closed form: `kl` is the Monte Carlo estimate over the samples.
    Sampling is stratified (systematic): sample l belongs to component floor(G (l + u) / L), one u
    from U(0, 1) for all samples, so that every component has G / L of them, rounded up or down,
    and exactly its share on average.

    Args:
        rows: R, as many as there are context tokens.
        width: D.
        feature_width: 0, it cannot depend on the image.
        logvar_init: initial log-variance of all components; None = -8.
        anchors: a_g, `(G, R, D)`.

    Raises:
        ConfigError: fewer than two anchors, anchors of another shape, or a feature width.
    """

    conditional_options = (False,)
    prior_is_normal = False
    anchors: Tensor

    def __init__(
        self,
        rows: int,
        width: int,
        feature_width: int = 0,
        logvar_init: float | None = None,
        anchors: Tensor | None = None,
    ):
        if feature_width:
            raise ConfigError("posterior 'mixture' cannot depend on the image: feature_width is 0")
        if anchors is None or len(anchors) < 2 or anchors.shape[1:] != (rows, width):
            got = "none" if anchors is None else tuple(anchors.shape)
            raise ConfigError(
                f"posterior 'mixture' needs anchors (G, R, D) = (2 or more, {rows}, {width}), "
                f"got {got}"
            )
        super().__init__(rows, width)
        self.register_buffer("anchors", anchors.detach().clone().float())
        self.means = nn.Parameter(self.anchors.clone())
        start = _LOGVAR_INIT if logvar_init is None else float(logvar_init)
        self.logvars = nn.Parameter(torch.full_like(self.anchors, start))

    @classmethod
    def from_spec(cls, spec: PosteriorSpec) -> MixturePosterior:
        """With the anchors of `spec`."""
        return cls(spec.rows, spec.width, spec.feature_width, spec.logvar_init, spec.anchors)

    @classmethod
    def problems(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """It needs several templates, and a residual that can tell them apart."""
        problems = []
        if len(values["ctx_init"].split("|")) < 2:
            problems.append(
                f"{names['posterior']} 'mixture' needs several templates in {names['ctx_init']}, "
                f"separated by |, such as 'a photo of a|a picture of the', "
                f"got {values['ctx_init']!r}"
            )
        if values["residual"] != "per_token":
            problems.append(
                f"{names['residual']} is {values['residual']!r}; posterior 'mixture' has a centre "
                "for every context token: give per_token"
            )
        return problems

    def noise_shape(self, n_samples: int, n_rows: int) -> tuple[int, int, int, int]:
        """`(L, 1, 1, R * D + 1)`; the last number of the first sample decides u."""
        return n_samples, 1, 1, self.n_dims + 1

    def components(self, n_samples: int, eps: Tensor) -> Tensor:
        """The component of each sample, `(L,)`, for noise of `noise_shape`."""
        u = torch.special.ndtr(eps[0, 0, 0, -1].double())
        ticks = (torch.arange(n_samples, device=eps.device) + u) * (len(self.means) / n_samples)
        return ticks.long().clamp(max=len(self.means) - 1)

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """Residuals `(L, 1, R, D)`, in the order of their components."""
        which = self.components(n_samples, eps)
        noise = eps[:, 0, 0, :-1].unflatten(-1, self.shape)  # (L, R, D)
        std = (bounded(self.logvars) / 2).exp()
        return (self.means[which] + std[which] * noise)[:, None]

    def marginals(self, features: Tensor) -> Marginals:
        """Those of each component."""
        std = (bounded(self.logvars) / 2).exp()
        return Marginals(self.means[:, None], std[:, None])

    def log_prob(self, residual: Tensor, features: Tensor) -> Tensor:
        """Log-density `(L, 1)` of the mixture."""
        return _mixture_log_prob(residual, self.means, bounded(self.logvars))

    def log_prior(self, residual: Tensor, prior_std: float) -> Tensor:
        """Log-density `(L, 1)` of the mixture around the anchors."""
        logvar = residual.new_tensor(2 * math.log(prior_std))
        return _mixture_log_prob(residual, self.anchors, logvar)


def _mixture_log_prob(residual: Tensor, means: Tensor, logvar: Tensor) -> Tensor:
    """Log-density `(L, K)` of residuals `(L, K, R, D)` under equal Gaussians at `(G, R, D)`."""
    deviation = residual[:, :, None] - means  # (L, K, G, R, D)
    return normal_log_prob(deviation, logvar).logsumexp(-1) - math.log(len(means))
