"""A run: one training or test and the folder that it owns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, DataError
from .folder import MODEL_FOLDER, RESULTS, drawn_seed, kept_seed, lock_run_folder
from .identity import (
    PLACES,
    TEST,
    TRAIN,
    Identity,
    compare,
    explain,
    explain_classes,
    is_record,
    named,
    recorded_class_names,
    recorded_identity,
    write_inventory,
)
from .log import tee_stdout
from .results import damage, provenance, read_results, write_results

Difference = Callable[[str, str], list[str]]  # of two dumped configs: "KEY: old -> new"

# What may have changed since results were written, so that it is enough to test anew.
_FITTED = {"calibration", "calibration_images"}
_TESTED = {TRAIN: {"test_images"}, TEST: {"test_images", "checkpoint", *_FITTED}}
_LISTED = 10  # differences in a message


class Run:
    """Owns an output folder: knows whether it holds this very run, another one, or none.

    Args:
        folder: where log, states and results are.
        config: the configuration, dumped.
        difference: what differs between two dumped configurations and decides a result.
        note: takes a line for the log.
        writes: whether this process is the one that writes.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        config: str,
        difference: Difference,
        note: Callable[[str], None],
        writes: bool = True,
    ):
        self.folder = Path(folder)
        self.writes = writes
        self.config = config
        self.difference = difference
        self.note = note

    # -- the folder ----------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out; see `lock_run_folder`."""
        return lock_run_folder(self.folder) if self.writes else nullcontext()

    @contextmanager
    def log(self) -> Iterator[None]:
        """Append what is printed to ``log.txt``."""
        if not self.writes:
            yield
            return
        file = self.folder / "log.txt"
        goes_on = file.is_file() and file.stat().st_size > 0
        with tee_stdout(file):
            if goes_on:
                self.note("\n*** Started again; the log goes on ***")
            yield

    def print_head(self, arguments: Mapping[str, Any], seed: int, dassl: str) -> None:
        """Head of the log: arguments, configuration, versions."""
        where = provenance()
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
        lines = ["***************", "** Arguments **", "***************"]
        lines += [f"{k}: {'' if v is None else v}" for k, v in sorted(arguments.items())]
        lines += ["************", "** Config **", "************", self.config.rstrip()]
        lines += [f"Versions: {versions}; {dassl}; commit {where['git_commit'] or 'unknown'}"]
        if seed >= 0:
            lines += [f"Setting fixed seed: {seed}"]
        self.note("\n".join(lines))

    def seed(self, given: int) -> int:
        """`given`, or the one that was drawn for this run because it is negative."""
        return given if given >= 0 else kept_seed(self.folder)

    # -- finished ------------------------------------------------------------------------------

    def is_finished(
        self, given_seed: int, identify: Callable[[int], Identity], beside: str = ""
    ) -> bool:
        """Whether the folder holds the results of this very run; says so, reads only.

        Args:
            given_seed: negative if one is drawn for the run.
            identify: seed -> what the run is known by now; not called without results.
            beside: name of a file that belongs to the results; "" = none is wanted.

        Raises:
            ConfigError: it holds those of another run.
            DataError: what is identified cannot be read.
        """
        file = self.folder / RESULTS
        if file.is_dir():  # found out before hours of work
            raise ConfigError(f"{file} is a folder, where results must go: move it away")
        if not file.is_file():
            return False
        results = read_results(self.folder) or {}
        if wrong := damage(results):
            self.note(f"{file} is damaged ({wrong}): tested anew")
            return False
        recorded = recorded_identity(results)
        if not isinstance(results.get("config"), str):
            raise self._of_another("the results of another configuration", "it records none")
        if changes := self._config_changes(results.get("config"), recorded):
            raise self._of_another("the results of another configuration", "; ".join(changes))
        seed = given_seed if given_seed >= 0 else drawn_seed(self.folder)
        if seed is None:
            return False
        identity = identify(seed)
        recorded |= recorded_class_names(results, recorded, identity)
        if not self._fits(results, recorded, identity):
            return False
        if beside and (results.get("predictions"), (file.parent / beside).is_file()) != (beside, 1):
            self.note(f"There is no {beside} beside {file}: tested anew")
            return False
        self._say_done(results, recorded, identity)
        return True

    def _say_done(
        self, results: Mapping[str, Any], recorded: Mapping[str, Any], identity: Identity
    ) -> None:
        file = self.folder / RESULTS
        self.note(
            f"Already done: accuracy {results['accuracy']:.2f} % ({file}); delete it to test "
            "again, the folder to train again"
        )
        if identity.mode == TRAIN and not self._has_model():
            self.note(f"The model is not in {self.folder} any more: only a new training has one")
        if unknown := compare(recorded, identity.record()).unknown:
            self.note(f"{file} is of an earlier version: {named(unknown)} could not be compared")

    def _fits(
        self, results: Mapping[str, Any], recorded: Mapping[str, Any], identity: Identity
    ) -> bool:
        """Whether results are of this run; if only the test is another, they are not, and noted.

        Raises:
            ConfigError: they are of another run.
        """
        file = self.folder / RESULTS
        mode = recorded.get("mode") or self._guess_mode(results)
        if mode != identity.mode:
            was = "a test (--eval-only)" if mode == TEST else "a training"
            self.note(f"{file} is the result of {was}, which this is not: written anew")
            return False
        changed = compare(recorded, identity.record()).changed
        if not changed:
            return True
        details = explain(changed, self.folder, identity)
        if set(changed) - _TESTED[mode]:
            raise self._of_another(f"the results of another run, {named(changed)} differ", details)
        what = named(changed)
        self.note(
            f"{what[0].upper()}{what[1:]} have changed since {file} was written"
            f"{details and f' ({details})'}: tested anew"
        )
        return False

    def _guess_mode(self, results: Mapping[str, Any]) -> str:
        """Of results that do not say it: who trains leaves a model behind."""
        tested = results.get("checkpoint_sha256") or "Zeroshot" in str(results.get("trainer"))
        return TEST if tested and not self._has_model() else TRAIN

    def _has_model(self) -> bool:
        return any(self.folder.glob(f"{MODEL_FOLDER}/model*"))

    # -- unfinished ----------------------------------------------------------------------------

    def check_state(self, state: Mapping[str, Any], file: Path, identity: Identity) -> None:
        """See to it that a state is of this run, and that the next start can tell what changes.

        Raises:
            ConfigError: it is of a run with another configuration, classes or weights.
            DataError: it is of one with other images.
            CheckpointError: somebody has made it.
        """
        folder = file.parent.parent
        recorded = state.get("identity", {})
        kinds = {"config": str, "classnames": list}
        if not is_record(recorded) or any(type(state[key]) is not kinds[key] for key in kinds):
            raise CheckpointError(
                f"{file} does not say of what run it is: move the folder away to train from scratch"
            )
        if changes := self._config_changes(state["config"], recorded):
            raise ConfigError(
                f"{folder} holds an unfinished run with another configuration "
                f"({'; '.join(changes)}): use its options, or another --output-dir"
            )
        found = compare(recorded, identity.record())
        changed = [part for part in found.changed if part != "weights_file"]
        details = explain(changed, folder, identity)
        if state["classnames"] != list(identity.class_names):
            changed = list(dict.fromkeys(["class_names", *changed]))
            details = explain_classes(state["classnames"], identity.class_names)
        elif not recorded and state.get("images") != identity.images["train_images"].names_digest:
            changed, details = ["train_images"], "split file, few-shot choice or folder"
        if changed:
            raise DataError(
                f"{named(changed)} are not those of the unfinished run in {folder}"
                f"{details and f' ({details})'}: put them back, or use another --output-dir"
            )
        if not recorded:
            self.note(f"{file} is of an earlier version: the content of images is not compared")

    def keep_inventory(self, identity: Identity) -> None:
        """Write down what `check_state` names when something has changed."""
        if self.writes:
            write_inventory(self.folder, identity)

    def write_results(self, results: Mapping[str, Any], identity: Identity) -> None:
        """Write ``results.json``: with them the run is finished."""
        if self.writes:
            write_results(self.folder, {**results, "identity": identity.record()})

    # -- both ----------------------------------------------------------------------------------

    def _config_changes(self, before: Any, recorded: Mapping[str, Any]) -> list[str]:
        changes = self.difference(str(before or ""), self.config)
        if "mode" in recorded:  # else the place is all that is known of the content
            changes = [change for change in changes if change.partition(":")[0] not in PLACES]
        return changes[:_LISTED]

    def _of_another(self, what: str, details: str) -> ConfigError:
        return ConfigError(
            f"{self.folder / RESULTS} holds {what}{details and f' ({details})'}: give another "
            "--output-dir, or delete the folder"
        )
