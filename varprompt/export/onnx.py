"""ONNX: the image tower and the texts in one graph, proven by onnxruntime before it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..common.files import write_atomic
from ..errors import ConfigError, VarPromptError
from .graph import OUTPUTS, ImageClassifier
from .quiet import quiet

_TOLERANCE = 1e-3  # of probabilities and nats, far above rounding: beyond, the graph is another one
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def need_onnx() -> None:
    """Whether everything is installed.

    Raises:
        ConfigError: it is not.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"ONNX needs {', '.join(missing)}, not installed: pip install 'varprompt[export]'"
        )


def write_onnx(
    classifier: ImageClassifier,
    images: Tensor,
    metadata: Mapping[str, Any],
    path: str | os.PathLike,
) -> dict[str, float]:
    """Write the graph, input "images" and outputs `OUTPUTS`; the batch may have any size.

    Args:
        classifier: the model.
        images: to compare with, `(B, 3, H, W)`, B of 2 or more.
        metadata: written into the file, a JSON value a key.
        path: of the file.

    Returns:
        For each output the largest difference between onnxruntime and torch.

    Raises:
        ConfigError: a package is missing.
        VarPromptError: onnxruntime computes something else.
    """
    need_onnx()
    content = _graph(classifier, images[:2], metadata)
    differences = _compare(classifier, images, content)
    if not max(differences.values()) <= _TOLERANCE:
        raise VarPromptError(
            f"{path} was not written: onnxruntime and torch differ by {differences}, more than "
            f"{_TOLERANCE}; please report it with the versions of torch, onnx and onnxruntime"
        )
    write_atomic(path, lambda file: file.write(content))
    return differences


def _graph(classifier: ImageClassifier, example: Tensor, metadata: Mapping[str, Any]) -> bytes:
    try:
        with quiet():
            program: Any = torch.onnx.export(
                classifier, (example,), input_names=["images"], output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:  # torch 2.6 can say little of what a CLIP is
        raise VarPromptError(
            f"torch {torch.__version__} cannot write this model as ONNX ({type(error).__name__}): "
            "take a newer torch (2.15 can), or --torch or --matrix"
        ) from error
    model = program.model_proto
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    return model.SerializeToString()


def _compare(classifier: ImageClassifier, images: Tensor, content: bytes) -> dict[str, float]:
    """Largest differences, of all images at once and of one alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = dict.fromkeys(OUTPUTS, 0.0)
    for batch in (images, images[-1:]):
        with torch.no_grad():
            wanted = classifier(batch)
        found = session.run(list(OUTPUTS), {"images": batch.numpy()})
        for name, ours, theirs in zip(OUTPUTS, wanted, found, strict=True):
            largest = (ours - torch.from_numpy(theirs)).abs().max().item()
            differences[name] = max(differences[name], largest)
    return differences
