"""Weight files of CLIPs: state dicts, safetensors, TorchScript archives."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common import files
from ..common.safe_load import check_start, check_unpacked_size
from ..errors import CheckpointError, ConfigError, disk_failed, pass_on_memory
from .build import ACTIVATIONS, ONLY_OPENAI, build_clip
from .hub import brief_reason

_WORDS = 49408


@dataclass(frozen=True)
class Weights:
    """A state dict, and the activation that the file says it is for ('' if it says nothing)."""

    state: dict[str, Any]
    activation: str = ""


def load_file(path: str, activation: str = "") -> Any:
    """The CLIP of a weight file, see `build_clip`.

    A file says which activation its model was trained with if it is one of OpenAI's archives (or
    has their three extra entries), or has the entry ``activation``: beside ``state_dict`` in a file
    of ``torch.save``, in the metadata of a safetensors file. All other state dicts look alike,
    whoever trained them.

    Args:
        path: of the file.
        activation: what to take the file for if it says nothing; '' = refuse it then.

    Raises:
        CheckpointError: the file is missing, damaged or not a CLIP.
        ConfigError: nobody says which activation, or the file says another one.
    """
    found = read_weights(Path(os.path.expanduser(path)))
    if activation and found.activation not in ("", activation):
        raise ConfigError(
            f"{path} says that its activation is {found.activation}, MODEL.BACKBONE.ACTIVATION "
            f"that it is {activation}"
        )
    said = activation or found.activation
    model = build_clip(found.state, path, said or "quick_gelu")  # first of all: is it a CLIP?
    if (words := len(model.token_embedding.weight)) < _WORDS:
        raise CheckpointError(f"{path} embeds {words} tokens; OpenAI's tokenizer knows {_WORDS}")
    if not said:
        raise ConfigError(
            f"{path} does not say which activation its CLIP was trained with, and a wrong one "
            "shifts all features: give MODEL.BACKBONE.ACTIVATION quick_gelu (weights of OpenAI, "
            "and of open_clip's models called *-quickgelu) or gelu (open_clip's others, such as "
            "LAION's and DataComp's). The archives that OpenAI's names download say it themselves"
        )
    return model


def read_weights(path: Path) -> Weights:
    """Read a weight file onto the CPU; code in it is never run.

    Raises:
        CheckpointError: the file is missing or damaged, or would run code.
    """
    if not path.is_file():
        raise CheckpointError(f"CLIP weight file {path} does not exist (MODEL.BACKBONE.PATH)")
    said = ""
    try:
        check_start(path)
        if _is_safetensors(path):
            state, said = _read_safetensors(path)
        elif _is_torchscript(path):
            state = _read_torchscript(path)
        else:
            state = files.read(path)
            said = state.get("activation", "")
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file makes the readers raise anything
        if disk_failed(error):
            raise
        pass_on_memory(error, f"reading {path}")
        text = brief_reason(error)
        raise CheckpointError(f"{path} is damaged or not a weight file: {text}") from error
    if isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    state = {
        k.removeprefix("module."): v
        for k, v in state.items()
        if isinstance(k, str) and isinstance(v, Tensor)
    }
    if state.keys() >= set(ONLY_OPENAI):
        said = "quick_gelu"
    return Weights(state, said if said in ACTIVATIONS else "")


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins like one, whatever it is called: 8 bytes of length, then JSON."""
    with open(path, "rb") as file:
        start = file.read(9)
    return not start.startswith(b"PK") and (start[8:] == b"{" or path.suffix == ".safetensors")


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        said = (file.metadata() or {}).get("activation", "")
        return {key: file.get_tensor(key) for key in file.keys()}, said  # noqa: SIM118


def _read_torchscript(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit")  # deprecated, yet OpenAI's form
        return dict(torch.jit.load(_inert(path), map_location="cpu").state_dict())


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _inert(path: Path) -> io.BytesIO:
    """A copy of a TorchScript archive that has no code which loading it would run.

    Raises:
        CheckpointError: it has such code, or would unpack to much more than its own size.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as inert:
        check_unpacked_size(archive)
        for name in dict.fromkeys(archive.namelist()):
            content = archive.read(name)
            if name.endswith(".py") and b"__setstate__" in content:
                raise CheckpointError(
                    f"{path} is refused: loading it would run its own code (__setstate__ in "
                    f"{name}); OpenAI's archives have none. Save the model's state dict instead"
                )
            inert.writestr(name, content)
    copy.seek(0)
    return copy
