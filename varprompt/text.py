"""CLIP's frozen text tower for prompts that share their beginning.

The tower is causal, so three things hold exactly. What stands behind the end-of-text token has no
influence: prompts are cut there. The start token and the context are the same for all classes of
one sample: their keys and values are computed once per sample and read by every class. And only
the end-of-text position is read from the last layer: the others stop before it.

Classes are sorted by length and packed without padding; linear layers run over all tokens at
once, attention over runs of equal length. With more work than fits the memory budget, classes and
samples are processed in chunks whose activations are computed again in the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .tokens import ClassTokens

# Values kept per own token and layer, in units of D (measured with benchmarks/step.py): with a
# graph (normalised input, q, k, v, attention output, residual, MLP) and without one.
_KEPT_WITH_GRAPH = 20
_KEPT_WITHOUT_GRAPH = 12
_SHARE_OF_FREE_MEMORY = 0.5


@dataclass(frozen=True)
class _Prefix:
    """Keys and values of the shared beginning, per layer, `(S, H, P, D / H)` each."""

    keys: list[Tensor]
    values: list[Tensor]

    def rows(self, rows: slice) -> _Prefix:
        return _Prefix([k[rows] for k in self.keys], [v[rows] for v in self.values])


class FrozenTextEncoder(nn.Module):
    """Text features of prompts, without gradients for the tower's weights.

    Args:
        clip_model: a frozen ``clip.model.CLIP``.
        mem_budget: bytes that activations may take; 0 = half of what is free on the device.
    """

    def __init__(self, clip_model: Any, mem_budget: int = 0):
        super().__init__()
        self.blocks = clip_model.transformer.resblocks
        self.ln_final = clip_model.ln_final
        self.positions = clip_model.positional_embedding
        self.projection = clip_model.text_projection
        self.n_heads = self.blocks[0].attn.num_heads
        self.mem_budget = mem_budget

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
        n_samples, n_classes = self._chunk(len(contexts), tokens)
        recompute = torch.is_grad_enabled() and contexts.requires_grad
        recompute &= n_samples < len(contexts) or n_classes < tokens.n_classes
        features = []
        for rows in _slices(len(contexts), n_samples):
            prefix = self._prefix(contexts[rows], tokens)
            parts = []
            for classes in _slices(tokens.n_classes, n_classes):
                args = (contexts[rows], prefix, tokens.part(classes))
                if recompute:
                    part = checkpoint(self._own, *args, use_reentrant=False,
                                      preserve_rng_state=False)  # fmt: skip
                else:
                    part = self._own(*args)
                parts.append(part)
            features.append(torch.cat(parts, 1))
        return torch.cat(features)[:, tokens.inverse]

    def _prefix(self, contexts: Tensor, tokens: ClassTokens) -> _Prefix:
        """Run start token and leading context through the tower; keep keys and values."""
        lead = contexts[:, : tokens.n_lead] if contexts.dim() == 3 else contexts[:, 0, :0]
        start = tokens.start.to(self.dtype).expand(len(contexts), 1, -1)
        x = torch.cat([start, lead], 1)  # (S, P, D)
        x = x + self.positions[: x.shape[1]].to(x.dtype)
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            q, k, v = (self._heads(t) for t in _qkv(block, x).chunk(3, -1))  # (S, H, P, D / H)
            keys.append(k)
            values.append(v)
            if i + 1 < len(self.blocks):
                attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = _finish(block, x, attended.transpose(1, 2).flatten(2))
        return _Prefix(keys, values)

    def _own(self, contexts: Tensor, prefix: _Prefix, tokens: ClassTokens) -> Tensor:
        """Features `(S, C, E)` of classes sorted by length, given the shared beginning."""
        n_prefix = prefix.keys[0].shape[2]
        x = tokens.embed(contexts)  # (S or 1, N, D)
        x = x.to(self.dtype) + self.positions[tokens.position + n_prefix].to(self.dtype)
        for i, block in enumerate(self.blocks):
            qkv = _qkv(block, x)  # (S or 1, N, 3D)
            last = i + 1 == len(self.blocks)
            attended = self._attend(qkv, prefix.keys[i], prefix.values[i], tokens, last)
            x = _finish(block, x[:, tokens.end] if last else x, attended)
        x = self.ln_final(x) @ self.projection  # (S, C, E)
        return F.normalize(x.float(), dim=-1)

    def _attend(
        self, qkv: Tensor, keys: Tensor, values: Tensor, tokens: ClassTokens, last: bool
    ) -> Tensor:
        """Attention of packed tokens to the prefix and to their own class, `(S, N or C, D)`."""
        out = []
        for first, count, length in tokens.runs:
            run = qkv[:, first : first + count * length].unflatten(1, (count, length))
            q, k, v = (self._heads(t) for t in run.chunk(3, -1))  # (S or 1, G, H, n, D / H)
            if last:
                q = q[..., -1:, :]
            out.append(_attention(q, k, v, keys, values, causal=not last))
        return torch.cat(out, 1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)

    def _chunk(self, n_samples: int, tokens: ClassTokens) -> tuple[int, int]:
        """Samples and classes to process at once so that activations fit the budget."""
        budget = self.mem_budget or _SHARE_OF_FREE_MEMORY * _free_memory(self.positions.device)
        width = self.positions.shape[1]
        if torch.is_grad_enabled():
            per_token = _KEPT_WITH_GRAPH * len(self.blocks)
        else:
            per_token = _KEPT_WITHOUT_GRAPH
        per_class = per_token * width * self.dtype.itemsize * tokens.longest
        pieces = max(1, int(budget / per_class))
        if pieces >= tokens.n_classes:
            return min(n_samples, pieces // tokens.n_classes), tokens.n_classes
        return 1, pieces


def _qkv(block: nn.Module, x: Tensor) -> Tensor:
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)


def _finish(block: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
    """Output projection and MLP, both with their residual connection."""
    x = x + F.linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    hidden = block.mlp.c_fc(block.ln_2(x))
    # x * sigmoid(1.702 x) as a SiLU, which keeps one tensor for the backward instead of two
    return x + block.mlp.c_proj(F.silu(hidden * 1.702) / 1.702)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, causal: bool
) -> Tensor:
    """Softmax over prefix and own tokens at once.

    Args:
        q: `(S or 1, G, H, n or 1, d)` for G classes of n own tokens.
        k: own keys `(S or 1, G, H, n, d)`.
        v: own values, likewise.
        keys: prefix keys `(S, H, P, d)`.
        values: prefix values, likewise.
        causal: own tokens see only earlier own tokens.

    Returns:
        `(S, G * n, H * d)`.
    """
    n_samples, n_prefix = keys.shape[0], keys.shape[2]
    _, n_groups, n_heads, n_query, width = q.shape
    flat = q.transpose(1, 2).reshape(-1, n_heads, n_groups * n_query, width)
    to_prefix = (flat @ keys.transpose(-2, -1)).unflatten(2, (n_groups, n_query))  # (S,H,G,n,P)
    to_own = (q @ k.transpose(-2, -1)).transpose(1, 2)  # (S or 1, H, G, n, n)
    if causal:
        mask = torch.ones(n_query, n_query, dtype=torch.bool, device=q.device).triu(1)
        to_own = to_own.masked_fill(mask, float("-inf"))
    scores = torch.cat([to_prefix, to_own.expand(n_samples, -1, -1, -1, -1)], -1)
    weights = (scores * width**-0.5).softmax(-1, torch.float32).to(v.dtype)
    of_prefix, of_own = weights.split([n_prefix, k.shape[-2]], -1)
    out = of_own.transpose(1, 2) @ v  # (S, G, H, n, d)
    shared = of_prefix.flatten(2, 3) @ values  # (S, H, G * n, d)
    out = out + shared.unflatten(2, (n_groups, n_query)).transpose(1, 2)
    return out.transpose(2, 3).reshape(n_samples, n_groups * n_query, n_heads * width)


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, total)) for i in range(0, total, size))


def _free_memory(device: torch.device) -> int:
    """Bytes free for new allocations on `device`."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
