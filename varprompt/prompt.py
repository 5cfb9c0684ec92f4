"""What is learned: context vectors, plus a residual drawn from a posterior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .common.checks import check_range
from .config import MOST_SAMPLES, PromptConfig
from .deep import DeepPrompts, Prompts, deep_shape
from .errors import ConfigError
from .ops import MAX_SOBOL_DIMS
from .posteriors import POSTERIORS, Posterior, PosteriorSpec, PromptSample
from .start import Start, start_of

__all__ = ["PromptLearner", "PromptSample", "Prompts", "build_learner"]


class PromptLearner(nn.Module):
    """Everything that is trained, and nothing else.

    Args:
        context: initial context `(M, D)`, or `(C, M, D)` for one context per class.
        posterior: distribution of the residual; None = no residual (CoOp).
        learn_context: False keeps the context at its initial value.
        prior_std: standard deviation s of the prior of the residual.
        words: embeddings `(F, D)` of fixed words between context and class name, `(G, F, D)` if
            they are those of a mixture's components; None = none.
        deep: prompts besides the context; None = none.
        per_layer: the R residuals belong to the layers of the text tower that have prompts, not to
            its tokens.
        couple_residual: the residual reaches the image tower, too, through the maps that make
            visual prompts of the text tower's.
    """

    words: Tensor | None

    def __init__(
        self,
        context: Tensor,
        posterior: Posterior | None = None,
        *,
        learn_context: bool = True,
        prior_std: float = 1.0,
        words: Tensor | None = None,
        deep: DeepPrompts | None = None,
        per_layer: bool = False,
        couple_residual: bool = False,
    ):
        super().__init__()
        context = context.detach().clone().float()  # half precision loses small updates
        if learn_context:
            self.ctx = nn.Parameter(context)
        else:
            self.register_buffer("ctx", context)
        self.register_buffer("words", words, persistent=False)
        self.posterior = posterior
        self.prior_std = prior_std
        self.deep = deep
        self.per_layer = per_layer
        self.couple_residual = couple_residual

    @property
    def conditional(self) -> bool:
        """Whether the prompts depend on the image (K = B)."""
        return self.posterior is not None and self.posterior.conditional

    @property
    def n_tokens(self) -> int:
        """Tokens in front of a class name, M + F."""
        return self.ctx.shape[-2] + (0 if self.words is None else self.words.shape[-2])

    @property
    def n_dims(self) -> int:
        """Numbers that the posterior of one prompt is over (1 without a posterior)."""
        return 1 if self.posterior is None else self.posterior.n_dims

    def draw_noise(self, n_samples: int, generator: torch.Generator) -> Tensor | None:
        """Noise of one row for `forward`, drawn on the CPU: the same for every device and image.

        It is what `Posterior.noise_shape` says, with K = 1: expand that axis to the images if the
        prompts depend on them. None if there is no noise.
        """
        shape = None if self.posterior is None else self.posterior.noise_shape(n_samples, 1)
        if self.posterior is None or shape is None:
            return None
        _check_samples(n_samples)
        return self.posterior.draw_noise(shape, "cpu", generator).to(self.ctx.device)

    def forward(
        self,
        n_samples: int,
        features: Tensor,
        *,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Prompts:
        """Draw L = `n_samples` contexts; one, whatever is asked for, if there is no noise.

        A shared residual is added to every prompt of the text tower, in all its layers; one per
        token to the prompts at its place in all layers; one per layer to all prompts of the layer.

        Args:
            n_samples: L.
            features: unit-norm image features `(B, E)`; their values matter only if `conditional`.
            eps: noise to use instead of drawing it, see `Posterior.noise_shape`.
            generator: source of the noise; None = torch's global one.

        Raises:
            ConfigError: L is no whole number from 1 on.
        """
        _check_samples(n_samples)
        given = (n_samples, features, eps, generator)
        with torch.autocast(self.ctx.device.type, enabled=False):  # noise and KL stay float32
            if self.deep is not None:
                return self._in_layers(self.deep, *given)
            sample = self._sample(self.ctx, *given)
            mean = None
            if self.posterior is not None:
                mean = (sample.contexts.mean(0) - self.ctx)[:, : self.posterior.shape[0]]
            return Prompts(self._with_words(sample.contexts), sample.kl, residual=mean)

    def _in_layers(self, deep: DeepPrompts, *given: Any) -> Prompts:
        """The residual, added to the prompts of all layers."""
        layers = torch.cat([self.ctx[None], deep.text])[:, None, None]  # (J, 1, 1, M, D)
        kl, visual, mean = self.ctx.new_zeros(1), None, None
        if self.posterior is not None:
            sample = self._sample(self.ctx.new_zeros(self.posterior.shape), *given)
            residual, kl = sample.contexts, sample.kl  # (L, K, R, D)
            mean = residual.mean(0)
            origins = self.posterior.origins(len(residual))
            if self.per_layer:  # R = J
                residual = residual.movedim(2, 0)[:, :, :, None]  # (J, L, K, 1, D)
            if origins is None:
                layers = layers + residual  # (J, L, K, M, D)
            else:  # in front of deeper layers there are no words that could be a template's
                deeper = layers[1:] + (residual - origins)
                layers = torch.cat([layers[:1] + residual, deeper])
            if self.couple_residual:
                visual = deep.visual_of(layers[0], layers[1:])
        below = layers[1:] if len(layers) > 1 else None
        return Prompts(self._with_words(layers[0]), kl, below, visual, mean)

    def visual(self) -> Tensor | None:
        """Visual prompts without the residual, `(1, 1, J, N, V)`; None if there are none."""
        if self.deep is None:
            return None
        with torch.autocast(self.ctx.device.type, enabled=False):
            return self.deep.visual_of(self.ctx[None, None], self.deep.text[:, None, None])

    def _sample(
        self, context: Tensor, n_samples: int, features: Tensor, eps: Tensor | None,
        generator: torch.Generator | None,
    ) -> PromptSample:  # fmt: skip
        if self.posterior is None:
            return PromptSample(context[None, None], context.new_zeros(1))
        return self.posterior.sample(
            context, n_samples, features, prior_std=self.prior_std, eps=eps, generator=generator
        )

    def _with_words(self, contexts: Tensor) -> Tensor:
        """Contexts with the fixed words behind them, `(..., M + F, D)`."""
        if self.words is None:
            return contexts
        words = self.words
        if words.dim() == 3:  # component by component
            words = words.repeat_interleave(len(contexts) // len(words), 0)[:, None]
        words = words.expand(*contexts.shape[:-2], -1, -1)
        return torch.cat([contexts, words], -2)


def _check_samples(n_samples: int) -> None:
    problems: list[str] = []
    check_range(n_samples, 1, MOST_SAMPLES, "n_samples", problems, whole=True)
    if problems:
        raise ConfigError(problems)


def build_learner(clip_model: Any, cfg: PromptConfig, n_classes: int) -> PromptLearner:
    """The learner that `cfg` describes, in front of the given CLIP and on its device.

    Raises:
        ConfigError: another number of tokens than the words have, nothing to learn, or more noise
            than the sampler has dimensions.
    """
    start = start_of(clip_model, cfg, n_classes)
    context = start.context
    shape = deep_shape(clip_model, cfg, context)
    return PromptLearner(
        context,
        _posterior(clip_model, cfg, start),
        learn_context=cfg.learn_context,
        prior_std=cfg.prior_std * start.unit,
        words=start.words,
        deep=DeepPrompts(shape, cfg.learn_context) if shape else None,
        per_layer=cfg.residual == "per_layer",
        couple_residual=cfg.couple_residual,
    ).to(context.device, torch.float32)  # also where torch's default is another format


def _posterior(clip_model: Any, cfg: PromptConfig, start: Start) -> Posterior | None:
    if not cfg.posterior:
        return None
    n_tokens, width = start.context.shape[-2:]
    spec = PosteriorSpec(
        rows={"shared": 1, "per_token": n_tokens, "per_layer": cfg.depth}[cfg.residual],
        width=width,
        feature_width=clip_model.text_projection.shape[1] if cfg.conditional else 0,
        logvar_init=start.logvar(cfg.logvar_init),
        rank=cfg.rank,
        anchors=start.anchors,
        lengths=start.lengths,
        component=cfg.component,
    )
    posterior = POSTERIORS[cfg.posterior].from_spec(spec)
    posterior.sampler = cfg.sampler
    shape = posterior.noise_shape(1, 1)
    if not (cfg.learn_context or any(True for _ in posterior.parameters())):
        raise ConfigError(
            f"learn_context is False and posterior {cfg.posterior!r} has no parameters: nothing "
            "would be learned"
        )
    if shape and cfg.sampler == "sobol" and math.prod(shape[2:]) > MAX_SOBOL_DIMS:
        raise ConfigError(
            f"sampler 'sobol' has at most {MAX_SOBOL_DIMS} dimensions, posterior {cfg.posterior!r} "
            f"takes {math.prod(shape[2:])}: share one residual, or choose 'antithetic'"
        )
    return posterior
