"""The texts of the classes before and after learning, and which wrong one is nearest to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import PromptedCLIP, zero_shot
from ..prompt_texts import PromptTexts

_TEMPLATE = "a photo of a {}."  # of a context that has not started from words


@dataclass(frozen=True)
class ClassTexts:
    """Cosines `(C, C)` between the texts of the classes.

    Attributes:
        before: of hand-written prompts.
        after: of the mean of the learned samples' texts.
        templates: what the prompts before were, with {} for the name.
    """

    before: Tensor
    after: Tensor
    templates: list[str]


@dataclass(frozen=True)
class Neighbour:
    """The nearest wrong class of a class, and the cosine between their texts."""

    index: int
    cosine: float


@torch.no_grad()
def class_texts(
    model: PromptedCLIP,
    features: Tensor,
    classnames: Sequence[str],
    texts: PromptTexts | None = None,
) -> ClassTexts:
    """Compare the texts of `model` with those of the words that its contexts have started from.

    Args:
        model: what was learned.
        features: image features `(B, E)`; their values matter only if prompts depend on images.
        classnames: of the model.
        texts: its synonyms and templates, if it has some.
    """
    templates = list(model.config.templates) or [model.config.first_template or _TEMPLATE]
    plain = zero_shot(model.towers, classnames, templates, texts)
    before = plain.text(features)[0, 0]  # (C, E)
    after = F.normalize(model.predictor(seed=0).text(features).mean((0, 1)), dim=-1)
    return ClassTexts(before @ before.T, after @ after.T, templates)


def neighbours(cosines: Tensor) -> list[Neighbour]:
    """The nearest wrong class of each; [] of a single class."""
    if len(cosines) < 2:
        return []
    others = cosines.clone().fill_diagonal_(-2)
    best, index = others.max(-1)
    return [Neighbour(*pair) for pair in zip(index.tolist(), best.tolist(), strict=True)]
