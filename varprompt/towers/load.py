"""CLIP models from an OpenAI name, a weight file, or the embedded tiny CLIP."""

from __future__ import annotations

import difflib
import hashlib
import io
import urllib.error
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import files
from ..errors import CheckpointError, ConfigError

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
_TOWER_DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}


def clip_module() -> Any:
    """OpenAI's ``clip`` module.

    Raises:
        ConfigError: another package (PyPI's ``clip`` is a clipboard manager) has the name.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        warnings.filterwarnings("ignore", message="Deprecated call to `pkg_resources")
        try:
            import clip.clip
            import clip.model
            import clip.simple_tokenizer
        except ImportError as error:
            raise ConfigError(
                f"OpenAI's CLIP package is missing or broken ({error}): run `pip install "
                "clip-anytorch 'setuptools<70'`; the PyPI project `clip` is something else"
            ) from error
    return clip


def load_clip(name: str, path: str = "", device: str | torch.device = "cpu") -> Any:
    """Load a CLIP in evaluation mode, float32, all parameters frozen.

    Args:
        name: an OpenAI model name ("ViT-B/16"), or "embedded" for the tiny CLIP of this package.
        path: a weight file (state dict, safetensors or TorchScript archive); overrides `name`.
        device: where the model goes.

    Returns:
        ``clip.model.CLIP`` with ``weights_sha256`` (hex digest of its state) as an attribute.

    Raises:
        ConfigError: unknown name.
        CheckpointError: the file is missing, damaged or not a CLIP.
    """
    if path:
        state, source = _read_weights(Path(path).expanduser()), path
    elif name == "embedded":
        from ..embedded import tiny_clip_state_dict

        state, source = tiny_clip_state_dict(), "the embedded tiny CLIP"
    else:
        source = _openai_file(name)
        state = _read_weights(Path(source))
    model = _build(state, source).to(device).eval().requires_grad_(False)
    model.weights_sha256 = _digest(state)
    return model


def cast_clip(model: Any, precision: str) -> Any:
    """Put the towers of a float32 CLIP into the number format of `precision`, in place.

    "fp16" and "bf16" convert convolutions, linear and attention layers and the projections, as
    OpenAI's archives are stored; normalisation layers and embeddings stay float32. "fp32" and
    "amp" leave everything float32.
    """
    dtype = _TOWER_DTYPE.get(precision)
    if dtype is None:
        return model
    for module in model.modules():
        names = [n for n in ("text_projection", "proj") if hasattr(module, n)]
        if isinstance(module, nn.Conv2d | nn.Linear):
            names += ["weight", "bias"]
        elif isinstance(module, nn.MultiheadAttention):
            names += ["in_proj_weight", "in_proj_bias"]
        for attribute in names:
            tensor = getattr(module, attribute)
            if isinstance(tensor, Tensor):
                tensor.data = tensor.data.to(dtype)
    return model


def input_size(model: Any) -> int:
    """Side of the square image in pixels that the image tower takes."""
    return int(model.visual.input_resolution)


def _build(state: dict[str, Tensor], source: str) -> Any:
    state = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    needed = {"text_projection", "positional_embedding", "token_embedding.weight", "logit_scale"}
    missing = sorted(needed - state.keys())
    if missing:
        raise CheckpointError(
            f"{source} is not a CLIP of OpenAI's form: it lacks {', '.join(missing)} "
            f"(it has {', '.join(sorted(state)[:4]) or 'nothing'} ...)"
        )
    try:
        model = clip_module().model.build_model(dict(state)).float()
        # build_model rounds to half precision; put the true values back
        model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    except Exception as error:  # a state of another model makes them raise anything
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{source} is not a CLIP of OpenAI's form: {text}") from error
    return model


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"CLIP weight file {path} does not exist (MODEL.BACKBONE.PATH)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return dict(torch.jit.load(_inert(path), map_location="cpu").state_dict())
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file makes the readers raise anything
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or not a weight file: {text}") from error
    state = files.read(path)
    if isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    return {k.removeprefix("module."): v for k, v in state.items() if isinstance(k, str)}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _inert(path: Path) -> io.BytesIO:
    """A copy of a TorchScript archive that has no code which loading it would run.

    Raises:
        CheckpointError: it has such code.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as inert:
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


def check_backbone(name: str) -> None:
    """Whether `load_clip` knows `name`.

    Raises:
        ConfigError: it does not.
    """
    names = ["embedded", *clip_module().clip._MODELS]
    if name not in names:
        plain = {n.lower(): n for n in names}
        near = difflib.get_close_matches(name.lower().replace("_", "-"), plain, 1, 0.4)
        hint = f"; did you mean {plain[near[0]]!r}?" if near else ""
        raise ConfigError(
            f"backbone {name!r} is unknown; choose from {', '.join(names)} (MODEL.BACKBONE.NAME), "
            f"or give a file in MODEL.BACKBONE.PATH{hint}"
        )


def _openai_file(name: str) -> str:
    check_backbone(name)
    clip = clip_module().clip
    cache = Path.home() / ".cache" / "clip"
    url = clip._MODELS[name]
    target = cache / url.rpartition("/")[2]
    if target.is_file():
        return str(target)
    try:
        return clip._download(url, str(cache))
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        target.unlink(missing_ok=True)  # a part of a download would be taken for the whole
        raise CheckpointError(
            f"the weights of CLIP {name} are not at {target} and could not be downloaded "
            f"({error}). Put the file there by hand (from {url}), or name any other place in "
            "MODEL.BACKBONE.PATH"
        ) from error


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        if isinstance(state[name], Tensor):
            digest.update(name.encode())
            digest.update(state[name].detach().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
