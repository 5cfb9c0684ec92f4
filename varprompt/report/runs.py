"""Finding the runs in a folder laid out as CoOp, CoCoOp, MaPLe, BPL and this project do.

In other folders those with a results.json of this project, which says what was run.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..common.characters import printable
from ..errors import brief
from .layout import Method, Place, place_of
from .logs import logs_of, result_in
from .published import KNOWN, folder_name
from .record import PARTS, RESULTS, NotARecord, Record, copy_of, read_record
from .walk import Walk

NAMELESS = "settings "  # begins the name of a configuration that no path names


@dataclass(frozen=True)
class Run:
    """One result. `metrics` are in % except `nll`; `source` is the data set trained on."""

    method: Method
    source: str  # "" for zero-shot
    dataset: str
    part: str  # classes tested: all, base, new
    seed: int | None
    metrics: dict[str, float]
    file: str
    exact: bool = True  # from results.json; else from a log, with one decimal
    record: Record | None = None


@dataclass
class Found:
    """The runs below a folder, and what could not be used: one line each."""

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self) -> list[str]:
        """The same for below a table."""
        n, total = len(self.problems), len(self.problems) + len(self.runs)
        return [f"{n} of {total} results in this folder are left out: report.py says why."] * (
            n > 0
        )

    def summary(self) -> str:
        """How much was left out; empty if nothing was."""
        n = len(self.problems)
        total = n + len(self.runs)
        return f"{n} of {total} results left out, for the reasons above" if n else ""


def find_runs(root: str | os.PathLike, any_root: bool = False) -> Found:
    """All runs below `root`, which may be a part of the layout such as output/base2new.

    Args:
        root: the folder.
        any_root: take data sets under another DATASET.ROOT for the same where results are so old
            that they do not record the content of the images.
    """
    from .settle import settled

    runs: list[Run] = []
    originals: dict[str, str] = {}
    walk = Walk(os.fspath(root))
    problems = walk.problems
    for folder, names in walk:
        if RESULTS not in names and not any(name.startswith("log.txt") for name in names):
            continue
        try:
            run = _read(folder)
            if reason := copy_of(originals, run.record, run.file):
                raise NotARecord(f"{run.file}: left out, {reason}")
            runs.append(run)
        except NotARecord as reason:
            problems.append(f"{printable(reason)}")
        except OSError as error:
            problems.append(f"{printable(folder)}: left out, not readable ({error.strerror})")
    kept, conflicts = settled(runs, any_root)
    return Found(kept, problems + conflicts)


def _read(folder: str) -> Run:
    """The run in `folder`.

    Raises:
        NotARecord: there is none; the message says why.
    """
    place, file = place_of(Path(folder).as_posix()), os.path.join(folder, RESULTS)
    if not os.path.lexists(file):
        if place is None:
            raise NotARecord(
                f"{folder}: left out, its path says nothing about trainer, data set and seed"
            )
        return _from_log(folder, place)
    try:
        record = read_record(file)
        run = _self_described(folder, record) if place is None else _described(place, record)
    except NotARecord as reason:
        raise NotARecord(f"{file}: left out, {reason}") from reason
    if "accuracy" not in record.metrics:
        raise NotARecord(f"{file}: left out, it holds no accuracy")
    return replace(run, file=printable(file))


def _from_log(folder: str, place: Place) -> Run:
    reading = result_in(logs_of(folder), "accuracy", place.signals)
    if reading is None:
        raise NotARecord(f"{folder}: unfinished, its log holds no result")
    if reading.bad:
        raise NotARecord(f"{reading.file}: left out, {reading.bad}")
    metrics, file = {"accuracy": reading.value}, printable(reading.file)
    run = Run(place.method, place.source, place.dataset, place.part, place.seed, metrics, file)
    return replace(run, exact=False)


def _described(place: Place, record: Record) -> Run:
    """The run in a folder of a layout, if its record does not contradict the path."""
    wanted: dict[str, object] = {
        "trainer": place.method.trainer,
        "subsample_classes": place.part,
        "seed": place.seed,
        "shots": place.method.shots if place.source == place.dataset else None,
    }
    said = {
        "trainer": record.trainer, "subsample_classes": record.part, "seed": record.seed,
        "shots": record.shots,
    }  # fmt: skip
    wrong = [
        f"{key} is {said[key]!r} but its path says {value!r}"
        for key, value in wanted.items()
        if value is not None and said[key] not in (None, value)
    ]
    if place.dataset in KNOWN and record.dataset and folder_name(record.dataset) != place.dataset:
        wrong.append(f"dataset is {record.dataset!r} but its path says {place.dataset!r}")
    if wrong:
        raise NotARecord("; ".join(wrong))
    dataset = own_name(record) or place.dataset
    source = dataset if place.source == place.dataset else place.source
    run = Run(place.method, source, dataset, place.part, place.seed, record.metrics, "")
    return replace(run, record=record)


def _self_described(folder: str, record: Record) -> Run:
    """The run in a folder outside of every layout, from what its results.json says of itself."""
    said = {
        "trainer": record.trainer, "subsample_classes": record.part, "config": record.settings,
        "shots": record.shots, "seed": record.seed, "dataset": record.dataset,
    }  # fmt: skip
    if absent := [repr(key) for key, value in said.items() if value in (None, "")]:
        raise NotARecord(f"neither its path nor the file says {', '.join(absent)}")
    trainer, dataset, shots = record.trainer or "", record.dataset or "", record.shots or 0
    if record.part not in PARTS:
        raise NotARecord(f"its subsample_classes is {brief(record.part)}")
    dataset = own_name(record) or folder_name(dataset)
    method = Method(trainer, f"{NAMELESS}{record.settings}", "", shots)
    run = Run(method, dataset, dataset, record.part, record.seed, record.metrics, "")
    run = replace(run, record=record)
    if method.is_zeroshot:
        return replace(run, method=replace(method, shots=0), source="", seed=None)
    if record.part == "all" and record.checkpoint and not _was_trained_in(folder):
        raise NotARecord("neither its path nor the file says on what it was trained")
    return run


def _was_trained_in(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "prompt_learner"))


def own_name(record: Record) -> str:
    """What a data set of one's own is called; empty for the protocol's.

    It never takes the name of a data set of the protocol, whose published figures are not its own.
    """
    return f"{record.title} (own)" if record.title in KNOWN else record.title


def seeds_of(runs: Collection[Run]) -> set[int]:
    """All seeds that occur."""
    return {run.seed for run in runs if run.seed is not None}
