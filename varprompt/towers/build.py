"""From a state dict in OpenAI's key names to a frozen CLIP that states where it comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, DataError, pass_on_memory
from .hub import brief_reason

ACTIVATIONS = ("quick_gelu", "gelu")
"""x * sigmoid(1.702 x), of OpenAI's models; the exact GELU, of most that open_clip trained."""
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the RGB images that OpenAI trained on
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
PRECISIONS = ("fp32", "fp16", "amp", "bf16")
_TOWER_DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}
ONLY_OPENAI = ("input_resolution", "context_length", "vocab_size")  # entries of its archives
_HEAD = 64  # width of an attention head in all of OpenAI's transformers ...
_WIDEST = 1024  # ... of which the widest image tower has this; wider ones of others differ


@dataclass(frozen=True)
class Provenance:
    """What the source of a CLIP states about it.

    Attributes:
        source: in words, for logs and errors.
        weights_sha256: hex digest of the state: names and float32 values in sorted order; or of
            the files that say everything, see `files_sha256`.
        activation: of the text tower, one of `ACTIVATIONS` or "gelu_tanh".
        context_length: tokens that the text tower takes.
        mean: of the training images' red, green and blue in [0, 1].
        std: their standard deviations.
        scores: "softmax", or "sigmoid" of a CLIP that was trained to score single pairs.
    """

    source: str
    weights_sha256: str
    activation: str
    context_length: int
    mean: tuple[float, float, float] = PIXEL_MEAN
    std: tuple[float, float, float] = PIXEL_STD
    scores: str = "softmax"


def clip_module() -> Any:
    """OpenAI's ``clip`` package, whatever else is called so (see `openai_clip`).

    Raises:
        ConfigError: it is not installed, or lacks a module.
    """
    try:
        from . import openai_clip
    except ImportError as error:
        raise ConfigError(
            f"OpenAI's CLIP package is missing or broken ({error}): run `pip install "
            "clip-anytorch`; the PyPI project `clip` is something else"
        ) from error
    return openai_clip


def build_clip(
    state: dict[str, Any], source: str, activation: str,
    mean: tuple[float, float, float] = PIXEL_MEAN, std: tuple[float, float, float] = PIXEL_STD,
) -> Any:  # fmt: skip
    """A CLIP of OpenAI's form in float32, with its `Provenance` as ``provenance``.

    ``weights_sha256`` and ``activation`` are attributes of the model, too.

    Args:
        state: parameters in OpenAI's names; what is no tensor is left out.
        source: where they come from, for errors.
        activation: one of `ACTIVATIONS`, of both towers.
        mean: see `Provenance`.
        std: see `Provenance`.

    Raises:
        CheckpointError: the state is not that of such a CLIP.
        ConfigError: the activation is unknown.
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation {activation!r} is unknown; choose from {ACTIVATIONS}")
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    check_form(tensors, source)
    clip = clip_module().model
    try:
        model = clip.build_model(dict(tensors)).float()
        # build_model rounds to half precision; put the true values back
        model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    except Exception as error:  # a state of another model makes them raise anything
        pass_on_memory(error, f"building {source}")
        text = brief_reason(error)
        raise CheckpointError(f"{source} is not a CLIP of OpenAI's form: {text}") from error
    if activation == "gelu":
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, clip.QuickGELU):
                    setattr(parent, name, nn.GELU())
    length = int(model.context_length)
    model.provenance = Provenance(source, digest(tensors), activation, length, mean, std)
    model.weights_sha256, model.activation = model.provenance.weights_sha256, activation
    return model


def check_form(state: dict[str, Any], source: str) -> None:
    """Whether a state dict can be one of OpenAI's form, in which heads are 64 wide.

    Raises:
        CheckpointError: it lacks what every CLIP has, or is known to have other heads.
    """
    needed = {"text_projection", "positional_embedding", "token_embedding.weight", "logit_scale"}
    missing = sorted(needed - state.keys())
    if missing:
        raise CheckpointError(
            f"{source} is not a CLIP of OpenAI's form: it lacks {', '.join(missing)} "
            f"(it has {', '.join(sorted(state)[:4]) or 'nothing'} ...)"
        )
    strange = [k for k, v in state.items() if not v.is_floating_point() and k not in ONLY_OPENAI]
    if strange := [k for k in strange if not k.endswith(".num_batches_tracked")]:
        kinds = sorted({str(state[name].dtype) for name in strange})
        raise CheckpointError(
            f"{source} is not a CLIP of OpenAI's form: {', '.join(strange[:4])} hold "
            f"{', '.join(kinds)}, no floating-point numbers"
        )
    width = len(state["visual.conv1.weight"]) if "visual.proj" in state else 0
    if width > _WIDEST:
        raise CheckpointError(
            f"{source} has an image tower {width} wide. A weight file does not say how many heads "
            f"it has; OpenAI's have {_HEAD} numbers a head and end at {_WIDEST}, open_clip's wider "
            "ones have more. It cannot be loaded without a source that knows its architecture"
        )


def check_numbers(model: Any, source: str) -> None:
    """Whether a CLIP is made of finite numbers; others make every probability NaN.

    Raises:
        CheckpointError: it is not.
    """
    values = model.state_dict()
    bad = [name for name, value in values.items() if not value.isfinite().all()]
    if not values["logit_scale"].float().exp().isfinite().all():
        bad.append("exp(logit_scale)")
    if bad:
        raise CheckpointError(
            f"{source} is damaged: {len(bad)} of its parts hold what is no finite number, such as "
            f"{', '.join(bad[:4])}"
        )


def digest(state: dict[str, Any]) -> str:
    """Hex SHA-256 of the names and float32 values of the tensors in `state`, in sorted order."""
    result = hashlib.sha256()
    for name in sorted(state):
        if isinstance(state[name], Tensor):
            result.update(name.encode())
            result.update(state[name].detach().contiguous().float().numpy().tobytes())
    return result.hexdigest()


def cast_clip(model: Any, precision: str) -> Any:
    """Put the towers of a float32 CLIP into the number format of `precision`, in place.

    "fp16" and "bf16" convert convolutions, linear and attention layers and the projections, as
    OpenAI's archives are stored; normalisation layers and embeddings stay float32. "fp32" and
    "amp" leave everything float32. An image tower that has ``converted_whole`` is another
    library's: all of it is converted.

    Raises:
        ConfigError: it is in another half precision already, of an earlier model: its values are
            rounded.
    """
    dtype = _TOWER_DTYPE.get(precision)
    found = model.text_projection.dtype
    if found not in (torch.float32, dtype):
        raise ConfigError(
            f"this CLIP has been put into {found} for another model, so it cannot be used with "
            f"precision {precision!r}: load it anew"
        )
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
    if getattr(model.visual, "converted_whole", False):
        model.visual.to(dtype)
    return model


def input_size(model: Any) -> int:
    """Side of the square image in pixels that the image tower takes."""
    return int(model.visual.input_resolution)


def check_size(images: Tensor, model: Any) -> None:
    """Images are normalised, and have the size that the image tower takes.

    Raises:
        DataError: they are no tensor of floats `(B, 3, H, W)` with its H and W.
    """
    side = input_size(model)
    if not isinstance(images, Tensor) or not images.is_floating_point():
        what = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise DataError(
            f"images are {what}; give a tensor of floats (B, 3, {side}, {side}), normalised as "
            "this CLIP wants them"
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
        raise DataError(
            f"images have the shape {tuple(images.shape)}; give (B, 3, {side}, {side}), which this "
            "CLIP takes"
        )
