"""YAML files that somebody else has written: refused where they could surprise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..common.safe_load import parse_yaml
from ..errors import ConfigError, pass_on_memory
from .configs import find_config

_LARGEST_FILE = 1 << 20  # bytes; those of this project have at most 1 KB


def read_yaml(path: str | os.PathLike) -> tuple[Path, dict[Any, Any]]:
    """Where a YAML file is, as `varprompt.settings.configs.find_config` finds it, and its content.

    Raises:
        ConfigError: the file is missing or no YAML mapping.
    """
    path = find_config(path)
    with open(path, "rb") as file:
        text = file.read(_LARGEST_FILE + 1)
    if len(text) > _LARGEST_FILE:  # PyYAML would read a minute on 50 MB, even of comments
        raise ConfigError(
            f"configuration file {path} has more than {_LARGEST_FILE >> 20} MB: "
            "is it the right file?"
        )
    return path, parse_mapping(text, f"configuration file {path}")


def parse_mapping(text: str | bytes, name: str) -> dict[Any, Any]:
    """The mapping that YAML says; {} if it says nothing.

    Args:
        text: the YAML.
        name: of the text, for messages.

    Raises:
        ConfigError: it is no YAML, or no mapping.
    """
    try:
        content = parse_yaml(text.decode() if isinstance(text, bytes) else text)
    except Exception as error:  # PyYAML's constructors raise anything
        pass_on_memory(error, f"reading {name}")
        raise ConfigError(f"{name} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{name} holds no KEY: VALUE mapping")
    return content
