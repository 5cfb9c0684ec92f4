"""A classifier as files: safetensors and JSON, nothing that could be executed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..common.files import write_atomic
from ..errors import CheckpointError, brief
from ..run.results import provenance

DESCRIPTION = "classifier.json"
FOLDER = "classifier"  # in a folder that holds more: of `varprompt demo FOLDER`
FORMAT = 1
WHAT = "a varprompt.PromptClassifier"
TENSORS = "learned-{}.safetensors"  # with the beginning of its SHA-256


def write_classifier(
    folder: str | os.PathLike, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write a classifier into a folder; whoever reads it finds the old one or the new one.

    Args:
        folder: is made if need be.
        tensors: what was learned, by name.
        description: everything else, as JSON takes it.
    """
    folder = Path(os.path.expanduser(folder))
    data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = TENSORS.format(digest[:16])
    content = {
        "format": FORMAT, "what": WHAT, **description,
        "tensors": {"file": name, "sha256": digest}, **provenance(),
    }  # fmt: skip
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
    write_atomic(folder / name, lambda file: file.write(data))
    said = text.encode(errors="backslashreplace")  # of labels that are no text: \udcff
    write_atomic(folder / DESCRIPTION, lambda file: file.write(said))
    for other in folder.glob(TENSORS.format("?" * 16)):  # of the one that was here
        if other.name != name:
            other.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A parameter that JSON does not know, such as a path or a number of NumPy's, as it says it.

    Raises:
        TypeError: it can be said in no way.
    """
    if isinstance(value, os.PathLike | torch.device):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{brief(value)} cannot be written as JSON")


def is_classifier(folder: str | os.PathLike) -> bool:
    """Whether a folder holds what `write_classifier` writes."""
    return (Path(folder) / DESCRIPTION).is_file()


def read_classifier(folder: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a saved classifier.

    Raises:
        CheckpointError: there is none, or it is damaged.
        OSError: it cannot be read now.
    """
    path = Path(os.path.expanduser(folder)) / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no saved classifier: there is no {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, named = content["format"], content["tensors"]
        file, digest = path.parent / Path(named["file"]).name, named["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}; this version reads {FORMAT}")
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: copy the whole folder of the classifier")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError(f"{file} is damaged: it is not what {path} was written for")
    try:
        return load(data), content
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
