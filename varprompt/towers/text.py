"""CLIP's frozen text tower for prompts that share their beginning.

The tower is causal, so three things hold exactly. What stands behind the end-of-text token has no
influence: prompts are cut there. The start token and the context are the same for all classes of
one sample: their keys and values are computed once per sample and read by every class. And only
the end-of-text position is read from the last layer: the others stop before it.

The own tokens of the classes are packed whole into tiles of equal size; a tile is one sequence
for attention, whose mask lets a token see the shared beginning and its own class. With more work
than fits the memory budget, tiles and samples are processed in chunks whose activations are
computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .tokens import ClassTokens

# What a token of a layer keeps for the backward pass, in units of D: the inputs of the two
# normalisations in float32; in the number format of the tower query, attention output, key and
# value with their share of the shared ones, and the hidden layer of the MLP. And the intermediates
# of the layer at work. Measured: tests/towers/test_text.py.
_KEPT_FLOAT32 = 2
_KEPT = 9
_WORKING = 18
_SHARE_OF_FREE_MEMORY = 0.5
# On CPU a chunk's hidden layer stays below this, in bytes, whenever there must be chunks or they
# cost nothing: beyond, caches overflow and every tensor is new memory from the system.
_CPU_CHUNK = 16 << 20
_QUICK_GELU = 1.702
_MOST_HEADS = 65535  # of attention on a GPU: a kernel's grid has no more rows

Prefix = list[tuple[Tensor, Tensor]]  # per layer keys and values of the shared beginning (P, S, D)


class FrozenTextEncoder(nn.Module):
    """Text features of prompts, without gradients for the tower's weights.

    Args:
        clip_model: a frozen ``clip.model.CLIP``.
        mem_budget: bytes that activations may take; 0 = at most half of what is free on the device.
    """

    def __init__(self, clip_model: Any, mem_budget: int = 0):
        super().__init__()
        self.blocks = clip_model.transformer.resblocks
        self.ln_final = clip_model.ln_final
        self.positions = clip_model.positional_embedding
        self.projection = clip_model.text_projection
        self.n_heads = self.blocks[0].attn.num_heads
        self.mem_budget = mem_budget or _automatic_budget(self.positions.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the tower's matrices."""
        return self.projection.dtype

    def forward(self, contexts: Tensor, tokens: ClassTokens) -> Tensor:
        """Encode every class with every context.

        Args:
            contexts: `(S, M, D)`, or `(S, C, M, D)` for one context per class.
            tokens: the classes, made for M context tokens.

        Returns:
            Unit-norm features `(S, C, E)`, float32, in the order of the class names.
        """
        contexts = contexts.to(self.dtype)
        n_samples, n_tiles = self._chunk(len(contexts), tokens)
        chunked = n_samples < len(contexts) or n_tiles < tokens.n_tiles
        backward = torch.is_grad_enabled() and contexts.requires_grad
        run = _recomputed if chunked and backward else _directly
        features = []
        for rows in _slices(len(contexts), n_samples):
            prefix = run(self._prefix, contexts[rows], tokens)
            parts = [
                run(self._own, contexts[rows], prefix, tokens.part(tiles))
                for tiles in _slices(tokens.n_tiles, n_tiles)
            ]
            features.append(torch.cat(parts)[tokens.inverse])  # (C, S, E)
        return torch.cat(features, 1).transpose(0, 1)

    def _prefix(self, contexts: Tensor, tokens: ClassTokens) -> Prefix:
        """Run start token and leading context through the tower; keep keys and values."""
        lead = contexts[:, : tokens.n_lead] if contexts.dim() == 3 else contexts[:, 0, :0]
        start = tokens.start.to(self.dtype).expand(1, len(contexts), -1)
        x = torch.cat([start, lead.transpose(0, 1)])  # (P, S, D)
        x = x + self.positions[: len(x), None].to(x.dtype)
        kept = []
        for block in self.blocks:
            q, k, v = _qkv(block, x)
            kept.append((k, v))
            if len(kept) < len(self.blocks):
                q, k, v = (self._heads(t[None]) for t in (q, k, v))  # (1, S * H, P, D / H)
                attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = _finish(block, x, _merge(attended, x.shape[1])[0])
        return kept

    def _own(self, contexts: Tensor, prefix: Prefix, tokens: ClassTokens) -> Tensor:
        """Features `(C, S, E)` of the classes in the order of their tiles."""
        n_prefix, n_samples, width = prefix[0][0].shape
        x = tokens.embed(contexts)  # (Z, Y, S or 1, D)
        x = x.to(self.dtype) + self.positions[tokens.position + n_prefix, None].to(self.dtype)
        mask = tokens.sees[:, None]  # (Z, 1, Y, P + Y)
        for i, (block, shared) in enumerate(zip(self.blocks, prefix, strict=True)):
            q, k, v = (t.expand(-1, -1, n_samples, -1) for t in _qkv(block, x))  # (Z, Y, S, D)
            k, v = (
                torch.cat([s.expand(len(x), -1, -1, -1), t], 1)  # (Z, P + Y, S, D)
                for s, t in zip(shared, (k, v), strict=True)
            )
            q, k, v = (self._heads(t) for t in (q, k, v))  # (Z, S * H, Y or P + Y, D / H)
            attended = _merge(F.scaled_dot_product_attention(q, k, v, mask), n_samples)
            if i + 1 == len(self.blocks):
                x, attended = (t.flatten(0, 1).index_select(0, tokens.ends) for t in (x, attended))
            x = _finish(block, x, attended)
        x = self.ln_final(x) @ self.projection  # (C, S, E)
        return F.normalize(x.float(), dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        """`(Z, Y, S, D)` to `(Z, S * H, Y, D / H)`, a view unless a sample axis was expanded."""
        return x.flatten(2).unflatten(2, (x.shape[2] * self.n_heads, -1)).transpose(1, 2)

    def _chunk(self, n_samples: int, tokens: ClassTokens) -> tuple[int, int]:
        """Samples and tiles to process at once so that activations fit the budget."""
        per_token = _WORKING * self.dtype.itemsize
        if torch.is_grad_enabled():
            kept = 4 * _KEPT_FLOAT32 + self.dtype.itemsize * _KEPT
            per_token += kept * len(self.blocks)
        per_tile = per_token * self.positions.shape[1] * tokens.tile
        pieces = self.mem_budget // per_tile
        at_once = pieces >= n_samples * tokens.n_tiles and torch.is_grad_enabled()
        if self.positions.device.type == "cpu" and not at_once:
            hidden = 4 * self.positions.shape[1] * self.dtype.itemsize * tokens.tile
            pieces = min(pieces, _CPU_CHUNK // hidden)
        pieces = max(1, pieces)
        n_samples = min(n_samples, _MOST_HEADS // self.n_heads)
        if pieces >= tokens.n_tiles:
            return min(n_samples, pieces // tokens.n_tiles), tokens.n_tiles
        return 1, pieces


def _directly(function: Any, *args: Any) -> Any:
    return function(*args)


@torch.compiler.disable
def _recomputed(function: Any, *args: Any) -> Any:
    """Chunks are large enough to keep a device busy: torch.compile leaves them as they are."""
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)


def _qkv(block: nn.Module, x: Tensor) -> list[Tensor]:
    x = block.ln_1(x)
    weights = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    return [_linear(x, weight, bias) for weight, bias in zip(*weights, strict=True)]


def _merge(attended: Tensor, n_samples: int) -> Tensor:
    """`(Z, S * H, Y, D / H)` to `(Z, Y, S, D)`."""
    return attended.transpose(1, 2).flatten(2).unflatten(2, (n_samples, -1))


def _finish(block: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
    """Output projection and MLP, both with their residual connection."""
    x = x + _linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    fc, proj = block.mlp.c_fc, block.mlp.c_proj
    # QuickGELU, x * sigmoid(a x), is silu(a x) / a: one tensor is kept for the backward instead
    # of two, and both factors are applied where there are D numbers instead of 4 D
    hidden = _linear(_QUICK_GELU * block.ln_2(x), fc.weight, _QUICK_GELU * fc.bias)
    return (x + proj.bias).add_(_linear(F.silu(hidden), proj.weight), alpha=1 / _QUICK_GELU)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, through oneDNN where that is possible: MKL is half as fast on AMD's CPUs."""
    if (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and x.dtype == weight.dtype == torch.float32
        and not (weight.requires_grad or torch.is_autocast_enabled("cpu"))
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    ):
        return _OneDNNLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class _OneDNNLinear(torch.autograd.Function):
    """`x W^T + b`, differentiable in x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.saved_tensors[0].t()
        return torch.ops.mkldnn._linear_pointwise(grad, weight, None, "none", [], ""), None, None


def _slices(total: int, size: int) -> Iterator[slice]:
    """Ranges of nearly equal length, `size` at most."""
    size = -(-total // -(-total // size))
    return (slice(i, min(i + size, total)) for i in range(0, total, size))


def _automatic_budget(device: torch.device) -> int:
    """A power of two, so that a run repeated on the same machine has the same chunks."""
    return 1 << int(_SHARE_OF_FREE_MEMORY * _free_memory(device)).bit_length() - 1


def _free_memory(device: torch.device) -> int:
    """Bytes free for new allocations on `device`; 8 GiB where nobody tells."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":") for line in file)
        return int(sizes["MemAvailable"].split()[0]) << 10
    except OSError:
        return 8 << 30
