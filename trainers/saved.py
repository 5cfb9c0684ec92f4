"""Saving and restoring a run: Dassl's methods, with files that are whole, plain and strict."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from varprompt.common import files
from varprompt.learner_state import load_learner
from varprompt.run.guard import StepRecord
from varprompt.run.identity import TRAIN, Identity
from varprompt.run.store import RunStore, SavedState, file_sha256, model_file

from .build import BuiltTrainer
from .identity import identify
from .state import check_origin, newest_state, restore

_IN_BUNDLE = ("img", "features", "label", "impath")


class SavedTrainer(BuiltTrainer):
    """Overrides of Dassl's `save_model`, `load_model` and `resume_model_if_exist`.

    Attributes:
        first_batch: of the epoch that is gone on with.
        loaded_epoch: of the model that was loaded for a test, 0 = none was.
        checkpoint_sha256: digest of its file.
        loaded_classes: the class names that it was learned for; none if it does not say.
        model_dir: the folder that it was loaded from; "" = none was.
        model_epoch: the epoch that was asked for.
    """

    first_batch = 0
    loaded_epoch = 0
    checkpoint_sha256 = ""
    loaded_classes: list[str] = []
    model_dir = ""
    model_epoch: int | None = None

    @cached_property
    def identity(self) -> Identity:
        """What the training is known by."""
        return identify(
            self.cfg, self.dm.dataset, self.hasher,
            mode=TRAIN, tested=False, weights=self.weights_sha256,
        )  # fmt: skip

    def state(self, epoch: int, batch: int = 0, val_result: float | None = None) -> dict[str, Any]:
        """All of a run after `epoch` whole epochs and `batch` batches of the next."""
        texts = {"prompts": self.texts.record()} if self.texts else {}
        return {
            **self.parts.state_dict(),
            **texts,
            "epoch": epoch,
            "batch": batch,
            "seed": self.seed,
            "bad_steps": self.bad_steps,
            "best_result": float(self.best_result),
            "val_result": None if val_result is None else float(val_result),
            "trainer": self.cfg.TRAINER.NAME,
            "weights_sha256": self.weights_sha256,
            "classnames": list(self.dm.dataset.classnames),
            "config": self.run.config,
            "identity": self.identity.record(),
        }

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write ``model.pth.tar-<epoch + 1>``, or the best model, and note its name."""
        state = self.state(epoch + 1, val_result=val_result)
        store = RunStore(directory, self.note, self.ranks.first)
        store.save_model(state, model_name or f"model.pth.tar-{epoch + 1}")
        self.ranks.any(False)  # the others read it only when it is there

    def save_resume_state(self, epoch: int, batch: int) -> None:
        """Write the state of the run, keeping the one before."""
        self.store.save_state(self.state(epoch, batch) | {"resources": self.resources.record()})

    def save_bad_step(self, record: StepRecord, scale: float) -> Path:
        """Write what reproduces a step that was left out."""
        state = self.state(record.epoch, record.batch_idx)
        if state["scaler"]:
            state["scaler"]["scale"] = scale
        batch = {key: record.batch[key] for key in _IN_BUNDLE if key in record.batch}
        return self.store.save_bundle(state | batch | {"noise": record.noise}, record.number)

    def resume_model_if_exist(self, directory: str) -> int:
        """Restore the newest undamaged state; returns the epoch to go on with.

        A state in the run's own folder goes before one in `directory` (RESUME).

        Raises:
            ConfigError: the state is of another configuration.
            DataError: it is of other images or classes.
            CheckpointError: there are states, but none is readable; or there is none where RESUME
                says so.
        """
        saved = newest_state(self.store, directory, bool(self.cfg.RESUME), self.note)
        if saved is None:
            self.note("No checkpoint found, train from scratch")
            return 0
        return self.restore(saved)

    def restore(self, saved: SavedState) -> int:
        """Put back a state; returns the epoch to go on with."""
        shape = (self.max_epoch, len(self.batches))
        found = restore(saved, self.run, self.identity, self.parts, self._fill, shape, self.note)
        self.best_result, self.take_step.bad_steps = found.best_result, found.bad_steps
        self.seed = self.batches.seed = found.seed
        self.first_batch = found.batch
        keep_budget = self.prompt_config.mem_budget > 0  # asked for by the user
        recorded, text_encoder = saved.content.get("resources"), self.towers.encode_text
        self.resources.restore(recorded, text_encoder, keep_budget, self.note)
        return found.epoch

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load ``model.pth.tar-<epoch>`` of a run; without `epoch` its best or last model.

        Raises:
            CheckpointError: there is none, or it does not fit.
        """
        if not directory:
            self.note("Loading is skipped: no model folder is given")
            return
        file = model_file(directory, epoch)
        found = self.load_weights(str(file))
        self.loaded_epoch = found.get("epoch", 0)
        self.checkpoint_sha256 = file_sha256(file)
        self.model_dir, self.model_epoch = directory, epoch
        self.note(f'Loading weights to prompt_learner from "{file}" (epoch = {self.loaded_epoch})')

    def load_weights(self, file: str) -> dict[str, Any]:
        """Fill the learner from a checkpoint file, all or nothing; returns the checkpoint.

        Raises:
            CheckpointError: it is missing, damaged, or made for something else.
        """
        found = files.read(file)
        self._fill(found, file)
        self.loaded_classes = list(found.get("classnames") or ())
        return found

    def _fill(self, found: dict[str, Any], file: str) -> None:
        check_origin(found, file, self.weights_sha256, self.run.config)
        learner, classnames = self.model.prompt_learner, self.dm.dataset.classnames
        load_learner(learner, found, file, classnames, self.model.tokens)
