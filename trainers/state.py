"""Checkpoints of a run in Dassl's folders: what was learned, and what a resumed run needs."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from varprompt import files
from varprompt.errors import CheckpointError, ConfigError, DataError, brief
from varprompt.images.loaders import derive_seed
from varprompt.learner_state import load_learner
from varprompt.settings.merge import difference

from .guard import count_steps_on

_NAME = "prompt_learner"
_SAME_AT_TEST = "TRAINER.COOP.CLASS_TOKEN_POSITION"  # shapes do not tell it
_SIZES_OF_NOISE = (5056, 16)  # of a generator's state on a CPU and on a GPU
_RESUME, _RESUME_BEFORE = "resume.pth.tar", "resume-before.pth.tar"


def model_file(run: str | os.PathLike, epoch: int | None = None) -> Path:
    """The model of `epoch` in a run's folder; without `epoch` the best, else the last.

    Raises:
        CheckpointError: there is none.
    """
    folder = Path(run, _NAME)
    numbered = {
        int(p.name.rpartition("-")[2]): p
        for p in folder.glob("model.pth.tar-*")
        if p.name.rpartition("-")[2].isdecimal()
    }
    best = folder / "model-best.pth.tar"
    if epoch is not None and epoch in numbered:
        return numbered[epoch]
    if epoch is None and best.is_file():
        return best
    if epoch is None and numbered:
        return numbered[max(numbered)]
    wanted = "trained model" if epoch is None else f"model of epoch {epoch}"
    raise CheckpointError(
        f"there is no {wanted} in {folder} (epochs there: {sorted(numbered) or 'none'}): "
        "--model-dir must be the --output-dir of a finished training run"
    )


def file_sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _states(folder: Path) -> list[Path]:
    """States of an unfinished run, the newest first."""
    return [folder / n for n in (_RESUME, _RESUME_BEFORE) if (folder / n).is_file()]


class CheckpointMixin:
    """Overrides of Dassl's `save_model`, `load_model` and `resume_model_if_exist`."""

    loaded_epoch = 0
    checkpoint_sha256 = ""

    def state(self, epoch: int, batch: int = 0, val_result: float | None = None) -> dict[str, Any]:
        """All of a run after `epoch` whole epochs and `batch` batches of the next."""
        learner = self.model.prompt_learner
        return {
            "state_dict": learner.state_dict(),
            "epoch": epoch,
            "batch": batch,
            "optimizer": self.optim.state_dict(),
            "scheduler": self.sched.state_dict(),
            "scaler": self.scaler.state_dict(),
            "noise": self.noise.get_state(),
            "seed": self.seed,
            "images": self.images_sha256,
            "bad_steps": self.bad_steps,
            "best_result": float(self.best_result),
            "val_result": None if val_result is None else float(val_result),
            "trainer": self.cfg.TRAINER.NAME,
            "weights_sha256": self.weights_sha256,
            "classnames": list(self.dm.dataset.classnames),
            "config": self.cfg.dump(),
        }

    @cached_property
    def images_sha256(self) -> str:
        """Hex digest of the training images: labels and paths below the data root, in order."""
        root = os.path.join(self.cfg.DATASET.ROOT, "")
        rows = [(item.label, item.impath.removeprefix(root)) for item in self.dm.dataset.train_x]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write ``model.pth.tar-<epoch + 1>``, or the best model, and note its name."""
        folder = Path(directory, _NAME)
        name = model_name or f"model.pth.tar-{epoch + 1}"
        files.write(self.state(epoch + 1, val_result=val_result), folder / name)
        newest = f"{name}\n".encode()
        files.write_atomic(folder / "checkpoint", lambda file: file.write(newest))
        self.note(f"Checkpoint saved to {folder / name}")

    def save_resume_state(self, epoch: int, batch: int) -> None:
        """Write the state of the run, keeping the one before."""
        folder = Path(self.output_dir, _NAME)
        files.write(self.state(epoch, batch), folder / _RESUME, folder / _RESUME_BEFORE)

    def resume_model_if_exist(self, directory: str) -> int:
        """Restore the newest readable state; returns the epoch to go on with.

        A state in the run's own folder goes before one in `directory` (RESUME).

        Raises:
            ConfigError: the run in `directory` had another configuration.
            DataError: it had other training images.
            CheckpointError: there are states, but none is readable; or there is none where RESUME
                says so.
        """
        own, other = Path(self.output_dir, _NAME), Path(directory, _NAME)
        folder = own if _states(own) else other
        if not _states(folder):
            if self.cfg.RESUME:
                raise CheckpointError(
                    f"there is no {_RESUME} in {folder}: --resume must name the --output-dir of "
                    "an unfinished run"
                )
            self.note("No checkpoint found, train from scratch")
            return 0
        for file in _states(folder):
            try:
                state = self._read_state(file)
            except CheckpointError as error:
                self.note(f"{error}; trying the one before")
                continue
            epoch = self._restore(state, file)
            if file != own / _RESUME and folder == own:
                os.replace(file, own / _RESUME)  # the next state saved must not push it out
            return epoch
        raise CheckpointError(
            f"no readable state in {folder}: move the folder away to train from scratch"
        )

    def _read_state(self, file: Path) -> dict[str, Any]:
        state = files.read(file)
        missing = sorted(self.state(0).keys() - state.keys())
        if missing:
            raise CheckpointError(f"{file} is no state of a run, it lacks {', '.join(missing)}")
        return state

    def _restore(self, state: dict[str, Any], file: Path) -> int:
        changes = difference(state["config"], self.cfg.dump())
        if changes:
            raise ConfigError(
                f"{file.parent.parent} holds an unfinished run with another configuration "
                f"({'; '.join(changes[:10])}): use its options, or another --output-dir"
            )
        if state["images"] != self.images_sha256:
            raise DataError(
                f"the training images are not those of the unfinished run in {file.parent.parent} "
                "(split file, few-shot choice or folder have changed): use another --output-dir"
            )
        self._fill(state, str(file))
        try:
            count_steps_on(self.device, state["optimizer"]["param_groups"])
            self.optim.load_state_dict(state["optimizer"])
            self.sched.load_state_dict(state["scheduler"])
            if state["scaler"]:  # else of a run on a CPU, which needs none
                self.scaler.load_state_dict(state["scaler"])
            self.best_result = float(state["best_result"])
            self.bad_steps = int(state["bad_steps"])
            self.seed = self.train_loader_x.batch_sampler.seed = int(state["seed"])
            self.first_batch = int(state["batch"])
            epoch = int(state["epoch"])
            size = len(state["noise"])
            if size == len(self.noise.get_state()) or size not in _SIZES_OF_NOISE:
                self.noise.set_state(state["noise"])
            else:
                self.note("The state is of another kind of device: the noise is drawn anew")
                self.noise.manual_seed(derive_seed(self.seed, epoch, self.first_batch, "noise"))
        except Exception as error:  # a file that somebody made raises anything
            raise CheckpointError(
                f"{file} is no state of this run ({type(error).__name__}: {brief(str(error))}): "
                "move the folder away to train from scratch"
            ) from error
        self.note(
            f"Found checkpoint at {file} (will resume training)\n"
            f"Previous epoch: {epoch}, batches of the next: {self.first_batch}"
        )
        return epoch

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
        self.note(f'Loading weights to {_NAME} from "{file}" (epoch = {self.loaded_epoch})')

    def load_weights(self, file: str) -> dict[str, Any]:
        """Fill the learner from a checkpoint file, all or nothing; returns the checkpoint.

        Raises:
            CheckpointError: it is missing, damaged, or made for something else.
        """
        found = files.read(file)
        self._fill(found, file)
        return found

    def _fill(self, found: dict[str, Any], file: str) -> None:
        theirs, ours = str(found.get("weights_sha256", self.weights_sha256)), self.weights_sha256
        if theirs != ours:
            raise CheckpointError(
                f"checkpoint {file} was learned in front of another CLIP (weights {theirs[:12]} "
                f"instead of {ours[:12]}): give that one (MODEL.BACKBONE)"
            )
        for change in difference(found["config"], self.cfg.dump()) if "config" in found else ():
            if change.startswith(_SAME_AT_TEST):
                raise CheckpointError(f"checkpoint {file} was learned with another {change}")
        if not isinstance(found.get("epoch", 0), int):
            raise CheckpointError(f"checkpoint {file} is of no epoch but {brief(found['epoch'])}")
        learner, classnames = self.model.prompt_learner, self.dm.dataset.classnames
        load_learner(learner, found, file, classnames, self.model.tokens)
