"""Where configuration files lie, and how one is found by its name."""

from __future__ import annotations

import difflib
from os import PathLike
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


def find_config(path: str | PathLike[str]) -> Path:
    """A configuration file wherever it lies.

    A relative path that leads nowhere from the working directory counts from `configs_folder`,
    with or without its first part "configs": ``configs/trainers/VPT/embedded.yaml`` is found in
    any folder.

    Raises:
        ConfigError: there is no such file; the nearest is named.
    """
    given = Path(path).expanduser()
    places = [given]
    if not given.is_absolute():
        parts = given.parts[given.parts.index("configs") + 1 :] if "configs" in given.parts else ()
        places.append(configs_folder().joinpath(*(parts or given.parts)))
    for place in places:
        if place.is_file():
            return place
    hints = [hint for place in places if (hint := _near(place))]
    folders = " and ".join(dict.fromkeys(str(place.parent) for place in places))
    raise ConfigError(
        f"configuration file {path} does not exist{hints[0] if hints else f'; no folder {folders}'}"
    )


def _near(path: Path) -> str:
    """What is there instead; "" if there is no such folder."""
    names = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1, 0.4)
    if near:
        return f"; did you mean {path.parent / near[0]}?"
    return f"; {path.parent} has {', '.join(names)}" if names else ""
