"""torch.export: the same graph as ONNX's, for programs that have torch and not this package."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..common.files import write_atomic
from ..errors import VarPromptError
from .graph import OUTPUTS, ImageClassifier
from .quiet import quiet

METADATA = "varprompt.json"  # name inside the file
_TOLERANCE = 1e-4


@torch.no_grad()
def write_program(
    classifier: ImageClassifier,
    images: Tensor,
    metadata: Mapping[str, Any],
    path: str | os.PathLike,
) -> dict[str, float]:
    """Write what ``torch.export.load(path).module()`` runs on images `(B, 3, H, W)`, any B.

    Args:
        classifier: the model.
        images: to compare with, `(B, 3, H, W)`, B of 2 or more.
        metadata: written into the file as `METADATA`.
        path: of the file.

    Returns:
        For each output the largest difference between the file, read again, and the model.

    Raises:
        VarPromptError: the file computes something else.
    """
    batch = torch.export.Dim("batch")
    content, said = io.BytesIO(), {METADATA: json.dumps(dict(metadata))}
    with quiet():
        exported = torch.export.export(classifier, (images[:2],), dynamic_shapes=({0: batch},))
        torch.export.save(exported, content, extra_files=said)
        content.seek(0)
        again: Any = torch.export.load(content).module()
    pairs = zip(OUTPUTS, again(images), classifier(images), strict=True)
    differences = {name: (a - b).abs().max().item() for name, a, b in pairs}
    if not max(differences.values()) <= _TOLERANCE:
        raise VarPromptError(f"{path} was not written: read again, it differs by {differences}")
    write_atomic(path, lambda file: file.write(content.getbuffer()))
    return differences
