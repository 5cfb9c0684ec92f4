"""TEST.CALIBRATION: what is fitted before a test, without a label of a test image.

The temperature is fitted to validation images. Where there are none, or they are test images, it
is cross-validated: the trainer is trained again without each part of its training images, and
predicts that part. Who trains keeps the temperature in its folder; a test takes it from there, and
otherwise fits it to the images of the classes that the model was trained on.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from dassl.utils import set_random_seed
from torch import Tensor
from torch.utils.data import DataLoader

from varprompt.errors import ConfigError
from varprompt.model import Predictor
from varprompt.run.calibrated import Calibrated, KeptTemperature, kept_temperature
from varprompt.run.identity import TRAIN
from varprompt.uncertainty import CALIBRATORS, Evidence, fit_temperature, stratified_folds

from .inference import features_of, labels_of, plain_text, predict, tuned_text

if TYPE_CHECKING:
    from .base import PromptTrainer

_MOST_FOLDS = 4


def calibrated(trainer: PromptTrainer, loader: DataLoader) -> tuple[Calibrated, dict[str, Any]]:
    """The trainer's predictor behind the calibrator TEST.CALIBRATION, and a record of that.

    Args:
        trainer: what is tested.
        loader: of the images that it is tested on; their labels are for the figures only.

    Raises:
        ConfigError: there is nothing to fit it to.
        CheckpointError: what the tested run has kept is damaged.
    """
    method, predictor = trainer.cfg.TEST.CALIBRATION, trainer.predictor()
    record: dict[str, Any] = {"method": method}
    images: Any = loader.dataset
    labels = labels_of(images.data_source)
    if method == "temperature":
        kept = _temperature(trainer)
        trainer.note(
            f"Temperature {kept.temperature:.4f}, fitted to {kept.n_images} images "
            f"({kept.fitted_on})"
        )
        return Calibrated(predictor, kept.calibrator, labels), record | kept.record()
    calibrator = CALIBRATORS[method](_evidence(trainer, predictor, labelled=method != "distance"))
    if method == "distance":
        scale = cast(Any, calibrator).scale
        trainer.note(f"Factors of the classes' logits from {scale.min():.3f} to {scale.max():.3f}")
        record["scale"] = scale.tolist()
    return Calibrated(predictor, calibrator, labels), record


def _evidence(trainer: PromptTrainer, predictor: Predictor, labelled: bool) -> Evidence:
    """What a calibrator may ask for: texts and, if it is `labelled`, predictions with labels."""
    known = model_trainer(trainer)
    images = held_out(known, trainer) if labelled else None
    return Evidence(
        log_prob=images.log_prob if images else None,
        labels=images.labels if images else None,
        base_text=tuned_text(known, known.predictor() if known is not trainer else predictor),
        text=tuned_text(trainer, predictor),
        base_text_zero_shot=plain_text(known),
        text_zero_shot=plain_text(trainer),
    )


def _temperature(trainer: PromptTrainer) -> KeptTemperature:
    """The one that the tested run has kept, or one that is fitted now.

    Raises:
        ConfigError: there is nothing to fit it to.
        CheckpointError: what the tested run has kept is damaged.
    """
    n_samples = len(trainer.predictor().samples(features_of(trainer, _some(trainer))))
    kept = None
    if trainer.mode != TRAIN and trainer.model_dir:
        kept = kept_temperature(trainer.model_dir)
    if kept and kept.checkpoint == trainer.checkpoint_sha256:
        if kept.n_samples == n_samples:
            return kept
        trainer.note(
            f"The temperature of {trainer.model_dir} is of {kept.n_samples} samples, not "
            f"{n_samples}: fitted again"
        )
    images = held_out(model_trainer(trainer), trainer)
    found = fit_temperature(images.log_prob, images.labels)
    fitted = KeptTemperature(
        found.value, found.n_samples, images.origin, len(images.labels), trainer.model_digest()
    )
    if trainer.mode == TRAIN and trainer.ranks.first:
        fitted.write(trainer.output_dir)
    return fitted


@dataclass(frozen=True)
class HeldOut:
    """Log-probabilities `(L, N, C)` of images that the model was not trained on, labels `(N,)`.

    `origin` says which images: "val", "train" or "train, in N folds".
    """

    log_prob: Tensor
    labels: Tensor
    origin: str


def held_out(source: PromptTrainer, tested: PromptTrainer) -> HeldOut:
    """What may be fitted to, of the classes that a model was trained on.

    Args:
        source: has the model and those images.
        tested: whose test images are left out.

    Raises:
        ConfigError: there are neither validation images nor two training images of a class.
    """
    data = source.dm.dataset
    if data.val and not _shared(tested, data.val):
        return HeldOut(predict(source, data.val), labels_of(data.val), "val")
    images, labels = data.train_x, labels_of(data.train_x)
    if not source.prompt:
        return HeldOut(predict(source, images), labels, "train")
    n_folds = _n_folds(source, images)
    fold = stratified_folds(labels, n_folds)
    parts = [(fold == k).nonzero()[:, 0] for k in range(n_folds)]
    predicted = [_predict_anew(source, images, part, k) for k, part in enumerate(parts, 1)]
    order = torch.cat(parts)
    return HeldOut(torch.cat(predicted, 1), labels[order], f"train, in {n_folds} folds")


def _n_folds(source: PromptTrainer, items: Sequence[Any]) -> int:
    least = min(Counter(item.label for item in items).values())
    if least < 2:
        raise ConfigError(
            f"TEST.CALIBRATION {source.cfg.TEST.CALIBRATION} needs validation images that are no "
            f"test images, or two training images a class; {source.cfg.DATASET.NAME} has "
            f"{'no' if not source.dm.dataset.val else 'no such'} validation images and a class "
            "with 1: add some, or use TEST.CALIBRATION none"
        )
    return min(least, _MOST_FOLDS)


def _predict_anew(
    trainer: PromptTrainer, items: Sequence[Any], outside: Tensor, number: int
) -> Tensor:
    """Log-probabilities `(L, n, C)` of the training images `outside` after training without them.

    `number` counts the parts, for the log.
    """
    trainer.note(
        f"Held-out predictions: training without {len(outside)} of {len(items)} images, part "
        f"{number}"
    )
    cfg = trainer.cfg.clone()
    kind = type(trainer)
    without = frozenset(outside.tolist())
    fold = type(kind.__name__, (kind,), {"held_out": without, "__module__": kind.__module__})
    with tempfile.TemporaryDirectory() as folder, _quiet(), torch.enable_grad():
        _set(cfg, OUTPUT_DIR=folder, RESUME="")
        _set(cfg.TEST, NO_TEST=True, FINAL_MODEL="last_step", CALIBRATION="none")
        _set(cfg.TRAIN, CHECKPOINT_FREQ=0, CHECKPOINT_STEPS=0)
        set_random_seed(trainer.seed)
        trained = fold(cfg)
        trained.train()
        with torch.no_grad():
            return predict(trained, [items[i] for i in outside.tolist()])


def model_trainer(trainer: PromptTrainer) -> PromptTrainer:
    """A trainer of the classes that the tested model was trained on; `trainer`, if they are its.

    Nothing was trained of a zero-shot classifier: the base classes count as such in a test on the
    new ones.

    Raises:
        ConfigError: the images of those classes are not here.
    """
    names = trainer.model_classes
    subset = trainer.cfg.DATASET.SUBSAMPLE_CLASSES
    if names == list(trainer.dm.dataset.classnames) or (not names and subset != "new"):
        return trainer
    for other in ("base", "all"):
        cfg = trainer.cfg.clone()
        _set(cfg.DATASET, SUBSAMPLE_CLASSES=other)
        if other == subset:
            continue
        set_random_seed(trainer.seed)  # of the few-shot choice, as in the training
        with _quiet():
            known = type(trainer)(cfg)
        if names in ([], list(known.dm.dataset.classnames)):
            with _quiet():
                known.load_model(trainer.model_dir, trainer.model_epoch)
            return known
    raise ConfigError(
        f"TEST.CALIBRATION {trainer.cfg.TEST.CALIBRATION} needs images or names of the classes "
        f"that {trainer.model_dir} was trained on, which are not those of "
        f"{trainer.cfg.DATASET.NAME}: train with TEST.CALIBRATION temperature, which keeps the "
        "temperature beside the model"
    )


def _set(node: Any, **values: Any) -> None:
    node.defrost()
    for name, value in values.items():
        node[name] = value
    node.freeze()


def _some(trainer: PromptTrainer) -> list[Any]:
    return list(trainer.dm.dataset.train_x[:1])


def _shared(trainer: PromptTrainer, items: Iterable[Any]) -> bool:
    """Whether some of `items` are among the images that the trainer is tested on."""
    dataset: Any = trainer.loader_of(trainer.cfg.TEST.SPLIT).dataset
    contents = (
        trainer.hasher.digests([i.impath for i in part]) for part in (items, dataset.data_source)
    )
    return not set(next(contents)).isdisjoint(next(contents))


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """What a second trainer prints is not of this run."""
    return contextlib.redirect_stdout(io.StringIO())
