"""One layer of CLIP's transformers, taken apart, and what they must be for that to be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .products import linear

_PARTS = {"ln_1", "attn", "ln_2", "mlp"}  # of a block
_MLP = ["c_fc", "gelu", "c_proj"]
_VIT = (
    "conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer", "ln_post", "proj",
)  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """`x -> function(scale * x) / scale`, what stands between the two layers of an MLP."""

    function: Callable[[Tensor], Tensor]
    scale: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """The activation of every number of `x`."""
        return self.function(self.scale * x) / self.scale


ACTIVATIONS = {
    # x * sigmoid(1.702 x) written as silu: autograd keeps one tensor for the backward, not two
    "QuickGELU": Activation(F.silu, 1.702),
    "GELU": Activation(F.gelu),
    "GELU (tanh)": Activation(partial(F.gelu, approximate="tanh")),
}


def check_tower(clip_model: Any) -> Activation:
    """See whether the fast path computes what the text tower itself would; return its activation.

    Raises:
        ConfigError: it would not; lists every reason.
    """
    blocks = clip_model.transformer.resblocks
    problems = []
    stated = getattr(clip_model, "text_form", None)  # by a source that has looked: see `TextForm`
    masks = [] if stated else [getattr(block, "attn_mask", None) for block in blocks]
    if not all(_is_causal(mask, clip_model) for mask in masks):
        problems.append("its attention is not causal (a token must see itself and those before it)")
    return _check_blocks(blocks, problems, "the text tower of this CLIP is not supported")


def check_image_tower(clip_model: Any) -> Activation:
    """The same of the image tower, which must be a vision transformer for prompts to stand in.

    Raises:
        ConfigError: it is none, or has other layers than CLIP's.
    """
    tower, refused = clip_model.visual, "visual prompts are not possible"
    missing = [name for name in _VIT if not hasattr(tower, name)]
    if missing:
        raise ConfigError(
            f"{refused}: they stand among the tokens of a vision transformer, and the image tower "
            f"of this CLIP, {type(tower).__name__}, lacks {', '.join(missing)}; choose a ViT "
            "(MODEL.BACKBONE.NAME), or a trainer that prompts the text tower only"
        )
    blocks, problems = tower.transformer.resblocks, []
    if any(getattr(block, "attn_mask", None) is not None for block in blocks):
        problems.append("its attention has a mask")
    return _check_blocks(blocks, problems, f"{refused} in the image tower of this CLIP")


def _check_blocks(blocks: Any, problems: list[str], refused: str) -> Activation:
    """The activation of a transformer's layers, if they are CLIP's."""
    children = [(name, child) for block in blocks for name, child in block.named_children()]
    # open_clip's blocks have ls_1 and ls_2, which do nothing unless the model scales its layers
    extra = {n for n, child in children if n not in _PARTS and not isinstance(child, nn.Identity)}
    if extra:
        problems = [f"its layers have the unknown parts {sorted(extra)}", *problems]
    heads = {block.attn.num_heads for block in blocks}
    if len(heads) > 1:
        problems.append(f"its layers have different numbers of heads: {sorted(heads)}")
    known = {activation_name(block.mlp): block.mlp for block in blocks}
    if len(known) > 1:
        problems.append(f"its layers have different activations: {list(known)}")
    if None in known:
        problems.append(
            f"its MLP {known[None]!r} is unknown; it must be {', '.join(_MLP)} with one of the "
            f"activations {', '.join(ACTIVATIONS)}"
        )
    if problems:
        raise ConfigError(f"{refused}: {'; '.join(problems)}")
    return ACTIVATIONS[next(name for name in known if name)]


def activation_name(mlp: nn.Module) -> str | None:
    """The activation of an MLP by its values: every project has a QuickGELU class of its own."""
    children = dict(mlp.named_children())
    if list(children) != _MLP or list(children["gelu"].parameters()):
        return None
    x = torch.linspace(-8, 8, 162).view(3, 54)
    y = children["gelu"](x)
    for name, known in ACTIVATIONS.items():
        # the closest two, GELU and its approximation by tanh, are 5e-4 apart
        if y.shape == x.shape and torch.allclose(y, known(x), rtol=1e-5, atol=1e-5):
            return name
    return None


def _is_causal(mask: Tensor | None, clip_model: Any) -> bool:
    """Of the additive mask (T, T) of a block, or of the model, where open_clip has it."""
    mask = getattr(clip_model, "attn_mask", None) if mask is None else mask
    if mask is None:
        return False
    if mask.is_meta:
        return True  # a tower without values is good for counting memory and work only
    hidden = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask[hidden] <= -1e4).all() and (mask[~hidden] == 0).all())


def project_qkv(block: Any, x: Tensor) -> list[Tensor]:
    """Queries, keys and values, each of x's shape `(..., D)`."""
    x = block.ln_1(x)
    weights = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    return [linear(x, weight, bias) for weight, bias in zip(*weights, strict=True)]


def finish(block: Any, x: Tensor, attended: Tensor, activation: Activation) -> Tensor:
    """Output projection and MLP, both with their residual connection, `(..., D)`."""
    x = x + linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    fc, proj, scale = block.mlp.c_fc, block.mlp.c_proj, activation.scale
    # Both factors of the activation go where there are D numbers instead of 4 D: the first one
    # into the input of the first layer, the second one onto the output of the last.
    hidden = linear(scale * block.ln_2(x), fc.weight, scale * fc.bias)
    return (x + proj.bias).add_(linear(activation.function(hidden), proj.weight), alpha=1 / scale)
