"""The prompt learner: context vectors plus a residual drawn from a posterior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ops import reparam_kl
from .posteriors import Posterior


@dataclass(frozen=True)
class PromptSample:
    """Contexts `(L, K, M, D)`, or `(1, 1, C, M, D)` if class-specific, and kl `(K,)` in nats."""

    contexts: Tensor
    kl: Tensor


class PromptLearner(nn.Module):
    """Everything that is trained, and nothing else.

    Args:
        context: initial context `(M, D)`, or `(C, M, D)` for one context per class.
        posterior: distribution of the residual; None = no residual (CoOp).
        learn_context: False keeps the context at its initial value.
        prior_std: standard deviation s of the prior N(0, s^2 I) of the residual.
        sampler: how the noise is drawn, see `varprompt.ops.reparam_kl`.
    """

    def __init__(
        self,
        context: Tensor,
        posterior: Posterior | None = None,
        *,
        learn_context: bool = True,
        prior_std: float = 1.0,
        sampler: str = "gaussian",
    ):
        super().__init__()
        context = context.detach().clone().float()  # half precision loses small updates
        if learn_context:
            self.ctx = nn.Parameter(context)
        else:
            self.register_buffer("ctx", context)
        self.posterior = posterior
        self.prior_std = prior_std
        self.sampler = sampler

    @property
    def conditional(self) -> bool:
        """Whether the prompts depend on the image (K = B)."""
        return self.posterior is not None and not hasattr(self.posterior, "mu")

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
            eps: standard normal noise `(L, K, R, D)` to use instead of drawing it.
            generator: source of the noise; None = torch's global one.
        """
        with torch.autocast(self.ctx.device.type, enabled=False):  # noise and KL stay float32
            if self.posterior is None:
                return PromptSample(self.ctx[None, None], self.ctx.new_zeros(1))
            mu, logvar = self.posterior(features)
            if logvar is None:
                # minus the log-density of the prior at mu, up to a constant
                kl = mu.square().sum((1, 2)) / (2 * self.prior_std**2)
                return PromptSample((self.ctx + mu)[None], kl)
            contexts, kl = reparam_kl(
                mu, logvar, self.ctx, n_samples,
                prior_std=self.prior_std, eps=eps, generator=generator, sampler=self.sampler,
            )  # fmt: skip
            return PromptSample(contexts, kl)
