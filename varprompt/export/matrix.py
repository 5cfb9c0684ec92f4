"""One matrix for plain CLIP, from the mean of the samples' texts, and what that loses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..common.files import write_atomic
from .graph import ImageClassifier, Texts


@dataclass(frozen=True)
class Loss:
    """How predictions by the matrix differ from the model's.

    Attributes:
        agreement: share of images with the same most probable class.
        mean_difference: of probabilities, absolute, over images and classes.
        largest_difference: of a probability.
        epistemic: what the model says about its own doubt, mean in nats: the matrix has none.
        n_images: that this was found on.
    """

    agreement: float
    mean_difference: float
    largest_difference: float
    epistemic: float
    n_images: int


def class_matrix(texts: Texts, temperature: float = 1.0) -> tuple[Tensor, float]:
    """Rows `(C, E)` and the factor in front of their products with unit-norm image features.

    Rows are means of unit-norm texts and shorter than 1 where the samples disagree: normalising
    them would make the classes that the model doubts more probable.
    """
    return texts.features.mean(0), texts.scale / temperature


@torch.no_grad()
def what_is_lost(
    classifier: ImageClassifier, matrix: Tensor, scale: float, features: Tensor
) -> Loss:
    """Compare on unit-norm image features `(B, E)`."""
    exact, *_, epistemic = classifier.judged(features)
    plain = torch.softmax(scale * features @ matrix.T, -1)
    difference = (exact - plain).abs()
    agreement = (exact.argmax(-1) == plain.argmax(-1)).float().mean()
    return Loss(
        agreement.item(), difference.mean().item(), difference.max().item(),
        epistemic.mean().item(), len(features),
    )  # fmt: skip


def write_matrix(
    matrix: Tensor, scale: float, loss: Loss, metadata: Mapping[str, Any], path: str | os.PathLike
) -> None:
    """Write ``weight`` `(C, E)`, float32; everything else is text in the file's header.

    Probabilities are softmax(logit_scale * features @ weight.T) with unit-norm image features.
    """
    said = dict(metadata) | {"logit_scale": scale, "compared_with_the_model": loss.__dict__}
    header = {key: value if isinstance(value, str) else json.dumps(value)
              for key, value in said.items()}  # fmt: skip
    content = save({"weight": matrix.float().contiguous()}, header)
    if not torch.equal(load(content)["weight"], matrix.float()):
        raise OSError(f"{path} was not written: what was made of the matrix reads as another one")
    write_atomic(path, lambda file: file.write(content))
