"""After a training: what its model says of validation images is kept, so that errors are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from varprompt.classifier.prediction import Prediction
from varprompt.errors import DataError
from varprompt.run.held_out import KeptScores

from .data import chooses_by_validation
from .inference import features_of, labels_of

if TYPE_CHECKING:
    from .base import PromptTrainer


def keep_scores(trainer: PromptTrainer, temperature: float) -> None:
    """Write how sure the tested model is of validation images, and whether it is right.

    Images that were trained on or are tested, by their content, are left out. Nothing is kept
    where validation images have chosen the epoch: of them the model knows more than of others. A
    validation image that cannot be read ends no run: it is named, and nothing is kept.

    Args:
        trainer: has been trained, and its model been tested.
        temperature: that `varprompt predict` will divide log-probabilities by.
    """
    no_model = not trainer.max_epoch  # of no epochs none is saved
    if no_model or not trainer.dm.dataset.val or chooses_by_validation(trainer.cfg):
        return
    try:
        items = _unseen(trainer)
        found = _scores(trainer, items, temperature) if items else None
    except DataError as error:
        trainer.note(f"No scores of validation images are kept: {error}")
        return
    if found and trainer.ranks.first:
        found.write(trainer.output_dir)


def _unseen(trainer: PromptTrainer) -> list[Any]:
    """Validation images that are neither training images nor tested ones."""
    data, tested = trainer.dm.dataset, trainer.loader_of(trainer.cfg.TEST.SPLIT).dataset
    seen = [item.impath for item in (*data.train_x, *tested.data_source)]  # type: ignore[attr-defined]
    known = set(trainer.hasher.digests(seen))
    digests = trainer.hasher.digests([item.impath for item in data.val])
    return [item for item, digest in zip(data.val, digests, strict=True) if digest not in known]


def _scores(trainer: PromptTrainer, items: list[Any], temperature: float) -> KeptScores | None:
    """Those of some images; None if they are not finite."""
    predictor = trainer.predictor()
    batches = features_of(trainer, items).split(trainer.test_loader.batch_size or 1)
    prob = torch.cat(
        [
            torch.from_numpy(
                Prediction.of(predictor.samples(batch.to(trainer.device)).float(), temperature).prob
            )
            for batch in batches
        ]
    )  # (N, C)
    if not prob.isfinite().all():
        return None
    confidence, predicted = prob.max(1)
    correct = predicted == labels_of(items)
    return KeptScores(confidence.tolist(), correct.tolist(), temperature, trainer.model_digest())
