"""CLIPs of other libraries in the form that the frozen towers take.

The text tower's values go into layers with OpenAI's names, which the fast path reads; the image
tower stays the library's own module.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .blocks import activation_name
from .build import Provenance, clip_module
from .forms import TextForm

_STATED = {"QuickGELU": "quick_gelu", "GELU": "gelu", "GELU (tanh)": "gelu_tanh"}


@dataclass(frozen=True)
class TextParts:
    """A text tower apart from its library.

    Attributes:
        state: values by `AdaptedCLIP`'s names, without those of the layers.
        layers: for every layer the values by the names of OpenAI's.
        heads: of the attention.
        activation: module between the two layers of an MLP.
        eps: of the layer normalisations.
        form: how it takes a text.
    """

    state: dict[str, Tensor]
    layers: list[dict[str, Tensor]]
    heads: int
    activation: nn.Module
    eps: float
    form: TextForm


class ImageTower(nn.Module):
    """Image features by another library's modules.

    Args:
        module: of the library.
        features: (`module`, images `(B, 3, H, W)`) -> features `(B, E)`.
        size: side of the square image in pixels.
    """

    converted_whole = True  # see `cast_clip`: its normalisations take no mixed number formats

    def __init__(
        self, module: nn.Module, features: Callable[[Any, Tensor], Tensor], size: int
    ) -> None:
        super().__init__()
        self.module = module
        self.features = features
        self.input_resolution = size

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, E)` of images `(B, 3, H, W)`."""
        return self.features(self.module, images.to(next(self.module.parameters()).dtype))


class AdaptedCLIP(nn.Module):
    """A CLIP with the attributes that `FrozenCLIP` and `class_tokens` read.

    Attributes:
        text_form: how texts are written for it.
        text_bias: `(E,)`, added to the projection; None = nothing.
        logit_bias: of sigmoid scores, a number; None = none.
        context_length: tokens that the text tower takes.
    """

    provenance: Provenance
    positional_embedding: Tensor
    text_projection: Tensor
    text_bias: Tensor | None
    logit_bias: Tensor | None

    def __init__(self, text: TextParts, visual: ImageTower, scale: Tensor, bias: Tensor | None):
        super().__init__()
        self.visual = visual
        self.text_form = text.form
        width = text.state["ln_final.weight"].shape[0]
        with torch.device("meta"):  # values are assigned: nothing is initialised or copied
            self.transformer = nn.Module()
            self.transformer.resblocks = nn.ModuleList(_layer(text, layer) for layer in text.layers)
            self.ln_final = clip_module().model.LayerNorm(width, eps=text.eps)
            self.token_embedding = nn.Embedding(*text.state["token_embedding.weight"].shape)
        for block, values in zip(self.transformer.resblocks, text.layers, strict=True):
            block.load_state_dict(_float(values), assign=True)
        for name in ("ln_final", "token_embedding"):
            values = {k.split(".")[1]: v for k, v in text.state.items() if k.startswith(f"{name}.")}
            getattr(self, name).load_state_dict(_float(values), assign=True)
        for name in ("positional_embedding", "text_projection", "text_bias"):
            value = text.state.get(name)
            self.register_parameter(name, None if value is None else _frozen(value))
        self.logit_scale = _frozen(scale.reshape(()))
        self.register_parameter("logit_bias", None if bias is None else _frozen(bias.reshape(())))
        self.context_length = len(self.positional_embedding)
        self.requires_grad_(False)

    def encode_image(self, images: Tensor) -> Tensor:
        """Features `(B, E)` of images `(B, 3, H, W)`."""
        return self.visual(images)


def stated_activation(activation: nn.Module, source: str) -> str:
    """Name of an activation for `Provenance`.

    Raises:
        ConfigError: it is none of those that the text path computes.
    """
    mlp = nn.Sequential(OrderedDict(c_fc=nn.Identity(), gelu=activation, c_proj=nn.Identity()))
    name = activation_name(mlp)
    if name is None:
        raise ConfigError(f"the text tower of {source} has an unknown activation, {activation!r}")
    return _STATED[name]


def pooled_form(form: TextForm, pool: str, end: int | None, source: str) -> TextForm:
    """Check that the token which a causal tower reads is the one that `form` ends a text with.

    Args:
        form: see `TextForm`.
        pool: "argmax" (the token of the highest id) or "eos" (the first one that is `end`).
        end: id of the end token for "eos".
        source: for errors.

    Raises:
        ConfigError: it is another one.
    """
    if form.pad_left:
        raise ConfigError(f"the tokenizer of {source} pads on the left, its tower does not")
    wanted = form.vocabulary - 1 if pool == "argmax" else end
    if not form.end or form.end[-1] != wanted:
        raise ConfigError(
            f"{source} reads the output of token {wanted}, but its tokenizer ends a text with "
            f"{list(form.end) or 'nothing'}: the two do not belong together"
        )
    return form


def square(size: Any, source: str) -> int:
    """Side of a square image in pixels.

    Raises:
        ConfigError: the image is not square.
    """
    sides = {int(side) for side in (size if isinstance(size, tuple | list) else [size])}
    if len(sides) != 1:
        raise ConfigError(f"{source} takes images of {tuple(size)}; only square ones are supported")
    return sides.pop()


def _layer(text: TextParts, values: dict[str, Tensor]) -> nn.Module:
    """A layer in OpenAI's form without values."""
    hidden, width = values["mlp.c_fc.weight"].shape
    norm = clip_module().model.LayerNorm  # computes in float32
    layer = nn.Module()
    layer.ln_1, layer.ln_2 = norm(width, eps=text.eps), norm(width, eps=text.eps)
    layer.attn = nn.MultiheadAttention(width, text.heads)
    layer.mlp = nn.Sequential(
        OrderedDict(
            c_fc=nn.Linear(width, hidden), gelu=text.activation, c_proj=nn.Linear(hidden, width)
        )
    )
    return layer


def _float(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().float().contiguous() for name, value in values.items()}


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().float().contiguous(), requires_grad=False)
