"""Where configuration files lie, and how one is found by its name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ..errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def configs_folder() -> Path:
    """The folder ``configs`` that comes with this package.

    Raises:
        ConfigError: it is not there.
    """
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):  # installed, a checkout
        if (folder / "trainers").is_dir():
            return folder
    raise ConfigError(f"the folder configs is missing from {_PACKAGE}: install varprompt again")


def find_config(path: str | os.PathLike[str]) -> Path:
    """A configuration file wherever it lies.

    A relative path that leads nowhere from the working directory counts from `configs_folder`,
    with or without its first part "configs": ``configs/trainers/VPT/embedded.yaml`` is found in
    any folder.

    Raises:
        ConfigError: there is no such file; the nearest is named.
    """
    given = Path(os.path.expanduser(path))
    places = [given]
    if not given.is_absolute():
        parts = given.parts[given.parts.index("configs") + 1 :] if "configs" in given.parts else ()
        places.append(configs_folder().joinpath(*(parts or given.parts)))
    for place in places:
        if place.is_file():
            return place
    there = {
        place: sorted(p.name for p in place.parent.glob("*.yaml"))
        for place in places
        if place.parent.is_dir()
    }
    hint = "; no folder " + " and ".join(str(place.parent) for place in places)
    for place, names in there.items():
        hint = f"; {place.parent} has {', '.join(names) or 'no such files'}"
    for place, names in there.items():
        for near in difflib.get_close_matches(place.name, names, 1, 0.4):
            hint = f"; did you mean {place.parent / near}?"
    raise ConfigError(f"configuration file {path} does not exist{hint}")
