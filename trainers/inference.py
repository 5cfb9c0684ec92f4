"""What a trainer's model says of lists of images, and of its class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from varprompt.images.read import ImageItems
from varprompt.model import Predictor, zero_shot

if TYPE_CHECKING:
    from .base import PromptTrainer

_TEMPLATE = "a photo of a {}."  # of the texts before tuning, as DAC has it


def labels_of(items: Sequence[Any]) -> Tensor:
    """Labels `(N,)`."""
    return torch.tensor([item.label for item in items])


def features_of(trainer: PromptTrainer, items: Sequence[Any]) -> Tensor:
    """Unit-norm features `(N, E)` of images as they are seen at test, on the CPU."""
    like = trainer.test_loader
    images = ImageItems(None, items, like.dataset.transform)
    loader = DataLoader(images, like.batch_size, num_workers=like.num_workers)
    return trainer.tester.features(loader)[0]


def predict(trainer: PromptTrainer, items: Sequence[Any]) -> Tensor:
    """Log-probabilities `(L, N, C)` of images, on the CPU."""
    trainer.set_model_mode("eval")
    predictor = trainer.predictor()
    batches = features_of(trainer, items).split(trainer.test_loader.batch_size or 1)
    return torch.cat([predictor.samples(b.to(trainer.device)).float().cpu() for b in batches], 1)


def tuned_text(trainer: PromptTrainer, predictor: Predictor) -> Tensor:
    """Text features `(C, E)` of unit norm, averaged over samples, on the CPU.

    Of prompts that depend on the image those for the mean of the training images' features.
    """
    middle = torch.zeros(1, 1)
    if trainer.prompt_config.conditional:
        images = features_of(trainer, trainer.dm.dataset.train_x)
        middle = F.normalize(images.mean(0, keepdim=True), dim=-1)
    text = predictor.text(middle.to(trainer.device))  # (L, 1, C, E)
    return F.normalize(text[:, 0].float().mean(0), dim=-1).cpu()


def plain_text(trainer: PromptTrainer) -> Tensor:
    """Text features `(C, E)` of the trainer's classes in a hand-written prompt, on the CPU."""
    predictor = zero_shot(trainer.towers, trainer.dm.dataset.classnames, [_TEMPLATE])
    return predictor.text(torch.zeros(1, 1, device=trainer.device))[0, 0].float().cpu()
