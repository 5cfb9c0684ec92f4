"""What is learned: context vectors, plus a residual drawn from a posterior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .config import PromptConfig
from .errors import ConfigError
from .ops import MAX_SOBOL_DIMS
from .posteriors import POSTERIORS, Posterior, PosteriorSpec, PromptSample
from .towers.tokens import embed_words, encode

__all__ = ["PromptLearner", "PromptSample", "build_learner"]


class PromptLearner(nn.Module):
    """Everything that is trained, and nothing else.

    Args:
        context: initial context `(M, D)`, or `(C, M, D)` for one context per class.
        posterior: distribution of the residual; None = no residual (CoOp).
        learn_context: False keeps the context at its initial value.
        prior_std: standard deviation s of the prior of the residual.
    """

    def __init__(
        self,
        context: Tensor,
        posterior: Posterior | None = None,
        *,
        learn_context: bool = True,
        prior_std: float = 1.0,
    ):
        super().__init__()
        context = context.detach().clone().float()  # half precision loses small updates
        if learn_context:
            self.ctx = nn.Parameter(context)
        else:
            self.register_buffer("ctx", context)
        self.posterior = posterior
        self.prior_std = prior_std

    @property
    def conditional(self) -> bool:
        """Whether the prompts depend on the image (K = B)."""
        return self.posterior is not None and self.posterior.conditional

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
        return self.posterior.draw_noise(shape, "cpu", generator).to(self.ctx.device)

    def forward(
        self,
        n_samples: int,
        features: Tensor,
        *,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PromptSample:
        """Draw L = `n_samples` contexts; one, whatever is asked for, if there is no noise.

        Args:
            n_samples: L.
            features: unit-norm image features `(B, E)`; their values matter only if `conditional`.
            eps: noise to use instead of drawing it, see `Posterior.noise_shape`.
            generator: source of the noise; None = torch's global one.
        """
        with torch.autocast(self.ctx.device.type, enabled=False):  # noise and KL stay float32
            if self.posterior is None:
                return PromptSample(self.ctx[None, None], self.ctx.new_zeros(1))
            return self.posterior.sample(
                self.ctx, n_samples, features,
                prior_std=self.prior_std, eps=eps, generator=generator,
            )  # fmt: skip


def build_learner(clip_model: Any, cfg: PromptConfig, n_classes: int) -> PromptLearner:
    """The learner that `cfg` describes, in front of the given CLIP and on its device.

    Raises:
        ConfigError: another number of tokens than the words have, or more noise than the sampler
            has dimensions.
    """
    context = _initial_context(clip_model, cfg, n_classes)
    return PromptLearner(
        context,
        _posterior(clip_model, cfg, context),
        learn_context=cfg.learn_context,
        prior_std=cfg.prior_std,
    ).to(context.device)


def _initial_context(clip_model: Any, cfg: PromptConfig, n_classes: int) -> Tensor:
    """Context `(M, D)`, or `(C, M, D)` if class-specific: words, or N(0, 0.02^2) as in CoOp."""
    weight = clip_model.token_embedding.weight
    if problems := _token_problems(clip_model, cfg):
        raise ConfigError(problems)
    if cfg.templates:
        return embed_words(clip_model, cfg.templates[0])
    shape = (n_classes,) if cfg.class_specific else ()
    return (torch.randn(*shape, cfg.n_context, weight.shape[1]) * 0.02).to(weight.device)


def _token_problems(clip_model: Any, cfg: PromptConfig) -> list[str]:
    """What is wrong with the words of the context, of which M counts the tokens."""
    counts = [len(encode(words, clip_model)) for words in cfg.templates]
    if len(set(counts)) > 1:
        return [f"CTX_INIT {cfg.ctx_init!r} has templates of {counts} tokens; give equally many"]
    if cfg.n_ctx is None or not counts or cfg.n_ctx == counts[0]:
        return []
    return [
        f"N_CTX is {cfg.n_ctx} but CTX_INIT {cfg.ctx_init!r} has {counts[0]} tokens (a word may be "
        f"several); give N_CTX {counts[0]}, or CTX_INIT '' to start from random vectors"
    ]


def _posterior(clip_model: Any, cfg: PromptConfig, context: Tensor) -> Posterior | None:
    if not cfg.posterior:
        return None
    anchors = [embed_words(clip_model, words) - context for words in cfg.templates]
    spec = PosteriorSpec(
        rows=context.shape[0] if cfg.residual == "per_token" else 1,
        width=context.shape[1],
        feature_width=clip_model.text_projection.shape[1] if cfg.conditional else 0,
        logvar_init=cfg.logvar_init,
        rank=cfg.rank,
        anchors=torch.stack(anchors) if anchors else None,
    )
    posterior = POSTERIORS[cfg.posterior].from_spec(spec)
    posterior.sampler = cfg.sampler
    shape = posterior.noise_shape(1, 1)
    if shape and cfg.sampler == "sobol" and math.prod(shape) > MAX_SOBOL_DIMS:
        raise ConfigError(
            f"sampler 'sobol' has at most {MAX_SOBOL_DIMS} dimensions, posterior {cfg.posterior!r} "
            f"takes {math.prod(shape)}: share one residual, or choose 'antithetic'"
        )
    return posterior
