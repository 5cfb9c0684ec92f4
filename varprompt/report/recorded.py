"""What a results.json recorded of its configuration, read from the text that yacs wrote."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.characters import printable

# What may differ between runs of one method: where it ran, and on what.
_NOT_OF_A_METHOD = re.compile(
    r"OUTPUT_DIR|RESUME|SEED|USE_CUDA|VERBOSE|VERSION|DATASET\..*|DATALOADER\.NUM_WORKERS"
    r"|TEST\.(CACHE_SIZE_GB|EVALUATOR|PREDICTIONS)|TRAIN\.(PRINT_FREQ|CHECKPOINT.*|FEATURE_CACHE)|.*\.MEM_BUDGET"
)


def flat(config: Any) -> dict[str, str]:
    """Dotted keys and values, as written, of a configuration that yacs wrote.

    Read line by line: nothing in the text can make this slow or run code.
    """
    found: dict[str, str] = {}
    path: list[str] = []
    text = config if isinstance(config, str) and len(config) < 1 << 20 else ""
    for line in text.splitlines():
        match = re.match(r"((?:  )*)([A-Za-z_0-9]+):(?: (.*))?$", line)
        if match:
            path = [*path[: len(match[1]) // 2], match[2]]
            found[".".join(path)] = match[3] or ""
        elif path:  # an entry of a list, or the rest of a long text
            found[".".join(path)] += " " + line.strip()
    return {key: value.strip() for key, value in found.items() if value.strip()}


def of_a_method(config: Mapping[str, str]) -> dict[str, str]:
    """The options that make a method: all but data, seed and machine."""
    return {k: v for k, v in config.items() if not _NOT_OF_A_METHOD.fullmatch(k)}


def name_of(options: Mapping[str, str]) -> str:
    """A short name that differs where `options` do; empty if there are none."""
    text = "\n".join(f"{key}={value}" for key, value in options.items())
    return f"{zlib.crc32(text.encode(errors='replace')):08x}" if options else ""


def differing(several: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys whose values are not the same in all of `several`."""
    keys = dict.fromkeys(key for options in several for key in options)
    return [key for key in keys if len({options.get(key) for options in several}) > 1]


def _value(config: Mapping[str, str], key: str) -> str:
    """A text without YAML's quotes."""
    text = config.get(key, "")
    if text[:1] == text[-1:] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        import yaml

        try:
            loaded = yaml.safe_load(text[:5000])
        except (yaml.YAMLError, ValueError, RecursionError):
            return text
        return loaded if isinstance(loaded, str) else text
    return text


def place(config: Mapping[str, str]) -> str:
    """The folder of the data: DATASET.PATH in DATASET.ROOT; empty if none is recorded."""
    root = _value(config, "DATASET.ROOT")
    return os.path.normpath(os.path.join(root, path(config))) if root or path(config) else ""


def path(config: Mapping[str, str]) -> str:
    """DATASET.PATH."""
    return _value(config, "DATASET.PATH")


def title(config: Mapping[str, str], dataset: str) -> str:
    """Of the data set Folder the last folder of DATASET.PATH; "" of others."""
    if dataset != "Folder":
        return ""
    names = [n for n in re.split(r"[/\\]", path(config)) if n not in ("", ".")]
    if len(names) > 1 and names[-1].lower().endswith(".json"):
        names.pop()
    return printable(names[-1][:200]) if names else ""
