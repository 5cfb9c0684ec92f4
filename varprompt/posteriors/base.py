"""What a posterior over the prompt residual answers, and what every family of them inherits.

Shapes: L samples, K rows (1, or B images if the posterior depends on the image), R residuals per
prompt (1 = shared by all context tokens, or M), D text width, E joint width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import SAMPLERS

OF_NOISE = ("logvar_init", "n_samples", "n_samples_test", "test_seed", "sampler")
"""Fields of `PromptConfig` that mean nothing without noise."""
_DRAWS = 256  # of `Posterior.marginals`: deviations to 5 %


@dataclass(frozen=True)
class PromptSample:
    """Contexts `(L, K, M, D)`, or `(1, 1, C, M, D)` if class-specific, and kl `(K,)` in nats."""

    contexts: Tensor
    kl: Tensor


@dataclass(frozen=True)
class Marginals:
    """Means and standard deviations `(G, K, R, D)` of residuals, of each of G components.

    `lengths`: residuals of each component that count, where some have fewer than R; () = all.
    """

    mean: Tensor
    std: Tensor
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class PosteriorSpec:
    """All that a family may be built from.

    Attributes:
        rows: R.
        width: D.
        feature_width: E if the posterior depends on the image, else 0.
        logvar_init: initial log-variance; None = the family's own start.
        rank: columns of a low-rank factor.
        anchors: residuals `(G, M, D)` that turn the initial context into each of G templates; None
            if there are none.
        lengths: tokens of each template that count, M at most.
        component: family of each component of a mixture.
    """

    rows: int
    width: int
    feature_width: int = 0
    logvar_init: float | None = None
    rank: int = 4
    anchors: Tensor | None = None
    lengths: tuple[int, ...] = ()
    component: str = "gaussian"


class Posterior(nn.Module):
    """Base class: a family gives `rsample` and either `kl` or `log_prob`.

    Args:
        rows: R.
        width: D.
        feature_width: E if the posterior depends on the image, else 0.
        logvar_init: initial log-variance, for families that have one.

    Attributes:
        conditional: whether the posterior depends on the image (K = B).
        sampler: a name in `varprompt.ops.SAMPLERS`, how noise is drawn.
        conditional_options: values of `conditional` that the family can be built for.
        kl_is_exact: whether `kl` is a closed form; the one of this class is a Monte Carlo estimate.
        prior_is_normal: whether the prior is N(0, s^2 I), so that its mean can be moved.
        draws_alike: whether samples are independent draws of one distribution, so that they tell
            the Monte Carlo error of their mean.
        unread: fields of `PromptConfig` that the family does not read: whoever sets one is told.
    """

    conditional: bool = False
    sampler: str = "gaussian"
    conditional_options: tuple[bool, ...] = (False, True)
    kl_is_exact: bool = False
    prior_is_normal: bool = True
    draws_alike: bool = True
    unread: tuple[str, ...] = ("rank", "component")

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__()
        self.shape = (rows, width)
        self.feature_width = feature_width
        if feature_width:
            self.conditional = True

    @classmethod
    def from_spec(cls, spec: PosteriorSpec) -> Posterior:
        """Built as `spec` says; a family that needs more than four of its values overrides this."""
        return cls(spec.rows, spec.width, spec.feature_width, spec.logvar_init)

    @classmethod
    def problems(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """What this family cannot do with a configuration.

        Args:
            values: fields of `varprompt.config.PromptConfig`, all of them.
            names: the same fields -> how the user calls them.
        """
        return []

    @classmethod
    def not_read(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """`unread`, and what the family does not read beside these fields of `PromptConfig`."""
        return cls.unread

    @property
    def n_dims(self) -> int:
        """R * D, numbers that the posterior of one prompt is over."""
        return math.prod(self.shape)

    def noise_shape(self, n_samples: int, n_rows: int) -> tuple[int, int, int, int] | None:
        """Shape of the standard normal noise that `sample` takes as `eps`; None if it takes none.

        The first two axes are L and K; what follows belongs to the family, here `(R, D)`.
        """
        return (n_samples, n_rows, *self.shape)

    def draw_noise(
        self,
        shape: tuple[int, int, int, int],
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Noise of the given `noise_shape`, float32, drawn by the sampler."""
        options = {"device": torch.device(device), "generator": generator}
        return SAMPLERS[self.sampler](shape, dtype=torch.float32, **options)

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """Residuals `(L, K, R, D)`, differentiable in the parameters; L = 1 if there is no noise.

        Args:
            n_samples: L.
            features: unit-norm image features `(B, E)`.
            eps: noise of `noise_shape(L, K)`; empty if there is none.
        """
        raise NotImplementedError

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """KL divergence from the prior, `(K,)` in nats, summed over R and D.

        Here the Monte Carlo estimate mean_l [log q(r_l) - log p(r_l)], unbiased in value and
        gradient; a family with a closed form overrides it and sets `kl_is_exact`.

        Args:
            residual: what `rsample` drew, `(L, K, R, D)`.
            features: unit-norm image features `(B, E)`.
            prior_std: s of the prior.
        """
        return (self.log_prob(residual, features) - self.log_prior(residual, prior_std)).mean(0)

    def log_prob(self, residual: Tensor, features: Tensor) -> Tensor:
        """Log-density `(L, K)` of residuals `(L, K, R, D)`; only a Monte Carlo KL needs it."""
        raise NotImplementedError

    def log_prior(self, residual: Tensor, prior_std: float) -> Tensor:
        """Log-density `(L, K)` of the prior, N(0, s^2 I) unless a family has its own."""
        return normal_log_prob(residual, residual.new_tensor(2 * math.log(prior_std)))

    def origins(self, n_samples: int) -> Tensor | None:
        """What the samples' residuals are around, `(L, 1, R, D)`; None = 0, the initial context."""
        return None

    def marginals(self, features: Tensor) -> Marginals:
        """Where residuals are and how far they scatter, number by number: to look at.

        Here from `_DRAWS` draws with a seed of their own; a family that knows it overrides this.

        Args:
            features: unit-norm image features `(B, E)`.
        """
        shape = self.noise_shape(_DRAWS, len(features) if self.conditional else 1)
        eps = features.new_empty(0)
        if shape is not None:
            eps = self.draw_noise(shape, "cpu", torch.Generator().manual_seed(0)).to(
                features.device
            )
        draws = self.rsample(_DRAWS, features, eps)  # (L, K, R, D)
        return Marginals(draws.mean(0)[None], draws.std(0, correction=0)[None])

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
        """Draw L contexts; one, whatever is asked for, if there is no noise.

        Args:
            context: `(M, D)`.
            n_samples: L.
            features: unit-norm image features `(B, E)`; their values matter only if `conditional`.
            prior_std: s of the prior.
            eps: noise of `noise_shape(L, K)` to use instead of drawing it.
            generator: source of the noise; None = torch's global one.

        Raises:
            ValueError: `eps` has another shape.
        """
        n_rows = len(features) if self.conditional else 1
        shape = self.noise_shape(n_samples, n_rows)
        if shape is None:
            eps = context.new_empty(0)
        elif eps is None:
            eps = self.draw_noise(shape, context.device, generator)
        elif eps.shape != shape:
            raise ValueError(f"eps must be {shape}, got {tuple(eps.shape)}")
        residual = self.rsample(n_samples, features, eps)  # (L, K, R, D)
        return PromptSample(context + residual, self.kl(residual, features, prior_std))


def normal_log_prob(deviation: Tensor, logvar: Tensor) -> Tensor:
    """Log-density of N(0, exp(logvar)) at `deviation`, summed over its last two axes."""
    terms = deviation.square() * (-logvar).exp() + logvar + math.log(2 * math.pi)
    return terms.sum((-2, -1)) / -2
