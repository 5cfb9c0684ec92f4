"""Whether what files say of a classifier can be: files are copied, edited, and made by others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..common.checks import check_choice, check_range
from ..errors import CheckpointError, ConfigError, brief
from ..images.inputs import INTERPOLATIONS

HELD_OUT = ("held_out.confidence", "held_out.correct")
_LARGEST = 1e6  # of a temperature, a mean, a standard deviation
_SMALLEST = 1e-6  # of a temperature, a standard deviation
_TEXTS = ("backbone", "backbone_path", "activation", "precision")


def check_saved(
    tensors: Mapping[str, Tensor], described: Mapping[str, Any], side: int, source: str
) -> None:
    """See to it that a classifier's files hold numbers and names that it can work with.

    What belongs to the learner is checked where it is loaded.

    Args:
        tensors: see `Learned.tensors`.
        described: see `PromptClassifier.describe`.
        side: of the images that the CLIP takes, in pixels.
        source: the folder, for messages.

    Raises:
        CheckpointError: they do not; names everything that is wrong.
        KeyError, TypeError: `described` is of another form.
    """
    problems: list[str] = []
    temperature = described["calibration"]["temperature"]
    check_range(temperature, _SMALLEST, _LARGEST, "calibration.temperature", problems)
    _check_names(described, problems)
    _check_pixels(described["pixels"], side, problems)
    _check_held_out(tensors, problems)
    if problems:
        raise CheckpointError(f"{source} is damaged: {'; '.join(problems)}")


def check_known(parameters: Iterable[str], known: Sequence[str]) -> None:
    """See to it that a caller's parameters are those of a classifier.

    Raises:
        ConfigError: others; names the nearest of `known`.
    """
    problems: list[str] = []
    for name in parameters:
        check_choice(name, known, "a parameter", problems)
    if problems:
        raise ConfigError(problems)


def check_parameters(parameters: Mapping[str, Any], source: str) -> None:
    """See to it that a CLIP can be looked for by what a file says of it.

    Raises:
        CheckpointError: a name is no text.
    """
    wrong = [
        f"parameters.{name} is {brief(parameters[name])}, no text"
        for name in _TEXTS
        if not isinstance(parameters.get(name, ""), str)
    ]
    if wrong:
        raise CheckpointError(f"{source} is damaged: {'; '.join(wrong)}")


def _check_names(described: Mapping[str, Any], problems: list[str]) -> None:
    names, labels = described["class_names"], described["labels"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append(f"class_names are {brief(names)}, not names")
    elif not isinstance(labels, list) or len(labels) != len(names):
        problems.append(f"labels are {brief(labels)} for {len(names)} class_names")
    elif not all(isinstance(label, str | int | float) for label in labels):
        problems.append(f"labels are {brief(labels)}, neither words nor numbers")
    elif len({isinstance(label, str) for label in labels}) > 1 or len(set(labels)) < len(labels):
        problems.append(f"labels are {brief(labels)}: words and numbers, or one label twice")


def _check_pixels(pixels: Mapping[str, Any], side: int, problems: list[str]) -> None:
    if pixels["size"] != side:
        problems.append(f"pixels.size is {brief(pixels['size'])}; this CLIP takes {side}")
    check_choice(pixels["interpolation"], INTERPOLATIONS, "pixels.interpolation", problems)
    for name, least in (("mean", -_LARGEST), ("std", _SMALLEST)):
        values = pixels[name]
        if not isinstance(values, list | tuple) or len(values) != 3:
            problems.append(f"pixels.{name} is {brief(values)}; give three numbers")
            continue
        for value in values:
            check_range(value, least, _LARGEST, f"pixels.{name}", problems)


def _check_held_out(tensors: Mapping[str, Tensor], problems: list[str]) -> None:
    found = [tensors[name] for name in HELD_OUT if name in tensors]
    if not found:
        return
    shapes = {tuple(values.shape) for values in found}
    if len(found) != len(HELD_OUT) or len(shapes) != 1 or found[0].dim() != 1 or not len(found[0]):
        problems.append(f"{' and '.join(HELD_OUT)} have the shapes {sorted(shapes)}")
        return
    confidence, correct = found
    if not ((confidence >= 0) & (confidence <= 1 + _SMALLEST)).all():  # also NaN
        problems.append(f"{HELD_OUT[0]} holds what is no probability")
    if not ((correct == 0) | (correct == 1)).all():
        problems.append(f"{HELD_OUT[1]} holds what is neither 0 nor 1")
