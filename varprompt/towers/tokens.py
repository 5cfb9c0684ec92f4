"""Class names as packed tokens for the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .load import clip_module

POSITIONS = ("end", "middle", "front")
# Longest tile: attention within a tile costs in proportion to it, the copies of the shared keys
# and values in inverse proportion (measured with benchmarks/step.py, see docs/performance.md).
TILE = 32


@dataclass(frozen=True)
class ClassTokens:
    """The own part of every class's prompt: all that does not belong to the shared beginning.

    Own parts are packed whole into Z tiles of equal size, Y tokens each, with next to no padding.
    A token is a fixed embedding or a slot for a context vector.

    Attributes:
        start: embedding of the start token `(D,)`.
        fixed: embeddings `(Z, Y, D)`, zero at slots and padding.
        slots: index `(Z, Y)` of the context vector that fills the token, -1 for none.
        owner: class index `(Z, Y)` of each token, 0 for padding.
        position: index `(Z, Y)` of a token within its own part, 0 for padding.
        sees: whether a token (second axis) attends to another one (third axis: P of the shared
            beginning, Y of its tile), `(Z, Y, P + Y)`.
        ends: index `(C,)` of every class's end-of-text token among the Z * Y tokens.
        counts: classes per tile.
        inverse: `(C,)`, where each class stands in `ends`.
        n_lead: leading context vectors that belong to the shared beginning, P - 1.
        has_slots: whether any token is filled by a context vector.
    """

    start: Tensor
    fixed: Tensor
    slots: Tensor
    owner: Tensor
    position: Tensor
    sees: Tensor
    ends: Tensor
    counts: tuple[int, ...]
    inverse: Tensor
    n_lead: int
    has_slots: bool

    @property
    def n_classes(self) -> int:
        """C."""
        return sum(self.counts)

    @property
    def n_tiles(self) -> int:
        """Z."""
        return len(self.counts)

    @property
    def tile(self) -> int:
        """Y."""
        return self.fixed.shape[1]

    def to(self, device: torch.device | str) -> ClassTokens:
        """The same tokens with every tensor on `device`; itself if it is there already."""
        if self.start.device == torch.device(device):
            return self
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if torch.is_tensor(v)}
        return replace(self, **moved)

    def part(self, tiles: slice) -> ClassTokens:
        """The given range of tiles."""
        if tiles.start == 0 and tiles.stop == self.n_tiles:
            return self
        first = sum(self.counts[: tiles.start])
        # `ends` counts tokens from the first tile of the part
        ends = self.ends[first : first + sum(self.counts[tiles])] - tiles.start * self.tile
        return ClassTokens(
            self.start, self.fixed[tiles], self.slots[tiles], self.owner[tiles],
            self.position[tiles], self.sees[tiles], ends, self.counts[tiles], self.inverse[:0],
            self.n_lead, self.has_slots,
        )  # fmt: skip

    def embed(self, contexts: Tensor) -> Tensor:
        """Token embeddings `(Z, Y, S, D)`, or `(Z, Y, 1, D)` if they do not depend on contexts.

        Args:
            contexts: `(S, M, D)`, or `(S, C, M, D)` for one context per class.
        """
        fixed = self.fixed[:, :, None]
        if not self.has_slots:
            return fixed
        # Fixed tokens (slot -1) gather something, too, which is thrown away below: shapes stay
        # fixed, while picking tokens by a mask would wait for the GPU.
        index = self.slots.clamp(min=0)
        if contexts.dim() == 3:
            filled = contexts.transpose(0, 1)[index]  # (Z, Y, S, D)
        else:
            filled = contexts.permute(1, 2, 0, 3)[self.owner, index]
        return torch.where(self.slots[..., None, None] >= 0, filled, fixed.to(filled.dtype))


def encode(text: str) -> list[int]:
    """Byte-pair token ids of `text`, without start and end.

    Raises:
        ConfigError: `text` has one of these two written out, which would end the prompt there.
    """
    tokens = _tokenizer().encode(text)
    for mark in ("<|startoftext|>", "<|endoftext|>"):
        if _tokenizer().encoder[mark] in tokens:
            raise ConfigError(f"{text!r} contains {mark}, which belongs to CLIP: leave it out")
    return tokens


def embed_words(clip_model: Any, text: str) -> Tensor:
    """Token embeddings `(n, D)` of `text`, float32."""
    weight = clip_model.token_embedding.weight
    return weight[torch.tensor(encode(text), device=weight.device).long()].detach().float()


def class_tokens(
    clip_model: Any,
    names: Sequence[str],
    n_ctx: int,
    *,
    position: str = "end",
    class_specific: bool = False,
) -> ClassTokens:
    """Prompts ``[start] context name . [end]`` for every class name.

    Args:
        clip_model: gives embeddings and the context length.
        names: class names; underscores are read as spaces.
        n_ctx: M, context vectors per prompt.
        position: where the name stands: after the context ("end"), after its first half
            ("middle"), or before it ("front").
        class_specific: every class has its own context.

    Raises:
        ConfigError: names whose prompt does not fit the context length, all of them.
    """
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    # Context vectors stand among the token ids as negative numbers until `_pack` tells them apart.
    slots = [-1 - j for j in range(n_ctx)]
    rows = []
    for name in (n.replace("_", " ") for n in names):
        # with its full stop, as CLIP encodes it: after "St." both stops are one token
        n_name = len(encode(name))
        text = [*encode(f"{name}."), _tokenizer().encoder["<|endoftext|>"]]
        rows.append(slots[:before] + text[:n_name] + slots[before:] + text[n_name:])
    # What stands before the name is the same for all classes, so it is encoded once per sample;
    # with a context for each class only the start token is.
    shared = 0 if class_specific else before
    return _pack(clip_model, list(names), [row[shared:] for row in rows], shared)


def text_tokens(clip_model: Any, texts: Sequence[str]) -> ClassTokens:
    """Whole texts as prompts without context (M = 0), for zero-shot classification."""
    end = _tokenizer().encoder["<|endoftext|>"]
    return _pack(clip_model, list(texts), [[*encode(text), end] for text in texts], 0)


def _pack(clip_model: Any, names: list[str], rows: list[list[int]], n_lead: int) -> ClassTokens:
    """Put rows of token ids into tiles; -1 - j stands for context vector j."""
    limit = len(clip_model.positional_embedding)
    too_long = [n for n, row in zip(names, rows, strict=True) if 1 + n_lead + len(row) > limit]
    if too_long:
        raise ConfigError(
            f"{len(too_long)} prompt(s) do not fit the {limit} tokens of this CLIP with "
            f"{n_lead} shared context tokens, e.g. {too_long[:10]}: shorten the class names or "
            "N_CTX / CTX_INIT"
        )
    size, tiles = _tiles([len(row) for row in rows])
    pad = _tokenizer().encoder["<|endoftext|>"]
    items: list[tuple[int, ...]] = []
    owner: list[tuple[int, ...]] = []
    position: list[tuple[int, ...]] = []
    for tile in tiles:
        tokens = [(rows[c][i], c, i) for c in tile for i in range(len(rows[c]))]
        tokens += [(pad, -1, 0)] * (size - len(tokens))
        for column, values in zip((items, owner, position), zip(*tokens, strict=True), strict=True):
            column.append(values)
    order = [c for tile in tiles for c in tile]
    ends = [z * size + e - 1 for z, tile in enumerate(tiles)
            for e in accumulate(len(rows[c]) for c in tile)]  # fmt: skip
    weight = clip_model.token_embedding.weight
    ids, owners = torch.tensor(items), torch.tensor(owner)
    # padding sees itself: the softmax over nothing is NaN, which would spread to gradients
    own = (owners[:, :, None] == owners[:, None]).tril()  # (Z, Y, Y)
    fixed = weight[ids.clamp(min=0).to(weight.device)].detach()
    slots = torch.where(ids < 0, -1 - ids, -1).to(weight.device)
    return ClassTokens(
        start=weight[_tokenizer().encoder["<|startoftext|>"]].detach(),
        fixed=torch.where(slots[..., None] >= 0, torch.zeros_like(fixed), fixed),
        slots=slots,
        owner=owners.clamp(min=0).to(weight.device),
        position=torch.tensor(position).to(weight.device),
        sees=torch.cat([own.new_ones(*own.shape[:2], 1 + n_lead), own], -1).to(weight.device),
        ends=torch.tensor(ends).to(weight.device),
        counts=tuple(len(tile) for tile in tiles),
        inverse=torch.tensor(order).argsort().to(weight.device),
        n_lead=n_lead,
        has_slots=any(i < 0 for row in rows for i in row),
    )


def _tiles(lengths: list[int]) -> tuple[int, list[list[int]]]:
    """Distribute classes of the given lengths over tiles of one size: (size, classes per tile).

    Every tile takes the longest class that still fits until none does. Of a few sizes the one
    with the least padding is taken.
    """
    # the least number of tiles of about TILE tokens, then the least size with which that many do
    n_tiles = -(-sum(lengths) // max(TILE, *lengths))
    least = max(-(-sum(lengths) // n_tiles), *lengths)
    return min(
        ((size, _fill(lengths, size)) for size in range(least, least + 8)),
        key=lambda choice: choice[0] * len(choice[1]),
    )


def _fill(lengths: list[int], size: int) -> list[list[int]]:
    # by length, of which there are few however many classes: the search is short
    waiting: dict[int, list[int]] = {}
    for c in reversed(range(len(lengths))):
        waiting.setdefault(lengths[c], []).append(c)
    tiles: list[list[int]] = []
    while waiting:
        tile, room = [], size
        while fitting := [n for n in waiting if n <= room]:
            n = max(fitting)
            tile.append(waiting[n].pop())
            room -= n
            if not waiting[n]:
                del waiting[n]
        tiles.append(tile)
    return tiles


def _tokenizer() -> Any:
    return clip_module().clip._tokenizer
