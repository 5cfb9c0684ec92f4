"""What command lines that use a trained model have in common: which one, and of which classes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import DataError
from ..settings.flags import given
from ..settings.plugins import add_import_flag, load_plugins

if TYPE_CHECKING:
    from ..classifier import PromptClassifier


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Give a command line MODEL, --classes, --device and --import."""
    parser.add_argument(
        "model", metavar="MODEL", type=given, help="folder of a run or of a saved classifier"
    )
    parser.add_argument(
        "--classes", metavar="FILE", type=given,
        help="text file with the names of other classes, one a line (default: those of MODEL)",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    add_import_flag(parser)


def open_model(args: argparse.Namespace) -> PromptClassifier:
    """The classifier that the flags of `add_model_flags` name.

    Raises:
        CheckpointError: MODEL is no model.
        ConfigError: names of classes that cannot be.
        DataError: the file of class names cannot be read.
    """
    from ..trained import load_classifier

    load_plugins(args.plugins)
    names = read_class_list(args.classes) if args.classes else None
    classifier = load_classifier(args.model, device=args.device)
    return classifier if names is None else classifier.with_classes(names)


def read_class_list(path: str) -> list[str]:
    """The names in a text file, one a line; empty lines and those that begin with # are none.

    Raises:
        DataError: it cannot be read, or holds no name.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = class_lines(file.read())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    if not names:
        raise DataError(f"{path} holds no class names: write one a line")
    return names


def class_lines(text: str) -> list[str]:
    """The names in a text, one a line; empty lines and those that begin with # are none."""
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]
