"""A prior of the residual around the words of an image's class, as VaMP's is of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .class_words import mean_templates, mean_words
from .config import PromptConfig


def class_prior(
    clip_model: Any, lists: Sequence[Sequence[str]], config: PromptConfig, context: Tensor,
    prior_std: float,
) -> ClassPrior | None:  # fmt: skip
    """The prior that `config` asks for; None if it is around the context itself.

    Args:
        clip_model: gives embeddings.
        lists: what each of C classes is called, one text or several, all of whose words count.
        config: has `prior_mean`.
        context: initial, `(M, D)`; of what it is moved for a class already, the rest is left.
        prior_std: s.
    """
    if config.prior_mean != "class_words":
        return None
    words = mean_words(clip_model, [" ".join(own) for own in lists])  # (C, D)
    start = context.detach().mean(0)
    if config.class_words:
        start = start + config.class_words * (words - mean_templates(clip_model, config))
    return ClassPrior(words - start, config, prior_std)


class ClassPrior(nn.Module):
    """N(m_y, s^2 I) in place of N(0, s^2 I), y the label of an image that is trained on.

    Of residuals per layer the first one has it: what is in front of deeper layers are no words.

    Args:
        means: m `(C, D)`: from the mean of the initial context to that of the class's words.
        config: says how residuals are shared.
        prior_std: s.
    """

    means: Tensor

    def __init__(self, means: Tensor, config: PromptConfig, prior_std: float):
        super().__init__()
        self.register_buffer("means", means.detach().float(), persistent=False)
        self.first_only = config.residual == "per_layer"
        self.prior_std = prior_std

    def shift(self, residual: Tensor, labels: Tensor) -> Tensor:
        """What its KL has in excess of that from N(0, s^2 I), `(B,)` in nats.

        E[|r - m|^2 - |r|^2] / (2 s^2) = (|m|^2 - 2 <E[r], m>) / (2 s^2), for every posterior; with
        the mean of the samples for E[r] it is unbiased in value and gradient.

        Args:
            residual: mean of the samples, `(B, R, D)`.
            labels: `(B,)`.
        """
        if self.first_only:
            residual = residual[:, :1]
        mean = self.means[labels][:, None]  # (B, 1, D)
        terms = mean.square() - 2 * residual * mean  # (B, R, D)
        return terms.sum((1, 2)) / (2 * self.prior_std**2)

    def kl(self, kl: Tensor, residual: Tensor | None, labels: Tensor) -> Tensor:
        """The KL divergence from this prior `(B,)`, given the one from N(0, s^2 I)."""
        with torch.autocast(kl.device.type, enabled=False):
            return kl if residual is None else kl + self.shift(residual, labels)
