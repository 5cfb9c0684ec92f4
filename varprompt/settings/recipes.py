"""``configs/recipes.yaml``: data sets of each protocol, epochs and samples of each method.

Read before anything is installed, so with Python 3.9 and its standard library only.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .configs import configs_folder

ROOT = Path(__file__).resolve().parents[2]  # of a checkout


@functools.cache
def recipes() -> dict[str, Any]:
    """What ``configs/recipes.yaml`` says.

    Raises:
        ConfigError: no such file, or a line that is not of the simple forms it keeps to.
    """
    file = configs_folder() / "recipes.yaml"
    return parse(file.read_text(encoding="utf-8"), str(file))


def parse(text: str, file: str) -> dict[str, Any]:
    """Read the part of YAML that the recipes keep to: PyYAML may not be installed yet.

    A name is followed by a word or a number, by indented ``- item`` lines, or by indented
    ``name: {name: number, ...}`` or ``name: word`` lines.
    """
    result: dict[str, Any] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].rstrip()
        top = re.fullmatch(r"(\w+):(?: (\S.*))?", line)
        inner = re.fullmatch(r"  (?:- (\S+)|(\w+): (\S.*))", line) if name else None
        if top:
            name = top[1]
            result[name] = _value(top[2]) if top[2] else None
        elif inner and inner[1]:
            result[name] = [*(result[name] or ()), inner[1]]
        elif inner:
            result[name] = {**(result[name] or {}), inner[2]: _value(inner[3])}
        elif line:
            raise ConfigError(f"{file}, line {number}: {line.strip()!r} is not understood")
    return result


def _value(text: str) -> Any:
    if text.startswith("{"):
        return {key: _value(value) for key, value in re.findall(r"(\w+): *([\w.]+)", text)}
    return int(text) if text.isdecimal() else text


def default_config(trainer: str, dataset: str, protocol: str, shots: str) -> str:
    """Name of the config in configs/trainers/`trainer` that the trainer's authors used.

    Args:
        trainer: such as VPT or MaPLe.
        dataset: what is trained on.
        protocol: "fewshot" of CoOp, "base2new" or "xd" of CoCoOp.
        shots: images a class.
    """
    if trainer != "CoOp":
        own = recipes().get(f"default_configs_{protocol}", {}).get(trainer)
        return own or recipes()["default_configs"].get(trainer) or recipes()["default_config"]
    table = recipes()["coop_fewshot" if protocol == "fewshot" else "coop"]
    return table.get(dataset) or table.get(f"shots_{shots}") or table["other"]


def authors_numbers(trainer: str, config_file: str, dataset: str) -> dict[str, int]:
    """``L`` and ``epochs`` of VPT's authors, {} where they gave none.

    Args:
        trainer: name of the trainer.
        config_file: as in ``configs/trainers/VPT/NAME.yaml``; files elsewhere have no recipe.
        dataset: what is trained on.
    """
    own = (
        config_file.startswith("configs/trainers/VPT/") and recipes()["vpt_configs"] in config_file
    )
    return recipes()["vpt"].get(dataset, {}) if trainer == "VPT" and own else {}
