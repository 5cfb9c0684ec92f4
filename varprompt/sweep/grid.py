"""A sweep as a YAML file: a table, its lists, and a grid over options.

    table: base2new
    trainers: [VPT]
    datasets: [dtd, eurosat]
    seeds: [1, 2, 3]
    options: {OPTIM.MAX_EPOCH: 10}          # for every run
    grid:                                   # every combination
      TRAINER.VPT.L: [1, 5, 10]
      TRAINER.VPT.PRIOR_STD: [0.1, 1.0]
      TRAINER.VPT.SAMPLER: [gaussian, antithetic]

Every combination is run with the same seeds: the same images, the same order, the same noise where
its shape is the same. So differences are taken pair by pair, and are much surer than averages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.checks import check_choice
from ..errors import ConfigError, brief
from ..report.stats import mean_interval
from ..run.results import read_results
from ..settings.yaml_file import read_yaml
from .cells import TABLES, Cell, point_name

# Key of the file -> the variable of the scripts that says the same.
LISTS = {"datasets": "DATASETS", "seeds": "SEEDS", "shots": "SHOT_LIST"}
SINGLE = {"cfg": "CFG", "epochs": "EPOCHS", "data": "DATA", "output": "OUTPUT"}
_KEYS = ("table", "trainers", "options", "grid", *LISTS, *SINGLE)
_METRICS = ("accuracy", "nll", "ece")


def read_grid(path: str | os.PathLike) -> dict[str, Any]:
    """A sweep's file, with lists of texts.

    Raises:
        ConfigError: it is missing, or everything that is wrong in it.
    """
    file, content = read_yaml(path)
    problems: list[str] = []
    for key in content:
        check_choice(str(key), _KEYS, f"key in {file}", problems)
    check_choice(content.get("table", "base2new"), tuple(TABLES), f"table in {file}", problems)
    for key in ("trainers", *LISTS):
        if key in content:
            content[key] = _texts(content[key], f"{key} in {file}", problems)
    for key in ("options", "grid"):
        if not isinstance(content.setdefault(key, {}), dict):
            problems.append(f"{key} in {file} is {brief(content[key])}; give KEY: VALUE lines")
            content[key] = {}
    content["options"] = {str(k): str(v) for k, v in content["options"].items()}
    content["grid"] = {
        str(k): _texts(v, f"{k} in {file}", problems) for k, v in content["grid"].items()
    }
    if problems:
        raise ConfigError(problems)
    return content


def _texts(value: Any, name: str, problems: list[str]) -> list[str]:
    """A list of words or numbers, or a single one, as texts; each once."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str | int | float) for item in values):
        problems.append(f"{name} is {brief(value)}; give a list of words or numbers")
        return []
    return list(dict.fromkeys(map(str, values)))


def rows(cells: Sequence[Cell], failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """What became of each cell, with its figures, for a CSV file."""
    found = []
    for cell in cells:
        results = {} if cell.name in failed else read_results(cell.folder) or {}
        state = "failed" if cell.name in failed else "done" if results else "unfinished"
        found.append({
            "run": cell.name, "state": state, **cell.point,
            **{name: results.get(name, "") for name in _METRICS},
            "folder": str(cell.folder), "reason": failed.get(cell.name, ""),
        })  # fmt: skip
    return found


def paired(cells: Sequence[Cell]) -> list[list[str]]:
    """Each point of the grid against the first, over the runs that both have.

    Returns:
        Rows of point, number of pairs, accuracy, difference in points with its 95 % interval
        (Student t, over pairs), difference of the nll.
    """
    points: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        results = read_results(cell.folder)
        own = " ".join(map("=".join, cell.point.items()))
        alike = cell.name.removesuffix(own).strip()  # the same run at another point
        if results:
            points.setdefault(point_name(cell.point), {})[alike] = results
    if not points:
        return []
    first = next(iter(points.values()))
    table = []
    for name, runs in points.items():
        pairs = [(runs[key], first[key]) for key in runs if key in first]
        if not pairs:
            continue
        gains = [a["accuracy"] - b["accuracy"] for a, b in pairs]
        nll = [a["nll"] - b["nll"] for a, b in pairs if "nll" in a and "nll" in b]
        gain, half = mean_interval(gains)
        accuracy, _ = mean_interval([a["accuracy"] for a, _ in pairs])
        shown = "" if runs is first else f"{gain:+.2f}" + (f" ± {half:.2f}" if half else "")
        low = "" if runs is first or not nll else f"{mean_interval(nll)[0]:+.4f}"
        table.append([name, str(len(pairs)), f"{accuracy:.2f}", shown, low])
    return table
