"""Models and states in a run's folder, in Dassl's layout: written whole, read with patience."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common import files
from ..errors import CheckpointError
from .folder import MODEL_FOLDER, OTHER_MODEL_FOLDERS, RESUME, RESUME_BEFORE

_PAUSES = (0.1, 1.0)  # seconds before a file that could not be read is tried again
_BEST = "model-best.pth.tar"


@dataclass(frozen=True)
class SavedState:
    """What a run was when it was saved, and the file that says so."""

    content: dict[str, Any]
    file: Path


class RunStore:
    """Writes and reads the models and states of the run in a folder.

    Of states there are the newest and the one before. A new one is proven readable before it takes
    the place of the newest, and the newest that of the one before. A file that cannot be read now
    (the disk does not answer, memory is full) is not a damaged one: only a damaged state is passed
    over, and nothing is renamed until the next state is saved.

    Args:
        folder: the output folder of the run.
        note: takes a line for the log.
        writes: whether this process is the one that writes.
    """

    def __init__(self, folder: str | os.PathLike, note: Callable[[str], None], writes: bool = True):
        self.run_folder, self.writes = Path(folder), writes
        self.folder = self.run_folder / MODEL_FOLDER
        self.note = note
        self._newest_is_damaged = False

    def save_model(self, state: dict[str, Any], name: str) -> Path:
        """Write a model and note its name in Dassl's file ``checkpoint``."""
        if not self.writes:
            return self.folder / name
        files.write(state, self.folder / name)
        newest = f"{name}\n".encode()
        files.write_atomic(self.folder / "checkpoint", lambda file: file.write(newest))
        self.note(f"Checkpoint saved to {self.folder / name}")
        return self.folder / name

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the state of the run, keeping the one before."""
        if not self.writes:
            return
        # a damaged newest state must not push out the readable one before it
        before = None if self._newest_is_damaged else self.folder / RESUME_BEFORE
        files.write(state, self.folder / RESUME, before)
        self._newest_is_damaged = False

    def save_bundle(self, bundle: dict[str, Any], number: int) -> Path:
        """Write what reproduces a bad step."""
        file = self.run_folder / f"bad-step-{number}.pth.tar"
        if self.writes:
            files.write(bundle, file)
        return file

    def states(self) -> list[Path]:
        """Files with states of an unfinished run, the newest first."""
        found = (self.folder / name for name in (RESUME, RESUME_BEFORE))
        return [file for file in found if file.is_file()]

    def newest_state(self, needed: Collection[str]) -> SavedState | None:
        """The newest undamaged state; None if there are no states.

        Args:
            needed: keys that a state has.

        Raises:
            CheckpointError: all states are damaged, or one cannot be read now.
            MemoryError: there is not enough memory for it.
        """
        if not (candidates := self.states()):
            return None
        for file in candidates:
            try:
                content = self._read(file)
                if missing := sorted(set(needed) - content.keys()):
                    raise _Damaged(f"{file} is no state of a run, it lacks {', '.join(missing)}")
            except _Damaged as error:
                self._newest_is_damaged |= file.name == RESUME
                self.note(f"{error}; trying the one before")
                continue
            return SavedState(content, file)
        raise CheckpointError(
            f"no readable state in {self.folder}: move the folder away to train from scratch"
        )

    def _read(self, file: Path) -> dict[str, Any]:
        """Read a state, again if the disk does not answer.

        Raises:
            _Damaged: it is damaged.
            CheckpointError: it cannot be read now.
        """
        pauses = iter(_PAUSES)
        while True:
            try:
                return files.read(file)
            except CheckpointError as error:
                raise _Damaged(str(error)) from error
            except OSError as error:
                pause = next(pauses, None)
                if pause is None:
                    raise CheckpointError(
                        f"the state {file} cannot be read now ({error.strerror or error}); it is "
                        "left as it is: start again when the disk answers, or move the file away "
                        "to go on from the one before"
                    ) from error
            time.sleep(pause)


class _Damaged(CheckpointError):
    """A state that no patience helps."""


def model_file(run: str | os.PathLike, epoch: int | None = None) -> Path:
    """The model of `epoch` in a run's folder; without `epoch` the best, else the last.

    Runs of MaPLe, PromptSRC and IVLP keep it in a folder of another name.

    Raises:
        CheckpointError: there is none.
    """
    others = [Path(run, name) for name in OTHER_MODEL_FOLDERS if Path(run, name).is_dir()]
    folder = Path(run, MODEL_FOLDER)
    folder = others[0] if others and not folder.is_dir() else folder
    numbered = {
        int(p.name.rpartition("-")[2]): p
        for p in folder.glob("model.pth.tar-*")
        if p.name.rpartition("-")[2].isdecimal()
    }
    best = folder / _BEST
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
