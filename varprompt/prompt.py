"""What is learned: context vectors, plus a residual drawn from a posterior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .posteriors import Posterior, PromptSample

__all__ = ["PromptLearner", "PromptSample"]


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
