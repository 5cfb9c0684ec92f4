"""Merging files and KEY VALUE pairs into a configuration, and telling two of them apart."""

from __future__ import annotations

import ast
import difflib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from .errors import ConfigError

# keys that may differ between two runs without another result
_FREE = {
    "OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA", "DATASET.ROOT", "DATALOADER.NUM_WORKERS",
    "TRAIN.CHECKPOINT_FREQ", "TRAIN.CHECKPOINT_STEPS", "TRAIN.MAX_BAD_STEPS", "TRAIN.PRINT_FREQ",
    "TEST.CACHE_SIZE_GB", "TRAINER.VPT.MEM_BUDGET",
}  # fmt: skip
_OR_NONE = {"TRAINER.VPT.LOGVAR_INIT"}  # the type of such a value is checked where it is used


def merge_file(cfg: CfgNode, path: str | os.PathLike) -> None:
    """Merge a YAML file.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or has keys or values that do not
            fit; all of them are named.
    """
    path = Path(path)
    if not path.is_file():
        names = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, 1, 0.4)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        here = f"; {path.parent} has {', '.join(names)}" if names else f"; no folder {path.parent}"
        raise ConfigError(f"configuration file {path} does not exist{hint or here}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not valid YAML: {error}") from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path} holds no KEY: VALUE mapping")
    _merge(cfg, list(_leaves(content)), f" (in {path})")


def merge_pairs(cfg: CfgNode, pairs: Sequence[Any]) -> None:
    """Merge ``[KEY, VALUE, KEY, VALUE, ...]``.

    Raises:
        ConfigError: flags among the pairs, a key without value, unknown keys, values of another
            type; all of them are named.
    """
    flags = [str(p) for p in pairs if str(p).startswith("--")]
    if flags:
        raise ConfigError(
            f"{', '.join(flags)} stand(s) behind the first KEY VALUE pair ({pairs[0]}), where "
            "only such pairs may follow: put flags first"
        )
    if len(pairs) % 2:
        raise ConfigError(
            f"{pairs[-1]!r} has no value; options are KEY VALUE pairs, e.g. TRAINER.VPT.L 20"
        )
    _merge(cfg, list(zip(pairs[::2], pairs[1::2], strict=True)), "")


def difference(before: str, now: str) -> list[str]:
    """``KEY: old -> new`` for what differs between two dumped configs and decides a result."""
    old, new = (dict(_leaves(yaml.safe_load(text) or {})) for text in (before, now))
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if key not in _FREE and old.get(key, "absent") != new.get(key, "absent")
    ]


def _leaves(tree: dict[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, name + ".")
        else:
            yield name, value


def _merge(cfg: CfgNode, pairs: list[tuple[str, Any]], where: str) -> None:
    known = dict(_leaves(cfg))
    problems = []
    for key, value in pairs:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{key} is not a configuration key{where}{hint}")
            continue
        try:
            value = _fit(value, None if key in _OR_NONE else known[key])
        except ValueError:
            wanted = f"{_kind(known[key])} is expected, such as {known[key]!r}"
            problems.append(f"{key} is {value!r}{where}; {wanted}")
            continue
        node = cfg
        *path, leaf = key.split(".")
        for name in path:
            node = node[name]
        node[leaf] = value
    if problems:
        raise ConfigError(problems)


def _fit(value: Any, default: Any) -> Any:
    """`value` in the type of `default`; whole numbers count as floats and the reverse.

    Raises:
        ValueError: it has another type.
    """
    if isinstance(default, str):
        if value is None or isinstance(value, list | tuple | dict):
            raise ValueError
        return str(value)
    parsed = _literal(value)
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise ValueError
    if default is None or type(parsed) is type(default):
        return parsed
    if isinstance(default, list | tuple) and isinstance(parsed, list | tuple):
        return type(default)(parsed)
    if type(default) is float and type(parsed) is int:
        return float(parsed)
    if type(default) is int and type(parsed) is float and parsed.is_integer():
        return int(parsed)
    raise ValueError


def _literal(value: Any) -> Any:
    """What a text says as a Python literal, as yacs reads it: YAML takes 1e-5 for a text."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _kind(default: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(default), "a list")
