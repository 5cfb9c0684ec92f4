"""CLIP's frozen text tower for prompts that share their beginning.

The tower is causal, so three things hold exactly. What stands behind the end-of-text token has no
influence: prompts are cut there. The start token and the context are the same for all classes of
one sample: their keys and values are computed once per sample and read by every class. And only
the end-of-text position is read from the last layer: the others stop before it.

The own tokens of the classes are packed whole into tiles of equal size; a tile is one sequence
for attention, whose mask lets a token see the shared beginning and its own class. With more work
than fits the memory budget, tiles and samples are processed in chunks whose activations are
computed again in the backward pass.

A tower that is not causal, or reads its padding, shares nothing: there the shared beginning is
empty and a tile is one class with all of its tokens. That is the plain path.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import check_tower, finish, project_qkv
from .memory import CPU_CHUNK, activation_bytes, automatic_budget, directly, recomputed, slices
from .tokens import ClassTokens

_LEAST_SHARE = 4  # of the budget that chunks keep at least: a quarter
_MOST_HEADS = 65535  # of attention on a GPU: a kernel's grid has no more rows

Prefix = list[tuple[Tensor, Tensor]]  # per layer keys and values of the shared beginning (P, S, D)


class FrozenTextEncoder(nn.Module):
    """Text features of prompts, without gradients for the tower's weights.

    Args:
        clip_model: a frozen ``clip.model.CLIP``, or any with its attributes: context length, heads
            and activation are the model's own.
        mem_budget: see the attribute.

    Attributes:
        mem_budget: bytes that one call may take, output included; 0 = at most half of what is free
            on the device where the tower is. It decides about chunks, and they about the order of
            sums, that is, about last digits. To repeat a run bit for bit where other memory is
            free, record `resolved_budget` and assign it to `mem_budget` before the first call. One
            tile of one sample is processed at a time however small it is.

    Raises:
        ConfigError: a tower that is not causal, or has other layers than CLIP's.
    """

    def __init__(self, clip_model: Any, mem_budget: int = 0):
        super().__init__()
        self.activation = check_tower(clip_model)
        self.blocks = clip_model.transformer.resblocks
        self.ln_final = clip_model.ln_final
        self.positions = clip_model.positional_embedding
        self.projection = clip_model.text_projection
        self.projection_bias = getattr(clip_model, "text_bias", None)
        self.n_heads = self.blocks[0].attn.num_heads
        self.mem_budget = mem_budget
        self._automatic: dict[torch.device, int] = {}

    @property
    def resolved_budget(self) -> int:
        """`mem_budget`, or what 0 means: looked up once for each device the tower is on."""
        if self.mem_budget:
            return self.mem_budget
        device = self.positions.device
        if device not in self._automatic:
            self._automatic[device] = automatic_budget(device)
        return self._automatic[device]

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the tower's matrices."""
        return self.projection.dtype

    def forward(
        self, contexts: Tensor, tokens: ClassTokens, deep: Tensor | None = None, *,
        unit_norm: bool = True,
    ) -> Tensor:  # fmt: skip
        """Encode every class with every context.

        Args:
            contexts: `(S, M, D)`, or `(S, C, M, D)` for one context per class.
            tokens: the classes, made for M context tokens.
            deep: `(J - 1, S, N, D)`: in front of layer 2, 3, ... J these replace what the layer
                before has made of the first N context tokens. All classes must share those.
            unit_norm: False = the features as the tower's projection leaves them.

        Returns:
            Unit-norm features `(S, C, E)`, float32, in the order of the class names.

        Raises:
            ValueError: `deep` does not fit contexts, tokens or tower.
        """
        contexts = contexts.to(self.dtype)
        if deep is not None:
            self._check_deep(deep, contexts, tokens)
            deep = deep.to(self.dtype)
        n_samples, n_tiles = self._chunk(len(contexts), tokens)
        chunked = n_samples < len(contexts) or n_tiles < tokens.n_tiles
        learned = contexts.requires_grad or (deep is not None and deep.requires_grad)
        backward = torch.is_grad_enabled() and learned
        # recomputing costs a second forward: only where chunks would otherwise all be kept
        run = recomputed if chunked and backward else directly
        features = []
        for rows in slices(len(contexts), n_samples):
            below = None if deep is None else deep[:, rows]
            prefix = run(self._prefix, contexts[rows], tokens, below)
            below = None if tokens.n_shared else below  # else they are in the prefix
            parts = [
                run(self._own, contexts[rows], prefix, tokens.part(tiles), unit_norm, below)
                for tiles in slices(tokens.n_tiles, n_tiles)
            ]
            # tiles hold the classes in another order than the labels
            features.append(torch.cat(parts)[tokens.inverse])  # (C, S, E)
        return torch.cat(features, 1).transpose(0, 1)

    def _check_deep(self, deep: Tensor, contexts: Tensor, tokens: ClassTokens) -> None:
        n_layers, n_samples, n_tokens = deep.shape[:3]
        # of whole prompts every context token is replaced in each class, wherever it stands
        there = tokens.n_lead if tokens.n_shared else contexts.shape[-2]
        there = there if contexts.dim() == 3 else 0
        if n_tokens > there:
            raise ValueError(
                f"{n_tokens} deep prompts replace context tokens that all classes share in front "
                f"of their names, of which there are {there}"
            )
        if n_samples != len(contexts) or n_layers >= len(self.blocks):
            raise ValueError(
                f"deep prompts {tuple(deep.shape)} do not fit {len(contexts)} contexts and a tower "
                f"of {len(self.blocks)} layers"
            )

    def _prefix(
        self, contexts: Tensor, tokens: ClassTokens, deep: Tensor | None = None
    ) -> Prefix:  # fmt: skip
        """Run start token and leading context through the tower; keep keys and values."""
        # a context per class (S, C, M, D) shares nothing but the start token
        lead = contexts[:, : tokens.n_lead] if contexts.dim() == 3 else contexts[:, 0, :0]
        n_start = tokens.n_shared - tokens.n_lead  # one start token, or none
        start = tokens.start.to(self.dtype).expand(n_start, len(contexts), -1)
        x = torch.cat([start, lead.transpose(0, 1)])  # (P, S, D)
        if not len(x):
            return [(x, x) for _ in self.blocks]
        x = x + self.positions[: len(x), None].to(x.dtype)
        kept = []
        for i, block in enumerate(self.blocks):
            if deep is not None and 0 < i <= len(deep):
                own = deep[i - 1].transpose(0, 1)  # (N, S, D)
                x = torch.cat([x[:n_start], own, x[n_start + len(own) :]])
            q, k, v = project_qkv(block, x)
            kept.append((k, v))
            if len(kept) < len(self.blocks):  # nobody reads what the last layer makes of these
                q, k, v = (self._heads(t[None]) for t in (q, k, v))  # (1, S * H, P, D / H)
                attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = finish(block, x, _merge(attended, x.shape[1])[0], self.activation)
        return kept

    def _own(
        self, contexts: Tensor, prefix: Prefix, tokens: ClassTokens, unit_norm: bool,
        deep: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Features `(C, S, E)` of the classes in the order of their tiles."""
        n_prefix, n_samples, width = prefix[0][0].shape
        # Where no token is a context vector, all samples have the same tokens in the first layer:
        # one copy goes through its normalisation and projections and is expanded afterwards.
        x = tokens.embed(contexts)  # (Z, Y, S or 1, D)
        x = x.to(self.dtype) + self.positions[tokens.position + n_prefix, None].to(self.dtype)
        mask = tokens.sees[:, None]  # (Z, 1, Y, P + Y)
        for i, (block, shared) in enumerate(zip(self.blocks, prefix, strict=True)):
            if deep is not None and 0 < i <= len(deep):
                x = tokens.replaced(x, deep[i - 1])
            own = project_qkv(block, x)
            q, k, v = (t.expand(-1, -1, n_samples, -1) for t in own)  # (Z, Y, S, D)
            k, v = (
                torch.cat([s.expand(len(x), -1, -1, -1), t], 1)  # (Z, P + Y, S, D)
                for s, t in zip(shared, (k, v), strict=True)
            )
            q, k, v = (self._heads(t) for t in (q, k, v))  # (Z, S * H, Y or P + Y, D / H)
            attended = _merge(F.scaled_dot_product_attention(q, k, v, mask), n_samples)
            if i + 1 == len(self.blocks):  # from here on only end-of-text tokens matter
                x, attended = (t.flatten(0, 1).index_select(0, tokens.ends) for t in (x, attended))
            x = finish(block, x, attended, self.activation)
        x = self.ln_final(x) @ self.projection  # (C, S, E)
        if self.projection_bias is not None:
            x = x + self.projection_bias.to(x.dtype)
        # in float32: half precision would miss unit norm by 1e-4 and more
        return F.normalize(x.float(), dim=-1) if unit_norm else x.float()

    def _heads(self, x: Tensor) -> Tensor:
        """`(Z, Y, S, D)` to `(Z, S * H, Y, D / H)`, a view unless a sample axis was expanded."""
        return x.flatten(2).unflatten(2, (x.shape[2] * self.n_heads, -1)).transpose(1, 2)

    def _chunk(self, n_samples: int, tokens: ClassTokens) -> tuple[int, int]:
        """Samples and tiles to process at once so that a call fits the budget."""
        width, size, n_tiles = self.positions.shape[1], self.dtype.itemsize, tokens.n_tiles
        backward = torch.is_grad_enabled()
        per_token = activation_bytes(width, size, len(self.blocks) if backward else 0)
        budget = self.resolved_budget
        left = budget - n_samples * self._kept_besides(tokens, backward)
        # Chunks cannot make the output smaller: where it alone is too large, they keep a share of
        # the budget, as the smallest chunks would only be slow.
        left = max(left, budget // _LEAST_SHARE)
        samples = left // (per_token * (n_tiles * tokens.tile + tokens.n_shared))
        tiles = left // (per_token * tokens.tile)
        # With a graph, chunks mean a second forward: a CPU has small ones only if it must have any.
        if self.positions.device.type == "cpu" and not (backward and samples >= n_samples):
            most = CPU_CHUNK // (4 * width * size * tokens.tile)
            samples, tiles = min(samples, most // n_tiles), min(tiles, most)
        if samples < 1:
            return 1, max(1, min(tiles, n_tiles))
        return min(n_samples, samples, _MOST_HEADS // self.n_heads), n_tiles

    def _kept_besides(self, tokens: ClassTokens, backward: bool) -> int:
        """Bytes that stay for each sample when its chunk is done."""
        features = 4 * tokens.n_classes * self.projection.shape[1]
        if not backward:
            return 2 * features  # of the chunk, and in the output
        shared = tokens.n_shared * self.positions.shape[1] * self.dtype.itemsize
        return 3 * features + 2 * len(self.blocks) * shared  # their gradient; keys and values


def _merge(attended: Tensor, n_samples: int) -> Tensor:
    """`(Z, S * H, Y, D / H)` to `(Z, Y, S, D)`."""
    return attended.transpose(1, 2).flatten(2).unflatten(2, (n_samples, -1))
