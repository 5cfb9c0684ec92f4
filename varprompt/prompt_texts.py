"""Several texts for a class: its synonyms, and templates around them.

A file (YAML or JSON) has two parts, either of which may be missing:

    templates:            # with one {} for the name; what stands before it follows the context
      - "{}"
      - "{}, a kind of pet"
    classes:              # class name -> what prompts call it instead
      tabby: [tabby cat, striped cat]
      pug: pug dog

Each name of a class in each template makes a prompt, behind the same learned context. The text
feature of the class is the mean of theirs, each of unit norm, normalised again: as CLIP's authors
do for hand-written prompts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .common.checks import Problems
from .common.safe_load import parse_yaml
from .errors import DataError, brief, pass_on_memory

_LARGEST = 1 << 22  # bytes of a file


@dataclass(frozen=True)
class PromptTexts:
    """Templates with one {} each, and the names of classes that have others than their own."""

    templates: tuple[str, ...] = ("{}",)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, name: str) -> list[str]:
        """The texts of a class."""
        names = self.classes.get(name, (name,))
        return [t.replace("{}", n.replace("_", " ")) for t in self.templates for n in names]

    def record(self) -> dict[str, Any]:
        """As `parse_prompts` takes it."""
        names = {name: list(texts) for name, texts in self.classes.items()}
        return {"templates": list(self.templates), "classes": names}

    def check_names(self, names: Sequence[str], source: str = "PROMPTS") -> None:
        """Whether all classes that it names are among `names`.

        Raises:
            DataError: they are not.
        """
        problems = Problems()
        for name in self.classes.keys() - set(names):
            problems.add("names that are no class", f"{name!r}")
        problems.raise_if_any(f"{source}: classes are {brief(list(names))}")


def read_prompts(path: str | os.PathLike) -> PromptTexts:
    """The texts of a file.

    Raises:
        DataError: it cannot be read, or is not of the form above; everything wrong is named.
    """
    path = Path(os.path.expanduser(path))
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} has more than {_LARGEST >> 20} MB: is it the right file?")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else parse_yaml(text)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    except DataError:
        raise
    except Exception as error:  # PyYAML's constructors raise anything
        pass_on_memory(error, f"reading {path}")
        raise DataError(f"{path} is neither YAML nor JSON: {error}") from error
    return parse_prompts(content, str(path))


def parse_prompts(content: Any, source: str = "prompts") -> PromptTexts:
    """The texts of a mapping with the keys templates and classes, see the head of this module.

    Raises:
        DataError: it has another form.
    """
    problems = Problems()
    if not isinstance(content, Mapping) or not content.keys() <= {"templates", "classes"}:
        raise DataError(f"{source}: give templates and classes, not {brief(content)}")
    templates = _texts(content.get("templates", ["{}"]))
    if not templates or not all(t.count("{}") == 1 for t in templates):
        problems.add("templates need one {} each", brief(content["templates"]))
    classes = content.get("classes", {})
    if not isinstance(classes, Mapping):
        problems.add("classes are no mapping of names", brief(classes))
        classes = {}
    names = {str(name): _texts(value) for name, value in classes.items()}
    for name, texts in names.items():
        if not texts or not all(text.strip() for text in texts):
            problems.add("classes without names", f"{name}: {brief(classes.get(name))}")
    problems.raise_if_any(source)
    return PromptTexts(templates, names)


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several; () if it is something else."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, list | tuple) and all(isinstance(v, str) for v in values):
        return tuple(dict.fromkeys(values))
    return ()


def mean_of_texts(text: Tensor, counts: Sequence[int]) -> Tensor:
    """Unit-norm features `(S, C, E)` of classes, from those of their texts `(S, n, E)`.

    Args:
        text: of all texts, those of a class in a row.
        counts: how many each class has.
    """
    sums = [part.sum(1) for part in text.split(list(counts), dim=1)]
    return F.normalize(torch.stack(sums, 1), dim=-1)
