"""Terms that other prompt learners add to the loss: stay near what the frozen CLIP says.

Of several samples, each term takes the one answer that they give together: the direction of the
mean feature, the averaged probabilities. It asks where the prompts are, and the KL divergence alone
asks how far they may spread; a term for every sample would pull the spread to zero besides. With
one sample it is the original's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .objective import predictive_log_prob


@dataclass(frozen=True)
class Outputs:
    """What a prompted CLIP makes of a batch.

    Attributes:
        logits: `(L, B, C)`, float32.
        kl: `(K,)` in nats.
        text: unit-norm text features `(L, K, C, E)`.
        features: unit-norm image features `(B, E)`, or `(L, B, E)` where they differ by sample.
        residual: mean of the samples' residuals `(K, R, D)`; None without a posterior.
    """

    logits: Tensor
    kl: Tensor
    text: Tensor
    features: Tensor
    residual: Tensor | None = None


@dataclass(frozen=True)
class Frozen:
    """What the CLIP without learned prompts makes of it.

    Attributes:
        text: unit-norm features `(C, E)` of hand-written prompts.
        features: unit-norm image features `(B, E)`.
        scale: factor in front of the cosines.
    """

    text: Tensor
    features: Tensor
    scale: float


def text_cosine(out: Outputs, frozen: Frozen) -> Tensor:
    """1 - mean over classes of the cosine between learned and frozen texts (arXiv 2303.13283)."""
    return 1 - F.cosine_similarity(_text(out), frozen.text, dim=-1).mean()


def text_l1(out: Outputs, frozen: Frozen) -> Tensor:
    """Mean absolute difference of text features (arXiv 2307.06948)."""
    return (_text(out) - frozen.text).abs().mean()


def image_l1(out: Outputs, frozen: Frozen) -> Tensor:
    """Mean absolute difference of image features (arXiv 2307.06948)."""
    features = out.features
    if features.dim() == 3:
        features = F.normalize(features.mean(0), dim=-1)
    return (features - frozen.features).abs().mean()


def logits_kl(out: Outputs, frozen: Frozen) -> Tensor:
    """KL divergence of the learned from the frozen class probabilities, over B * C (2307.06948)."""
    truth = (frozen.scale * frozen.features @ frozen.text.T).log_softmax(-1)
    learned = predictive_log_prob(out.logits)
    return F.kl_div(learned, truth, reduction="sum", log_target=True) / learned.numel()


REGULARISERS: dict[str, Callable[[Outputs, Frozen], Tensor]] = {
    "text_cosine": text_cosine,
    "text_l1": text_l1,
    "image_l1": image_l1,
    "logits_kl": logits_kl,
}
OF_IMAGES = frozenset({"image_l1", "logits_kl"})
"""Those that need the features of images under the frozen tower."""


def regularise(out: Outputs, frozen: Frozen, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The terms, each times its weight, by name.

    Args:
        out: of the model.
        frozen: of the CLIP without learned prompts.
        weights: a name in `REGULARISERS` -> its weight; 0 leaves it out.
    """
    return {
        name: weight * REGULARISERS[name](out, frozen) for name, weight in weights.items() if weight
    }


def _text(out: Outputs) -> Tensor:
    """Direction of the mean text features of samples and rows, `(C, E)`."""
    return F.normalize(out.text.mean((0, 1)), dim=-1)
