"""The embedded benchmark: two tiny CLIPs and small data sets that need no download."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..errors import CheckpointError
from .sets import make_dataset

__all__ = ["make_dataset", "tiny_clip_state_dict", "tiny_vit_state_dict"]

WEIGHTS = Path(__file__).with_name("tiny_clip.safetensors")
VIT_WEIGHTS = Path(__file__).with_name("tiny_vit.safetensors")
VOCABULARY_SIZE = 49_408
UNTRAINED_SEED, UNTRAINED_STD = 0, 0.02  # CLIP's initialisation: what an unseen word looks like


def tiny_clip_state_dict() -> dict[str, Tensor]:
    """Return the float32 state dict of the tiny CLIP, in OpenAI's key names.

    The file holds the rows of the token table that training met; the others are drawn by numpy's
    frozen legacy generator, whose numbers are the same on every platform and in every version.

    Raises:
        CheckpointError: the weight file is missing or is not the one its JSON describes.
    """
    stored = _stored(WEIGHTS)
    try:
        ids, rows = stored.pop("token_ids").long(), stored.pop("token_rows").float()
    except KeyError as error:
        raise CheckpointError(f"{WEIGHTS} is not a tiny CLIP: {error}") from error
    table = _untrained_rows(rows.shape[1]).clone()
    table[ids] = rows
    state = {key: tensor.float() for key, tensor in stored.items()}
    counters = [
        key.replace("running_mean", "num_batches_tracked")
        for key in state
        if key.endswith("running_mean")
    ]
    state |= {key: torch.tensor(0) for key in counters}  # unused, but part of the state
    return state | {"token_embedding.weight": table}


@functools.cache
def _untrained_rows(width: int) -> Tensor:
    """The token table `(V, width)` before training; drawing it takes most of the time of a load."""
    noise = np.random.RandomState(UNTRAINED_SEED).standard_normal((VOCABULARY_SIZE, width))
    return torch.from_numpy((UNTRAINED_STD * noise).astype(np.float32))


def tiny_vit_state_dict() -> dict[str, Tensor]:
    """The same for the tiny CLIP with a vision transformer: its text tower is the first one's.

    Raises:
        CheckpointError: a weight file is missing or is not the one its JSON describes.
    """
    text = {k: v for k, v in tiny_clip_state_dict().items() if not k.startswith("visual.")}
    return text | {key: tensor.float() for key, tensor in _stored(VIT_WEIGHTS).items()}


def _stored(weights: Path) -> dict[str, Tensor]:
    """The tensors of a file, if they are those that its JSON describes."""
    data, wanted = _read(weights), _wanted_sha256(weights)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise CheckpointError(
            f"{weights} is damaged: its sha256 is {found}, {weights.with_suffix('.json').name} "
            f"says {wanted}; restore both files (git checkout, or install the package again)"
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is not a tiny CLIP: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); it belongs to the package: restore it, or "
            "make it with scripts/make_embedded_clip.py or make_embedded_vit.py"
        ) from error


def _wanted_sha256(weights: Path) -> str:
    path = weights.with_suffix(".json")
    try:
        return json.loads(_read(path))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no 'sha256' entry: {error!r}") from error
