"""The cells of a sweep: each run of a table, for each trainer and each point of a grid."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from ..errors import ConfigError
from ..settings.recipes import ROOT, recipes
from ..settings.script_tables import Step, plan
from ..settings.scripts import train_arguments

TABLES = {  # name: the script whose runs it has
    "base2new": "base2new_all",
    "cross": "xd_all",
    "fewshot": "fewshot_all",
    "zeroshot": "zeroshot_all",
}
# Zero-shot CLIP beside trained prompts: the classes that a table tests.
_ZERO_SHOT = {"base2new": "base new", "cross": "all", "fewshot": "all", "zeroshot": ""}
# What differs between runs that take the same memory and time.
_PLACES = ("--seed", "--output-dir", "--model-dir")


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        name: unique in its sweep, e.g. "VPT base2new_train.sh dtd 1".
        argv: arguments of train.py; its folders are absolute.
        needs: name of the training that it tests, "" = it needs none.
        point: the options of the grid that it has, KEY -> VALUE.
    """

    name: str
    argv: tuple[str, ...]
    needs: str = ""
    point: Mapping[str, str] = field(default_factory=dict, hash=False)

    def flag(self, name: str) -> str:
        """The value of a flag of train.py; "" without it."""
        return self.argv[self.argv.index(name) + 1] if name in self.argv else ""

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return Path(self.flag("--output-dir"))

    @property
    def kind(self) -> tuple[str, ...]:
        """The same for runs that differ in seed and folder only: they need as much memory."""
        words, kept = iter(self.argv), []
        for word in words:
            if word in _PLACES:
                next(words)
            else:
                kept.append(word)
        return tuple(kept)


@dataclass(frozen=True)
class Wanted:
    """What a sweep consists of.

    Attributes:
        table: one of `TABLES`.
        trainers: names; each has the table's runs.
        env: DATA, OUTPUT, DATASETS, SEEDS, ...: the environment of the scripts.
        pairs: KEY VALUE ... for every run.
        grid: KEY -> values; every combination has all the runs, with the same seeds.
    """

    table: str
    trainers: Sequence[str]
    env: Mapping[str, str]
    pairs: Sequence[str] = ()
    grid: Mapping[str, Sequence[str]] = field(default_factory=dict)


def cells_of(wanted: Wanted, cwd: str | os.PathLike = ".") -> tuple[list[Cell], list[str]]:
    """All cells, trainings before their tests; and notes on what has no effect.

    Args:
        wanted: its OUTPUT and DATA are absolute, or count from `cwd`.
        cwd: where relative paths start.

    Raises:
        ConfigError: everything that is wrong in any of them.
    """
    cells: dict[str, Cell] = {}
    notes: dict[str, None] = {}
    problems: dict[str, None] = {}
    for trainer, point in product(wanted.trainers, _points(wanted.grid)):
        env = {**wanted.env, "TRAINER": trainer}
        if point:
            env["OUTPUT"] = str(Path(env["OUTPUT"], point_name(point)))
        pairs = [*wanted.pairs, *(word for pair in point.items() for word in pair)]
        try:
            for step in plan(_script(wanted.table, trainer, env), env, cwd, pairs):
                cell, said = _cell(step, trainer, point, env, pairs, cwd)
                cells[cell.name] = cell
                notes.update(dict.fromkeys(said))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))
    return list(cells.values()), list(notes)


def point_name(point: Mapping[str, str]) -> str:
    """Folder of a point of a grid: the last part of each key and its value, ``L-5_PRIOR_STD-0.1``.

    Characters that a folder's name had better not have become ``~``.
    """
    parts = (f"{key.rpartition('.')[2]}-{value}" for key, value in point.items())
    return "".join(c if c.isalnum() or c in "-_.+" else "~" for c in "_".join(parts))


def _points(grid: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    return (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def _script(table: str, trainer: str, env: dict[str, str]) -> str:
    """The script whose runs a trainer has in a table; zero-shot CLIP is tested only."""
    if trainer not in recipes()["zeroshot_trainers"]:
        return TABLES[table]
    env.setdefault("SUBSAMPLE_CLASSES", _ZERO_SHOT[table])
    return TABLES["zeroshot"]


def _cell(
    step: Step, trainer: str, point: Mapping[str, str], env: Mapping[str, str],
    pairs: Sequence[str], cwd: str | os.PathLike,
) -> tuple[Cell, list[str]]:  # fmt: skip
    script, *words = step.words
    own = {step.setting[0]: step.setting[1]} if step.setting else {}
    call = [*words, *pairs]
    argv, notes = train_arguments(script[: -len(".sh")], call, {**env, **own}, cwd, False)
    argv[1] = str(ROOT / argv[1])  # "data" of the checkout
    name = _name(trainer, step.words, [*own.values(), *map("=".join, point.items())])
    needs = _name(trainer, step.needs, list(map("=".join, point.items()))) if step.needs else ""
    return Cell(name, tuple(argv), needs, point), notes


def _name(trainer: str, words: Sequence[str], more: Sequence[str]) -> str:
    return " ".join([trainer, *words, *more])
