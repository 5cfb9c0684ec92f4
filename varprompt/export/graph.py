"""The part of a model that an image goes through, with its texts as constants."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FRESH_NOISE
from ..errors import ConfigError
from ..model import PromptedCLIP
from ..objective import average_samples

if TYPE_CHECKING:
    from ..classifier.learned import Learned

OUTPUTS = ("probabilities", "total", "aleatoric", "epistemic")


@dataclass(frozen=True)
class Texts:
    """Text features of a model.

    Attributes:
        features: unit-norm ones of each sample `(L, C, E)`, float32.
        scale: factor in front of the cosines.
        redrawn: the model draws its samples anew for every batch; these are one draw, of seed 0.
    """

    features: Tensor
    scale: float
    redrawn: bool


@torch.no_grad()
def texts_of(model: PromptedCLIP, what: str) -> Texts:
    """The texts of a model whose prompts do not depend on the image.

    Raises:
        ConfigError: they do, or the image tower has learned prompts, too; `what` is the file that
            was asked for.
    """
    learner = model.prompt_learner
    if model.config.has_visual:
        raise ConfigError(
            f"{what} cannot be written: this model has learned prompts in its image tower (MaPLe, "
            "IVLP, PromptSRC), and only the plain tower can be exported"
        )
    if learner.conditional:
        raise ConfigError(
            f"{what} cannot be written: the prompts of this model depend on the image, so every "
            "image needs the text tower; only a model without image-conditional prompts (VPT, "
            "CoOp, not VPT_CoCoOp, CoCoOp) has texts that are constants"
        )
    redrawn = model.config.test_seed == FRESH_NOISE
    predictor = model.predictor(seed=0 if redrawn else None)
    nothing = learner.ctx.new_zeros(1, model.towers.clip.text_projection.shape[1])
    return Texts(predictor.text(nothing)[:, 0].float(), model.scale, redrawn)


class ImageClassifier(nn.Module):
    """Images `(B, 3, H, W)` -> probabilities `(B, C)` and three uncertainties `(B,)` in nats.

    Entropy of the mean prediction (total), mean entropy of the samples' predictions (aleatoric),
    and their difference (epistemic), all in float32.

    Args:
        image_tower: images -> features `(B, E)`, of any norm.
        texts: see `Texts`.
        temperature: what logits are divided by.
    """

    texts: Tensor  # (L, E, C), times the factor of the cosines

    def __init__(self, image_tower: nn.Module, texts: Texts, temperature: float = 1.0):
        super().__init__()
        self.image_tower = copy.deepcopy(image_tower).float().eval().requires_grad_(False)
        self.register_buffer("texts", texts.features.transpose(-2, -1) * texts.scale / temperature)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `OUTPUTS` names."""
        return self.judged(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)`."""
        return F.normalize(self.image_tower(images).float(), dim=-1)

    def judged(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same from unit-norm features `(B, E)`."""
        log_prob = torch.log_softmax(features @ self.texts, -1)  # (L, B, C)
        mean = average_samples(log_prob)
        total, aleatoric = _entropy(mean), _entropy(log_prob).mean(0)
        return mean.exp(), total, aleatoric, (total - aleatoric).clamp(min=0)


def _entropy(log_prob: Tensor) -> Tensor:
    """Entropy in nats over the last axis; a probability of 0 adds nothing."""
    return -(log_prob.exp() * log_prob).sum(-1)


def described(learned: Learned) -> dict[str, Any]:
    """What whoever runs the file must know: of images, classes and origin."""
    stated, pixels = learned.clip.provenance, learned.pixels
    return {
        "classnames": list(learned.names),
        "image_size": pixels.size,
        "resize": f"the smaller edge to image_size ({pixels.interpolation}), then the middle",
        "pixel_mean": list(pixels.mean),
        "pixel_std": list(pixels.std),
        "clip": stated.source,
        "clip_weights_sha256": stated.weights_sha256,
        "temperature": learned.temperature,
        "uncertainty_unit": "nats",
    }
