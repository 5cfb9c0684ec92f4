"""Several components, one around each of several hand-written templates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import SAMPLERS, gaussian_kl, reparam_kl
from .base import OF_NOISE, Marginals, Posterior, PosteriorSpec, PromptSample
from .gaussian import bounded
from .mean import AmortizedNet

COMPONENTS = ("gaussian", "fixed", "delta")
_LOGVAR_INIT = -8.0  # std 0.018, a third of a token embedding's rms in the tiny CLIP; not measured


def of_each(n_samples: int, n_templates: int) -> int:
    """Samples of each template, or of the one context if there are none."""
    return -(-n_samples // max(1, n_templates))


class MixturePosterior(Posterior):
    """A component g and a residual r: q(g, r) = 1/G q_g(r) under the prior 1/G N(r; a_g, s^2 I).

    a_g is the residual that turns the initial context into template g, and q_g a Gaussian around
    a_g + d_g, or a point there; every d_g starts at 0. If the posterior depends on the image, one
    network of it shifts all components alike.

    The component is a latent variable of its own, so the KL divergence of the joint distributions
    has a closed form: the mean of the components' own. That of the residuals alone is less by what
    r does not tell about g, nothing where the components lie apart. Of points it is the mean of
    |d_g|^2 / (2 s^2): with the objective "elbo" every component is a maximum a posteriori estimate
    of its own.

    There are as many samples of each component, one at least; they come component by component.

    Args:
        rows: residuals of the shift by the image, 1 or M.
        width: D.
        feature_width: E if the posterior depends on the image, else 0.
        logvar_init: initial log-variance of all components; None = -8.
        anchors: a_g, `(G, M, D)`.
        lengths: tokens of each template that count, the others are padding; () = all.
        component: "gaussian" with a learned log-variance, "fixed" with a constant one, or "delta".

    Raises:
        ConfigError: fewer than two anchors, or of another width; an unknown kind of component.
    """

    prior_is_normal = False
    kl_is_exact = True
    draws_alike = False
    unread = ("rank", "ctx_init")
    anchors: Tensor
    live: Tensor
    logvars: Tensor | None

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None,
        anchors: Tensor | None = None, lengths: tuple[int, ...] = (), component: str = "gaussian",
    ):  # fmt: skip
        if component not in COMPONENTS:
            raise ConfigError(f"component is {component!r}; choose from {', '.join(COMPONENTS)}")
        if anchors is None or len(anchors) < 2 or anchors.dim() != 3 or anchors.shape[2] != width:
            got = "none" if anchors is None else tuple(anchors.shape)
            raise ConfigError(
                f"posterior 'mixture' needs anchors (G, M, D) = (2 or more, M, {width}), got {got}"
            )
        super().__init__(anchors.shape[1], width, feature_width)
        self.component, self.shift_rows = component, rows
        self.lengths = lengths or (anchors.shape[1],) * len(anchors)
        self.register_buffer("anchors", anchors.detach().clone().float())
        place = torch.arange(anchors.shape[1])[None, :, None]
        live = place < torch.tensor(self.lengths)[:, None, None]  # (G, M, 1)
        self.register_buffer("live", live.to(anchors.device), persistent=False)
        self.shifts = nn.Parameter(torch.zeros_like(self.anchors))
        start = _LOGVAR_INIT if logvar_init is None else float(logvar_init)
        if component == "gaussian":
            self.logvars = nn.Parameter(torch.full_like(self.anchors, start))
        else:
            fixed = torch.full_like(self.anchors, start) if component == "fixed" else None
            self.register_buffer("logvars", fixed)
        if feature_width:
            self.of_image = AmortizedNet(feature_width, rows * width)

    @classmethod
    def from_spec(cls, spec: PosteriorSpec) -> MixturePosterior:
        """With the anchors of `spec`."""
        return cls(
            spec.rows, spec.width, spec.feature_width, spec.logvar_init, spec.anchors,
            spec.lengths, spec.component,
        )  # fmt: skip

    @classmethod
    def not_read(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Points have no noise."""
        return cls.unread + (OF_NOISE if values.get("component") == "delta" else ())

    @classmethod
    def problems(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """It needs several templates, and residuals that can tell them apart."""
        problems, named = [], f"{names['posterior']} 'mixture'"
        if len(values["templates"]) < 2:
            problems.append(
                f"{named} needs two or more templates, such as ['a photo of a {{}}.', 'a {{}} in a "
                f"video game.'], got {list(values['templates'])} ({names['templates']})"
            )
        residuals = ("shared", "per_token") if values["conditional"] else ("per_token",)
        if values["residual"] not in residuals:
            problems.append(
                f"{names['residual']} is {values['residual']!r}; {named} has a centre for every "
                f"context token: give {' or '.join(residuals)}"
            )
        if values["component"] == "fixed" and values["logvar_init"] is None:
            problems.append(
                f"{names['component']} 'fixed' needs {names['logvar_init']} (-7.0: std 0.03)"
            )
        return problems

    @property
    def n_dims(self) -> int:
        """Numbers that a component is over, on average."""
        return round(sum(self.lengths) * self.shape[1] / len(self.lengths))

    def _each(self, n_samples: int) -> int:
        """Samples of each component."""
        return 1 if self.component == "delta" else of_each(n_samples, len(self.lengths))

    def noise_shape(self, n_samples: int, n_rows: int) -> tuple[int, int, int, int] | None:
        """`(L, K, M, D)`, L a multiple of G and `n_samples` at least; None of points."""
        if self.component == "delta":
            return None
        return self._each(n_samples) * len(self.lengths), n_rows, *self.shape

    def draw_noise(
        self,
        shape: tuple[int, int, int, int],
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Noise of a `noise_shape`; the sampler spreads the samples of each component."""
        n_parts = len(self.lengths)
        each, (n_samples, n_rows, *rest) = self._each(shape[0]), shape
        drawn = SAMPLERS[self.sampler](
            (each, n_parts * n_rows, rest[0], rest[1]), dtype=torch.float32,
            device=torch.device(device), generator=generator,
        )  # fmt: skip
        return (
            drawn.unflatten(1, (n_parts, n_rows)).transpose(0, 1).reshape(n_samples, n_rows, *rest)
        )

    def deviation(self, features: Tensor) -> Tensor:
        """d_g, with the image's shift, `(G, K, M, D)`; 0 where a template has no token."""
        mean = self.shifts[:, None]  # (G, 1, M, D)
        if self.conditional:
            shift = self.of_image(features).unflatten(-1, (self.shift_rows, -1))
            mean = mean + shift  # (G, B, M, D)
        return torch.where(self.live[:, None], mean, 0)

    def _moments(self, features: Tensor, prior_std: float) -> tuple[Tensor, Tensor]:
        """Mean d_g and log-variance `(G, K, M, D)`; those of the prior where there is no token."""
        mean = self.deviation(features)
        prior = 2 * math.log(prior_std)
        logvar = torch.where(self.live, bounded(self.logvars), prior)  # type: ignore[arg-type]
        return mean, logvar[:, None].expand_as(mean)

    def origins(self, n_samples: int) -> Tensor:
        """The template of each sample, `(L, 1, M, D)`."""
        return self.anchors.repeat_interleave(self._each(n_samples), 0)[:, None]

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """Residuals `(L, K, M, D)`, in the order of their components."""
        each = self._each(n_samples)
        found = self.deviation(features).repeat_interleave(each, 0)
        if self.logvars is not None:
            found = found + self._std().repeat_interleave(each, 0) * eps
        return self.origins(n_samples) + found

    def _std(self) -> Tensor:
        """Of the noise, `(G, 1, M, D)`; 0 where a template has no token."""
        if self.logvars is None:
            return torch.zeros_like(self.anchors)[:, None]
        return torch.where(self.live, (bounded(self.logvars) / 2).exp(), 0)[:, None]

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """Mean of the components' own, `(K,)`; of points minus the log-density of the prior."""
        if self.component == "delta":
            return self.deviation(features).square().sum((2, 3)).mean(0) / (2 * prior_std**2)
        mean, logvar = self._moments(features, prior_std)
        each = gaussian_kl(mean.flatten(0, 1), logvar.flatten(0, 1), prior_std)  # (G * K,)
        return each.unflatten(0, mean.shape[:2]).mean(0)

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
        """As every posterior's; all components are rows of one fused operation."""
        shape = self.noise_shape(n_samples, len(features) if self.conditional else 1)
        if shape is None or (eps is not None and eps.shape != shape):
            return super().sample(
                context, n_samples, features, prior_std=prior_std, eps=eps, generator=generator
            )
        if eps is None:
            eps = self.draw_noise(shape, context.device, generator)
        each = self._each(n_samples)
        mean, logvar = (
            t.repeat_interleave(each, 0).flatten(0, 1) for t in self._moments(features, prior_std)
        )  # (L * K, M, D)
        found, kl = reparam_kl(
            mean, logvar, context.new_zeros(self.shape), 1, prior_std=prior_std,
            eps=eps.reshape(1, *mean.shape),
        )  # fmt: skip
        found = found[0].unflatten(0, shape[:2])
        if len(set(self.lengths)) > 1:  # of padding nothing but its KL, 0, is right
            found = torch.where(self.live.repeat_interleave(each, 0)[:, None], found, 0)
        residual = self.origins(n_samples) + found
        return PromptSample(context + residual, kl.unflatten(0, shape[:2]).mean(0))

    def marginals(self, features: Tensor) -> Marginals:
        """Those of each component."""
        mean = self.anchors[:, None] + self.deviation(features)
        return Marginals(mean, self._std().expand_as(mean), self.lengths)
