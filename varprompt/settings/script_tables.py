"""The runs of a whole table, such as ``base2new_all.sh``: every data set, every seed.

Planned before anything is installed, so with Python 3.9 and its standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .recipes import recipes
from .scripts import train_arguments

TABLES = ("base2new_all", "xd_all", "fewshot_all", "zeroshot_all")


@dataclass(frozen=True)
class Step:
    """One run of a table.

    Attributes:
        words: script and arguments, e.g. ("base2new_test.sh", "dtd", "1").
        needs: the words of the training that it tests, () = it needs none.
        setting: an environment variable of its own, e.g. ("SUBSAMPLE_CLASSES", "new"), or ().
    """

    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    setting: tuple[str, ...] = ()


def plan(
    table: str, env: Mapping[str, str], cwd: str | os.PathLike = ".", pairs: Sequence[str] = ()
) -> list[Step]:
    """The runs of a table, each checked as far as it can be before the first one starts.

    Args:
        table: one of `TABLES`.
        env: as for the single scripts, and DATASETS, SEEDS, SHOT_LIST: lists with blanks.
        cwd: where relative paths start.
        pairs: KEY VALUE pairs for every run.

    Raises:
        ConfigError: everything that is wrong in any of the runs.
    """
    steps = _steps(table, env)
    problems: dict[str, None] = {}
    for step in steps:
        own = {step.setting[0]: step.setting[1]} if step.setting else {}
        script, *words = step.words
        try:
            words += pairs
            train_arguments(script[: -len(".sh")], words, {**env, **own}, cwd, need_model=False)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))
    return steps


def _steps(table: str, env: Mapping[str, str]) -> list[Step]:
    data = recipes()
    targets = [name for name in data["datasets"] if name != "imagenet"] + data["variants"]
    default = {"xd_all": targets, "zeroshot_all": ["imagenet", *targets]}
    datasets = (env.get("DATASETS") or "").split() or default.get(table, data["datasets"])
    seeds = (env.get("SEEDS") or "1 2 3").split()
    if table == "fewshot_all":
        shots = (env.get("SHOT_LIST") or "1 2 4 8 16").split()
        return [Step(("fewshot.sh", d, n, s)) for d in datasets for n in shots for s in seeds]
    if table == "zeroshot_all":
        subsets = (env.get("SUBSAMPLE_CLASSES") or "all base new").split()
        return [
            Step(("zeroshot.sh", d), setting=("SUBSAMPLE_CLASSES", part))
            for d in datasets for part in subsets if part == "all" or d not in data["variants"]
        ]  # fmt: skip
    trainings: list[tuple[tuple[str, ...], list[tuple[str, ...]]]]
    if table == "base2new_all":
        trainings = [(("base2new_train.sh", d, s), [("base2new_test.sh", d, s)])
                     for d in datasets for s in seeds]  # fmt: skip
    else:
        trainings = [(("xd_train.sh", s), [("xd_test.sh", d, s) for d in datasets])
                     for s in seeds]  # fmt: skip
    return [
        step
        for training, tests in trainings
        for step in (Step(training), *(Step(test, needs=training) for test in tests))
    ]
