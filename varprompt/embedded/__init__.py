"""The embedded benchmark: a tiny CLIP and small data sets that need no download."""

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

__all__ = ["make_dataset", "tiny_clip_state_dict"]

WEIGHTS = Path(__file__).with_name("tiny_clip.safetensors")
VOCABULARY_SIZE = 49_408
UNTRAINED_SEED, UNTRAINED_STD = 0, 0.02  # CLIP's initialisation: what an unseen word looks like


def tiny_clip_state_dict() -> dict[str, Tensor]:
    """Return the float32 state dict of the tiny CLIP, in OpenAI's key names.

    The file holds the rows of the token table that training met; the others are drawn by numpy's
    frozen legacy generator, whose numbers are the same on every platform and in every version.

    Raises:
        CheckpointError: the weight file is missing or is not the one its JSON describes.
    """
    data, wanted = _read(WEIGHTS), _wanted_sha256()
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise CheckpointError(
            f"{WEIGHTS} is damaged: its sha256 is {found}, {WEIGHTS.with_suffix('.json').name} "
            f"says {wanted}; restore both files (git checkout, or install the package again)"
        )
    try:
        stored = load(data)
        ids, rows = stored.pop("token_ids").long(), stored.pop("token_rows").float()
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{WEIGHTS} is not a tiny CLIP: {error}") from error
    noise = np.random.RandomState(UNTRAINED_SEED).standard_normal((VOCABULARY_SIZE, rows.shape[1]))
    table = torch.from_numpy((UNTRAINED_STD * noise).astype(np.float32))
    table[ids] = rows
    state = {key: tensor.float() for key, tensor in stored.items()}
    counters = [
        key.replace("running_mean", "num_batches_tracked")
        for key in state
        if key.endswith("running_mean")
    ]
    state |= {key: torch.tensor(0) for key in counters}  # unused, but part of the state
    return state | {"token_embedding.weight": table}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); it belongs to the package: restore it, or "
            "make it with scripts/make_embedded_clip.py"
        ) from error


def _wanted_sha256() -> str:
    path = WEIGHTS.with_suffix(".json")
    try:
        return json.loads(_read(path))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no 'sha256' entry: {error!r}") from error
