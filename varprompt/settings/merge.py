"""Merging files and KEY VALUE pairs into a configuration, and telling two of them apart."""

from __future__ import annotations

import ast
import difflib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from ..errors import ConfigError, brief, pass_on_memory
from .option import DASSL, Option, leaves, place_of
from .options import OPTIONS
from .prompt_options import OF_PROMPT
from .yaml_file import parse_mapping, parse_yaml, read_yaml

_LARGEST = 2**63  # that of whole numbers in torch


def merge_file(cfg: CfgNode, path: str | os.PathLike) -> None:
    """Merge a YAML file, found as `varprompt.settings.configs.find_config` does.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or has keys or values that do not
            fit; all of them are named.
    """
    path, content = read_yaml(path)
    _merge_mapping(cfg, content, f"configuration file {path}", f" (in {path})")


def merge_text(cfg: CfgNode, text: str | bytes, name: str, where: str = "") -> None:
    """Merge YAML.

    Args:
        cfg: the tree.
        text: what to merge into it.
        name: of the text, for messages.
        where: behind what is said of a key.

    Raises:
        ConfigError: it is no mapping, or has keys or values that do not fit; all of them are named.
    """
    _merge_mapping(cfg, parse_mapping(text, name), name, where)


def _merge_mapping(cfg: CfgNode, content: dict[Any, Any], name: str, where: str) -> None:
    pairs = list(leaves(content, cfg))
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ConfigError(f"{name} has {', '.join(twice)} twice")
    _merge(cfg, pairs, where)


def merge_pairs(cfg: CfgNode, pairs: Sequence[Any]) -> None:
    """Merge ``[KEY, VALUE, KEY, VALUE, ...]``; of a key that comes again the last value counts.

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
    """``KEY: old -> new`` for what differs between two dumped configs and decides a result.

    An option that one of them lacks, because it is older, has its default value there.
    """
    new = parse_yaml(now)
    try:
        old = parse_yaml(before)
    except Exception as error:  # a damaged file may hold anything
        pass_on_memory(error, "reading a configuration")
        old = None
    old = dict(leaves(old if isinstance(old, dict) else {}, new))
    new = dict(leaves(new))
    since = _added_since()
    old, new = (since | _of_the_node(one, other) | one for one, other in ((old, new), (new, old)))
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if (key not in OPTIONS or OPTIONS[key].decides)
        and old.get(key, "absent") != new.get(key, "absent")
    ]


def _added_since() -> dict[str, Any]:
    """This project's options as they were before there were any: at their defaults."""
    return {key: _dumped(option) for key, option in OPTIONS.items() if option.default is not DASSL}


def _of_the_node(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the prompt's options that nodes in `one` lack, as they were not there yet."""
    nodes = {key.rpartition(".")[0] for key in one}
    lacking = (key.rpartition(".") for key in other.keys() - one.keys())
    return {
        f"{node}.{name}": _dumped(OF_PROMPT[name])
        for node, _, name in lacking
        if node in nodes and node.startswith("TRAINER.") and name in OF_PROMPT
    }


def _dumped(option: Option) -> Any:
    """The default of an option as YAML has it."""
    return list(option.default) if isinstance(option.default, tuple) else option.default


def _merge(cfg: CfgNode, pairs: list[tuple[str, Any]], where: str) -> None:
    known = dict(leaves(cfg))
    plain = {key.lower(): key for key in known}
    problems: list[str] = []
    for key, value in pairs:
        if _of_another_trainer(cfg, key, value):
            _keep(cfg, key, value, where, problems)
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key)[:100].lower(), plain, 1, 0.4)
            hint = f"; did you mean {plain[near[0]]}?" if near else ""
            problems.append(f"{str(key)[:100]} is not a configuration key{where}{hint}")
            continue
        option = OPTIONS.get(key)
        like = known[key] if option is None or option.default is DASSL else option.default
        try:
            value = _fit(value, like)
        except ValueError:
            wanted = f"{_kind(like)} is expected, such as {like!r}"
            problems.append(f"{key} is {brief(value)}{where}; {wanted}")
            continue
        node, name = place_of(cfg, key)
        node[name] = value
    if problems:
        raise ConfigError(problems)


def _of_another_trainer(cfg: CfgNode, key: Any, value: Any) -> bool:
    """Whether it is a whole node of options of a trainer that is not registered here."""
    parts = str(key).split(".")
    return (
        len(parts) == 2 and parts[0] == "TRAINER" and parts[1] not in cfg.TRAINER
        and isinstance(value, dict) and bool(value)
    )  # fmt: skip


def _keep(cfg: CfgNode, key: str, value: dict[Any, Any], where: str, problems: list[str]) -> None:
    """Put a node into the tree as it is: whoever knows its options checks them."""
    node = CfgNode()
    for name, leaf in leaves(value):
        try:
            below, last = place_of(node, name)
            below[last] = tuple(map(_scalar, leaf)) if isinstance(leaf, list) else _scalar(leaf)
        except ValueError:
            problems.append(f"{key}.{name} is {brief(leaf)}{where}; an option cannot be that")
    cfg.TRAINER[key.partition(".")[2]] = node


def _fit(value: Any, default: Any) -> Any:
    """`value` in the type of `default`; whole numbers count as floats and the reverse.

    Raises:
        ValueError: it has another type, or cannot be written to a file.
    """
    if isinstance(default, str):
        if type(value) not in (str, int):  # YAML reads off and 1.10 as False and 1.1
            raise ValueError
        return _scalar(str(value))
    parsed = _literal(value)
    if isinstance(default, list | tuple) and isinstance(parsed, str) and _scalar(parsed):
        parsed = [parsed]  # TEMPLATES "an x-ray of a {}."
    if isinstance(default, list | tuple) and isinstance(parsed, list | tuple):
        return type(default)(_scalar(item) for item in parsed)
    parsed = _scalar(parsed)
    if default is None or type(parsed) is type(default):
        return parsed
    if type(default) is float and type(parsed) is int:
        return float(parsed)
    if type(default) is int and type(parsed) is float and parsed.is_integer():
        return int(parsed)
    raise ValueError


def _scalar(value: Any) -> Any:
    """`value`, if it is a text, a finite number of usual size, a truth value or None.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, str):
        value.encode()  # raises a ValueError for halves of characters
        if "\0" in value:
            raise ValueError
    elif isinstance(value, int | float):
        if not abs(value) < _LARGEST:
            raise ValueError
    elif value is not None:
        raise ValueError
    return value


def _literal(value: Any) -> Any:
    """What a text says as a Python literal, as yacs reads it: YAML takes 1e-5 for a text."""
    if not isinstance(value, str):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange escapes and operators
            return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return value


def _kind(default: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text",
             type(None): "a number or None"}  # fmt: skip
    return names.get(type(default), "a list")
