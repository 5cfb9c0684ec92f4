"""Checks of what a user types for a script: arguments and environment variables, in their words.

Used before anything is installed, so with Python 3.9 and its standard library only.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.checks import check_choice, check_range
from .configs import configs_folder

MOST = 10**6  # shots, samples, epochs: far beyond use, so that a slip is an answer at once
ALL_IMAGES = "-1"  # CoOp's NUM_SHOTS for every image of a class
_GPU = r"(-?\d+|(GPU|MIG)-[\w/-]+)"
_YAML = (".yaml", ".yml")


@dataclass
class UserInput:
    """Reads the input and gathers everything that is wrong with it.

    Attributes:
        env: the environment.
        cwd: where relative paths start.
        problems: what is wrong, each once.
        notes: what is right, but without effect.
    """

    env: Mapping[str, str]
    cwd: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """An environment variable; an empty one counts as not set."""
        return self.env.get(name) or default

    def wrong(self, problem: str) -> None:
        """Add a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def path(self, text: str) -> Path:
        """A path from where the user is; the shell leaves a quoted ``~`` alone."""
        return Path(self.cwd, os.path.expanduser(text))

    def whole(self, name: str, text: str, least: int, most: int = MOST, hint: str = "") -> str:
        """`text`, which must be a whole number from `least` to `most`, as Python writes it."""
        number = int(text) if re.fullmatch("0|-?[1-9][0-9]{0,19}", text) else text
        self._collect(check_range, number, least, most, name, hint=hint, whole=True)
        return text

    def shots(self, text: str) -> str:
        """Images a class; "all" and -1 take all of them."""
        if text in ("all", ALL_IMAGES):
            return ALL_IMAGES
        return self.whole("SHOTS", text, 1, hint="; SHOTS=all takes all images of a class")

    def choice(self, name: str, value: str, allowed: Sequence[str], hint: str = "") -> None:
        """`value` must be one of `allowed`."""
        self._collect(check_choice, value, allowed, name, hint=hint)

    def _collect(self, check: Callable[..., Any], *args: Any, hint: str, **options: Any) -> None:
        found: list[str] = []
        check(*args, found, **options)
        for problem in found:
            self.wrong(problem + hint)

    def config(self, name: str, value: str, folder: str) -> tuple[str, str]:
        """Name and path of a YAML file: of configs/`folder` by name, of the user's by path."""
        if is_path(value):
            file = self.path(value)
            if not file.is_file():
                self.wrong(
                    f"{name} {value!r}: there is no file {file}; {name} is a name in "
                    f"configs/{folder}, without .yaml, or the path of a YAML file"
                )
            return file.stem, str(file)
        hint = f" ({name} is a name in configs/{folder}, or the path of a YAML file)"
        self.choice(name, value, config_names(folder), hint)
        return value, f"configs/{folder}/{value}.yaml"

    def pairs(self, words: Sequence[str]) -> list[str]:
        """KEY VALUE pairs at the end of a command."""
        for key in words[::2]:
            if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*=.*", key, re.DOTALL):
                self.wrong(
                    f"{key!r}: write options as KEY VALUE, with a blank between them, and "
                    f"environment variables before the command: {key} bash ..."
                )
            elif not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
                self.wrong(f"{key!r} is no KEY of the configuration, such as OPTIM.LR")
        if len(words) % 2:
            self.wrong(f"KEY VALUE pairs: there is no VALUE behind the last KEY, {words[-1]!r}")
        return list(words)

    def gpu(self) -> None:
        """GPU must be what CUDA_VISIBLE_DEVICES can be; what it cannot be hides all GPUs."""
        value = self.get("GPU")
        if value and not re.fullmatch(f"{_GPU}(,{_GPU})*", value):
            self.wrong(f"GPU must be the number of a GPU, or several as in 0,1; not {value!r}")


def is_path(value: str) -> bool:
    """Whether a user means a YAML file of their own and not a name in configs/."""
    return "/" in value or value.endswith(_YAML)


@functools.cache
def config_names(folder: str) -> tuple[str, ...]:
    """Names of the YAML files in configs/`folder`."""
    return tuple(sorted(file.stem for file in (configs_folder() / folder).glob("*.yaml")))
