"""What a trainer saves of a run and restores from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from varprompt.errors import CheckpointError, brief, pass_on_memory
from varprompt.images.loaders import derive_seed
from varprompt.run.identity import Identity
from varprompt.run.run import Run
from varprompt.run.state import STATE_KEYS, TrainingParts
from varprompt.run.store import RunStore, SavedState
from varprompt.settings.merge import difference

_SAME_AT_TEST = ("CLASS_TOKEN_POSITION", "CLASS_WORDS")  # of a trainer; shapes do not tell it


@dataclass(frozen=True)
class Progress:
    """How far a run had come when its state was saved."""

    epoch: int  # whole epochs
    batch: int  # batches of the next one
    seed: int
    best_result: float
    bad_steps: int


def restore(
    saved: SavedState,
    run: Run,
    identity: Identity,
    parts: TrainingParts,
    fill: Callable[[dict[str, Any], str], None],
    shape: tuple[int, int],
    note: Callable[[str], None],
) -> Progress:
    """Put a state back, all of it or nothing.

    Args:
        saved: from the run's store.
        run: whose state it must be.
        identity: what the run is known by now.
        parts: get the state's values.
        fill: ``(state, file)`` puts in what was learned.
        shape: epochs of the run, batches of an epoch.
        note: takes a line for the log.

    Raises:
        ConfigError: the state is of another configuration.
        DataError: it is of other images or classes.
        CheckpointError: it is of another CLIP, or somebody has made it.
        MemoryError: there is not enough memory for it.
    """
    state, file = saved.content, saved.file
    run.check_state(state, file, identity)
    try:
        if problems := parts.problems(state, *shape):
            raise CheckpointError(_refused(file, "; ".join(problems[:5])))
        fill(state, str(file))
        epoch, batch, seed = state["epoch"], state["batch"], state["seed"]
        parts.load(state, derive_seed(seed, epoch, batch, "noise"), note)
    except CheckpointError:
        raise
    except Exception as error:  # a file that somebody made raises anything
        pass_on_memory(error, f"restoring {file}")
        raise CheckpointError(
            _refused(file, f"{type(error).__name__}: {brief(str(error))}")
        ) from error
    note(
        f"Found checkpoint at {file} (will resume training)\n"
        f"Previous epoch: {epoch}, batches of the next: {batch}"
    )
    return Progress(epoch, batch, seed, float(state["best_result"]), state["bad_steps"])


def _refused(file: Any, why: str) -> str:
    return f"{file} is no state of this run ({why}): move the folder away to train from scratch"


def newest_state(
    store: RunStore, other: str, wanted: bool, note: Callable[[str], None]
) -> SavedState | None:
    """The state to go on from: of the run's own folder, else of another one.

    Args:
        store: of the run's own folder.
        other: another run's folder.
        wanted: whether there must be a state.
        note: takes a line for the log.

    Raises:
        CheckpointError: there is none where there must be; none can be read.
    """
    source = store if store.states() else RunStore(other, note)
    saved = source.newest_state(STATE_KEYS)
    if saved is None and wanted:
        raise CheckpointError(
            f"there is no resume.pth.tar in {source.folder}: --resume must name the --output-dir "
            "of an unfinished run"
        )
    return saved


def check_origin(found: dict[str, Any], file: str, weights_sha256: str, config: str) -> None:
    """See to it that a checkpoint was learned in front of this CLIP, from contexts like these.

    Raises:
        CheckpointError: it was not.
    """
    theirs = str(found.get("weights_sha256", weights_sha256))
    if theirs != weights_sha256:
        raise CheckpointError(
            f"checkpoint {file} was learned in front of another CLIP (weights {theirs[:12]} "
            f"instead of {weights_sha256[:12]}): give that one (MODEL.BACKBONE)"
        )
    for change in difference(found["config"], config) if "config" in found else ():
        if change.partition(":")[0].rpartition(".")[2] in _SAME_AT_TEST:
            raise CheckpointError(f"checkpoint {file} was learned with another {change}")
        if change.startswith("TRAINER.NAME: absent"):
            raise CheckpointError(
                f"checkpoint {file} does not tell its configuration: {brief(found['config'])}"
            )
    if not isinstance(found.get("epoch", 0), int):
        raise CheckpointError(f"checkpoint {file} is of no epoch but {brief(found['epoch'])}")
