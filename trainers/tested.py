"""Testing: Dassl's `test`, with likelihood and calibration, and results.json."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from varprompt.errors import ConfigError
from varprompt.model import Predictor
from varprompt.objective import average_samples
from varprompt.run.calibrated import Calibrated
from varprompt.run.folder import CALIBRATION
from varprompt.run.identity import TEST, TRAIN, Identity, twins
from varprompt.run.predictions import Predictions, write_predictions
from varprompt.run.store import file_sha256, model_file
from varprompt.run.tally import Tally, too_many

from .calibration import calibrated
from .data import selected_on
from .held_out import keep_scores
from .identity import identify
from .resources import most_memory
from .saved import SavedTrainer


class TestedTrainer(SavedTrainer):
    """Overrides of Dassl's `test` and of what TensorBoard is told.

    Attributes:
        mode: "train", or "test" as long as nothing is trained.
    """

    mode = TEST

    @property
    def model_classes(self) -> list[str]:
        """Those that the model was trained on; none if it does not say so or nothing is learned."""
        return list(self.dm.dataset.classnames) if self.mode == TRAIN else self.loaded_classes

    def model_digest(self) -> str:
        """Digest of the tested model's file; "" if there is none."""
        if self.checkpoint_sha256 or self.mode == TEST:
            return self.checkpoint_sha256
        return file_sha256(model_file(self.output_dir, self.max_epoch))

    def loader_of(self, split: str) -> DataLoader:
        """Of "val", if there are validation images, else of "test"."""
        use_val = split == "val" and self.val_loader is not None
        return self.val_loader if use_val else self.test_loader

    @staticmethod
    def n_images(loader: DataLoader) -> int:
        """How many a test loader has."""
        images: Any = loader.dataset
        return len(images)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Classify a split and print Dassl's lines; returns the accuracy.

        Args:
            split: "val" or "test"; None = TEST.SPLIT, and only then results.json is written:
                tests between epochs are not the result of a run. TEST.CALIBRATION and
                TEST.PREDICTIONS are for results, too.

        Raises:
            VarPromptError: probabilities that are not finite.
            ConfigError: there is nothing to fit the calibrator to; a table of predictions that
                would be too large.
        """
        self.set_model_mode("eval")
        final, split = split is None, split or self.cfg.TEST.SPLIT
        loader = self.loader_of(split)
        split = "val" if loader is self.val_loader else "test"
        if final:
            self._check_size(loader)
        # before the images are read: of one that is replaced meanwhile, the next start will know
        identity = self.identity_of_results() if final else None
        predictor: Predictor | Calibrated
        if final and self.cfg.TEST.CALIBRATION != "none":
            predictor, calibration = calibrated(self, loader)
        else:
            predictor, calibration = self.predictor(), {}
        tally = Tally(keep=final and self._can_be_kept(loader), drawn=predictor.drawn)
        figures = self.tester(predictor, loader, split, tally)
        for name, value in figures.items():
            if isinstance(value, float) and not name.startswith("perclass"):
                self.write_scalar(f"{split}/{name}", value, self.epoch)
        if identity:
            figures |= tally.uncertainty()
            if isinstance(predictor, Calibrated):
                figures["calibration"] = self._compared(calibration, predictor.before, figures)
            predictions = self._write_predictions(loader, tally)
            about = {**self.describe(split), "predictions": predictions}
            if self.mode == TRAIN:
                keep_scores(self, calibration.get("temperature", 1.0))
            self.run.write_results({**figures, **about}, identity)
        return figures["accuracy"]

    def _can_be_kept(self, loader: DataLoader) -> bool:
        return not too_many(self.n_images(loader), self.num_classes)

    def _check_size(self, loader: DataLoader) -> None:
        """Say what is left out of a test with very many images and classes.

        Raises:
            ConfigError: it was asked for.
        """
        if self._can_be_kept(loader):
            return
        what = f"{self.n_images(loader):,} images x {self.num_classes:,} classes"
        if self.cfg.TEST.PREDICTIONS:
            raise ConfigError(
                f"TEST.PREDICTIONS is {self.cfg.TEST.PREDICTIONS}, but the probabilities of {what} "
                "take more than 1 GB: set it to '', or test fewer images"
            )
        self.note(
            f"results.json will lack uncertainty and risk_coverage: of {what} the probabilities "
            "take more than 1 GB and are not kept"
        )

    def _compared(
        self, calibration: dict[str, Any], before: Tally, figures: dict[str, Any]
    ) -> dict[str, Any]:
        """What was fitted, and the figures before and after it."""
        found = {**before.summary(self.dm.dataset.classnames), **before.uncertainty()}
        shown = ("accuracy", "nll", "ece", "uncertainty")
        self.note(
            f"Before calibration: accuracy {found['accuracy']:.1f}%, nll {found['nll']:.4f}, "
            f"ece {found['ece']:.1f}%"
        )
        both = {"before": found, "after": figures}
        return calibration | {at: {k: of[k] for k in shown if k in of} for at, of in both.items()}

    def _write_predictions(self, loader: DataLoader, tally: Tally) -> str | None:
        """Write the table that TEST.PREDICTIONS asks for; returns the name of its file."""
        kind = self.cfg.TEST.PREDICTIONS
        if not kind:
            return None
        prefix = os.path.join(self.cfg.DATASET.ROOT, "")
        items: Any = loader.dataset
        table = Predictions(
            [item.impath.removeprefix(prefix) for item in items.data_source],
            self.dm.dataset.classnames, tally.labels, average_samples(tally.samples),
            **vars(tally.parts),
        )  # fmt: skip
        if not self.ranks.first:
            return None
        name = write_predictions(self.output_dir, kind, table)
        self.note(f"Predictions of {len(table)} images: {Path(self.output_dir, name)}")
        return name

    def identity_of_results(self) -> Identity:
        """What the result is known by: what was trained on as it was then, what is tested now."""
        now = identify(
            self.cfg, self.dm.dataset, self.hasher, mode=self.mode, tested=True,
            weights=self.weights_sha256,
            checkpoint=self.checkpoint_sha256 if self.mode == TEST else "",
            calibration=Path(self.model_dir, CALIBRATION) if self.model_dir else None,
        )  # fmt: skip
        if self.mode != TEST:
            then = self.identity
            now = replace(now, images={**now.images, **then.images}, files=then.files)
        if getattr(self.dm.dataset, "own_data", False):
            for line in twins(now.images):
                self.note(f"ATTENTION: {line}")
        return now

    def init_writer(self, log_dir: str) -> None:
        """TensorBoard's file, which only the first process writes."""
        if self.ranks.first:
            super().init_writer(log_dir)

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """For TensorBoard, whose full disk is no reason to lose a run."""
        with contextlib.suppress(OSError):  # said once, where its thread ends
            super().write_scalar(tag, scalar_value, global_step)

    def describe(self, split: str) -> dict[str, Any]:
        """Which run this is, for results.json."""
        cfg, data = self.cfg, self.dm.dataset
        return {
            "split": split,
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "backbone": cfg.MODEL.BACKBONE.PATH or cfg.MODEL.BACKBONE.NAME,
            "weights_sha256": self.weights_sha256,
            "bad_steps": self.bad_steps,
            "checkpoint_epoch": self.loaded_epoch or max(self.start_epoch, self.epoch + 1),
            "checkpoint_sha256": self.checkpoint_sha256,
            "selected_on": selected_on(cfg, data, self.hasher) if self.mode == TRAIN else None,
            "resources": self.resources.record(),
            "memory": most_memory(self.device),
            "config": self.run.config,
        }
