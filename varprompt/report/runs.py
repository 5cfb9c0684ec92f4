"""Finding the runs in a folder laid out as CoOp, CoCoOp, MaPLe, BPL and this project do.

In other folders those with a results.json of this project, which says what was run.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .logs import TEST_BEGINS, TRAINING_ENDS, logs_of, result_in
from .published import ELEVEN, VARIANTS

RESULTS = "results.json"
_NAME = "[^/]+"
_SEED = r"seed(?P<seed>\d+)"
_METHOD = rf"(?P<trainer>{_NAME})/(?P<config>{_NAME})"
_TRAINED = rf"{_METHOD}_(?P<shots>\d+)shots"

# The end of a run's path, the classes that are tested, and the line behind which its result stands.
LAYOUTS = {
    kind: (re.compile(f"(?:^|/){pattern}$"), signals)
    for kind, pattern, signals in (
        (
            "base2new_train",
            rf"base2new/train_base/(?P<dataset>{_NAME})/(?:(?P<variant>mcmc_{_NAME})/)?"
            rf"shots_(?P<shots>\d+)(?P<shape>{_NAME})?/{_METHOD}/{_SEED}",
            TRAINING_ENDS,
        ),
        (
            "base2new_test",
            rf"base2new/test_new/(?P<dataset>{_NAME})/(?:(?P<variant>mcmc_{_NAME})/)?"
            rf"shots_(?P<shots>\d+)(?P<shape>{_NAME})?/{_METHOD}/{_SEED}",
            TEST_BEGINS,
        ),
        (
            "evaluation",
            rf"evaluation/{_TRAINED}/(?:(?P<variant>nctx{_NAME})/)?(?P<dataset>{_NAME})/{_SEED}",
            TEST_BEGINS,
        ),
        (
            "trained",
            rf"(?P<dataset>{_NAME})/(?:(?P<variant>mcmc_{_NAME})/)?{_TRAINED}/"
            rf"(?:(?P<shape>nctx{_NAME})/)?{_SEED}",
            TRAINING_ENDS,
        ),
        (
            "zeroshot",
            rf"(?P<trainer>ZeroshotCLIP2?)/(?P<config>{_NAME})/(?P<dataset>{_NAME})"
            r"(?:/(?P<part>base|new))?",
            TEST_BEGINS,
        ),
    )
}
# What may differ in the configurations (YAML) of runs of one method.
_SET_PER_RUN = re.compile(r"^(?:DATASET|OUTPUT_DIR|RESUME|SEED):.*\n(?:[ -].*\n)*", re.MULTILINE)
PARTS = {"base2new_train": "base", "base2new_test": "new"}


@dataclass(frozen=True, order=True)
class Method:
    """What shares a row of a table: everything but data set and seed."""

    trainer: str
    config: str
    variant: str = ""  # extra levels of the path: samples, context length ...
    shots: int = 0  # 0: not trained, or not told apart by it

    @property
    def is_zeroshot(self) -> bool:
        """Whether nothing was trained, so that there is one run and no seed."""
        return self.trainer.startswith("Zeroshot")


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
    exact: bool  # from results.json; else from a log, with one decimal


@dataclass
class Found:
    """The runs below a folder, and what could not be used."""

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_runs(root: str | os.PathLike) -> Found:
    """All runs below `root`, which may be a part of the layout such as output/base2new."""
    found = Found()
    taken: dict[tuple[Any, ...], str] = {}
    for folder, names, files in os.walk(os.path.abspath(root)):
        names.sort()
        if RESULTS not in files and not any(name.startswith("log.txt") for name in files):
            continue
        run = _read(folder)
        if isinstance(run, str):
            found.problems.append(run)
            continue
        key = (run.method, run.source, run.dataset, run.part, run.seed)
        if key in taken:
            found.problems.append(f"{run.file}: left out, same run as {taken[key]}")
            continue
        taken[key] = run.file
        found.runs.append(run)
    return found


def _read(folder: str) -> Run | str:
    """The run in `folder`, or why there is none."""
    path = Path(folder).as_posix()
    layout = ((kind, p.search(path), signals) for kind, (p, signals) in LAYOUTS.items())
    kind, match, signals = next((x for x in layout if x[1]), ("", None, ()))
    if match is None:
        return _self_described(folder)
    words = match.groupdict()
    dataset, part = words["dataset"], words.get("part") or PARTS.get(kind, "all")
    shots = int(words.get("shots") or 0)
    source = {"evaluation": "imagenet", "zeroshot": ""}.get(kind, dataset)
    config = _coop_family(words["trainer"], words["config"], source, shots)
    extra = [words.get("variant") or "", (words.get("shape") or "").strip("_")]
    method = Method(words["trainer"], config, " ".join(filter(None, extra)), shots)
    seed = int(words["seed"]) if words.get("seed") else None
    run = Run(method, source, dataset, part, seed, {}, folder, True)
    return _with_result(run, signals)


def _self_described(folder: str) -> Run | str:
    """The run in a folder outside of every layout, from what its results.json says of itself."""
    file = os.path.join(folder, RESULTS)
    if not os.path.isfile(file):
        return f"{folder}: left out, its path says nothing about trainer, data set and seed"
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        trainer, part, config = (content[k] for k in ("trainer", "subsample_classes", "config"))
        shots, seed = int(content["shots"]), int(content["seed"])
        dataset = _dataset_of(content["dataset"], config)
        settings = zlib.crc32(_SET_PER_RUN.sub("", config).encode())
    except KeyError as error:
        return f"{file}: left out, neither its path nor the file says {error}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{file}: left out, not readable ({error})"
    method = Method(trainer, f"settings {settings:08x}", "", shots)
    run = Run(method, dataset, dataset, part, seed, {}, folder, True)
    if method.is_zeroshot:
        run = replace(run, method=replace(method, shots=0), source="", seed=None)
    elif part == "all" and content.get("checkpoint_sha256") and not _was_trained_in(folder):
        return f"{file}: left out, neither its path nor the file says on what it was trained"
    return _with_result(run, ())


def _was_trained_in(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "prompt_learner"))


def _dataset_of(name: str, config: str) -> str:
    """A data set's name in CoOp's layout, from that of its class; for Folder, its path."""
    path = re.search("^  PATH: (.+)$", config, re.MULTILINE)
    if name == "Folder" and path:
        return path[1]
    known = {name.replace("_", ""): name for name in (*ELEVEN, *VARIANTS)}
    known["describabletextures"] = "dtd"
    return known.get(name.lower(), name.lower())


def _with_result(run: Run, signals: Collection[str]) -> Run | str:
    file = os.path.join(run.file, RESULTS)
    if os.path.isfile(file):
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            names = ("accuracy", "macro_f1", "nll", "ece")
            metrics = {name: float(content[name]) for name in names if name in content}
        except (OSError, ValueError, TypeError) as error:
            return f"{file}: left out, not readable ({error})"
        if "accuracy" not in metrics:
            return f"{file}: left out, it holds no accuracy"
        other = _contradiction(run, content)
        return f"{file}: left out, {other}" if other else replace(run, metrics=metrics, file=file)
    result = result_in(logs_of(run.file), "accuracy", signals)
    if result is None:
        return f"{run.file}: unfinished, its log holds no result"
    return replace(run, metrics={"accuracy": result[1]}, file=result[0], exact=False)


def _contradiction(run: Run, content: dict[str, Any]) -> str:
    """What results.json says of itself that does not fit its path; empty when all fits."""
    wanted = {"trainer": run.method.trainer, "subsample_classes": run.part}
    if run.seed is not None:
        wanted["seed"] = run.seed
    if run.method.shots and run.source == run.dataset:
        wanted["shots"] = run.method.shots
    wrong = [
        f"{key} is {content[key]!r} but its path says {value!r}"
        for key, value in wanted.items()
        if content.get(key, value) != value
    ]
    return "; ".join(wrong)


def _coop_family(trainer: str, config: str, source: str, shots: int) -> str:
    """CoOp's config without the length that CoOp trains this data set and number of shots for.

    CoOp names one method vit_b16_ctxv1 on most data sets, vit_b16_ep50_ctxv1 on ImageNet, and
    rn50_ep50, rn50_ep100 or rn50 by the number of shots.
    """
    match = re.search(r"_ep(\d+)", config)
    length = 50 if source == "imagenet" or shots == 1 else 100 if shots in (2, 4) else 200
    if trainer != "CoOp" or not match or int(match[1]) != length:
        return config
    return config.replace(match[0], "")
