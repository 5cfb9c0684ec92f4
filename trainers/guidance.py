"""What a trainer's loss asks of the frozen CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from varprompt.model import PromptedCLIP, text_features
from varprompt.prompt_texts import PromptTexts
from varprompt.regularisers import OF_IMAGES, Frozen, Outputs, regularise


class Guidance:
    """The regularisers of a trainer, and what the CLIP without learned prompts says.

    Args:
        model: the prompted CLIP.
        classnames: in the order of the labels.
        templates: hand-written prompts with a {} each for the class name.
        weights: of each regulariser; none = no terms, and nothing is computed.
        texts: what classes are called besides their names.
    """

    def __init__(
        self,
        model: PromptedCLIP,
        classnames: Sequence[str],
        templates: Sequence[str],
        weights: Mapping[str, float],
        texts: PromptTexts | None = None,
    ):
        self.model = model
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if self.weights:
            # with several templates, features as long as they are: so PromptSRC averages them
            several = len(templates) > 1
            self.text = text_features(
                model.towers, classnames, templates, texts, unit_norm=not several
            )

    def __call__(
        self, out: Outputs, features: Tensor, images: Tensor | None
    ) -> dict[str, Tensor]:  # fmt: skip
        """The weighted terms by name.

        Args:
            out: what the model makes of the batch.
            features: `(B, E)` of its images, of the prompted tower.
            images: `(B, 3, H, W)`, of which the frozen tower makes its features if it is another.
        """
        if not self.weights:
            return {}
        if images is not None and self.model.config.has_visual and OF_IMAGES & self.weights.keys():
            features = self.model.towers.encode_image(images)
        return regularise(out, Frozen(self.text, features, self.model.scale), self.weights)


def average_weights(mean: float, std: float, n_epochs: int) -> list[float]:
    """Weights of the epochs 1, 2, ... in a Gaussian average, which add up to 1."""
    epochs = torch.arange(1, n_epochs + 1, dtype=torch.float64)
    weights = (-(((epochs - mean) / std) ** 2) / 2).softmax(0)  # far from the mean all would be 0
    return [float(weight) for weight in weights]
