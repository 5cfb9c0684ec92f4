"""Class names as packed tokens for the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, brief
from .forms import TextForm, embed_words, encode, encode_behind, text_form
from .tiles import columns, fill_tiles

__all__ = ["POSITIONS", "ClassTokens", "class_tokens", "embed_words", "encode", "text_tokens"]

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class ClassTokens:
    """The own part of every class's prompt: all that does not belong to the shared beginning.

    Of a tower that needs whole prompts (`TextForm.whole`) nothing is shared, P = 0, and a tile is
    one class with its padding, Y = context length.

    Own parts are packed whole into Z tiles of equal size, Y tokens each, with next to no padding.
    A token is a fixed embedding or a slot for a context vector.

    Attributes:
        start: embedding of the start token `(D,)`, zero if there is none.
        fixed: embeddings `(Z, Y, D)`, zero at slots and padding.
        slots: index `(Z, Y)` of the context vector that fills the token, -1 for none.
        owner: class index `(Z, Y)` of each token, 0 for padding.
        position: index `(Z, Y)` of a token within its own part, 0 for padding; or the last one of
            the context length, counted alike.
        sees: whether a token (second axis) attends to another one (third axis: P of the shared
            beginning, Y of its tile), `(Z, Y, P + Y)`.
        ends: index `(C,)` of every class's token that is read, among the Z * Y tokens.
        counts: classes per tile.
        inverse: `(C,)`, where each class stands in `ends`.
        n_lead: leading context vectors that belong to the shared beginning.
        has_slots: whether any token is filled by a context vector.
        is_moved: whether `fixed` has at slots what is added to their context vector.
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
    is_moved: bool = False

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

    @property
    def n_shared(self) -> int:
        """P: `n_lead`, and the start token where there is one."""
        return self.sees.shape[-1] - self.tile

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
            self.n_lead, self.has_slots, self.is_moved,
        )  # fmt: skip

    def moved(self, moves: Tensor) -> ClassTokens:
        """Class-specific tokens that add `moves` `(C, D)` to all context vectors of a class."""
        fixed, at = self.fixed.clone(), self.slots >= 0
        fixed[at] = moves[self.owner[at]].to(fixed)
        return replace(self, fixed=fixed, is_moved=True)

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
        if self.is_moved:
            filled = filled + fixed.to(filled.dtype)
        return torch.where(self.slots[..., None, None] >= 0, filled, fixed.to(filled.dtype))

    def replaced(self, x: Tensor, deep: Tensor) -> Tensor:
        """`x` `(Z, Y, S, D)` with `deep` `(S, N, D)` in place of the first N context tokens."""
        slots, n_deep = self.slots, deep.shape[1]
        own = deep.transpose(0, 1)[slots.clamp(0, n_deep - 1)]  # (Z, Y, S, D)
        return torch.where(((slots >= 0) & (slots < n_deep))[..., None, None], own, x)


def class_tokens(
    clip_model: Any,
    names: Sequence[str],
    n_ctx: int,
    *,
    position: str = "end",
    class_specific: bool = False,
    n_before: int | None = None,
) -> ClassTokens:
    """Prompts ``[start] context name . [end]`` for every class name.

    Args:
        clip_model: gives embeddings and the context length.
        names: class names; underscores are read as spaces.
        n_ctx: M, context vectors per prompt.
        position: where the name stands: after the context ("end"), after its first half
            ("middle"), or before it ("front").
        class_specific: every class has its own context.
        n_before: context vectors before the name, the others behind it; None = as `position` says.

    Raises:
        ConfigError: names whose prompt does not fit the context length, all of them.
    """
    form = text_form(clip_model)
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    before = before if n_before is None else n_before
    apart = n_before is not None and before < n_ctx  # the full stop ends what is behind the name
    # Context vectors stand among the token ids as negative numbers until `_pack` tells them apart.
    slots = [-1 - j for j in range(n_ctx)]
    words_of = partial(encode_behind if before else encode, clip_model=clip_model)
    rows = []
    for name in (n.replace("_", " ") for n in names):
        # with its full stop, as CLIP encodes it: after "St." both stops are one token
        n_name = len(words_of(name))
        words = (
            [*words_of(name), *encode_behind(".", clip_model)] if apart else words_of(f"{name}.")
        )
        text = [*words, *form.end]
        rows.append(slots[:before] + text[:n_name] + slots[before:] + text[n_name:])
    # What stands before the name is the same for all classes, so it is encoded once per sample;
    # with a context for each class only the start token is, and of whole prompts nothing.
    shared = 0 if class_specific or form.whole else before
    return _pack(clip_model, list(names), [row[shared:] for row in rows], shared)


def text_tokens(clip_model: Any, texts: Sequence[str]) -> ClassTokens:
    """Whole texts as prompts without context (M = 0), for zero-shot classification."""
    end = text_form(clip_model).end
    return _pack(clip_model, list(texts), [[*encode(t, clip_model), *end] for t in texts], 0)


def _pack(clip_model: Any, names: list[str], rows: list[list[int]], n_lead: int) -> ClassTokens:
    """Put rows of token ids into tiles; -1 - j stands for context vector j."""
    form, limit = text_form(clip_model), len(clip_model.positional_embedding)
    n_shared = len(form.start) + n_lead
    too_long = [n for n, row in zip(names, rows, strict=True) if n_shared + len(row) > limit]
    if too_long:
        longest = max(rows, key=len)
        n_context = n_lead + sum(token < 0 for token in longest)
        raise ConfigError(
            f"{len(too_long)} prompt(s) do not fit the {limit} tokens of this CLIP (the longest "
            f"has {n_shared + len(longest)}, {n_context} of them context), e.g. {brief(too_long)}: "
            "shorten the class names, or the words around them (N_CTX, CTX_INIT, templates)"
        )
    if not form.whole:
        read, tiles = [len(row) - 1 for row in rows], fill_tiles([len(row) for row in rows])
        return _lay_out(clip_model, rows, read, tiles, n_lead, n_shared)
    padded = [_padded(form, [*form.start, *row], limit) for row in rows]
    tiles = limit, [[c] for c in range(len(rows))]
    return _lay_out(clip_model, [row for row, _ in padded], [at for _, at in padded], tiles, 0, 0)


def _padded(form: TextForm, row: list[int], limit: int) -> tuple[list[int], int]:
    """A whole prompt with its padding, and the index of the token that is read."""
    padding = [form.pad] * (limit - len(row))
    end = limit - 1 if form.pad_left else len(row) - 1
    read = {"end": end, "first": 0, "last": limit - 1}[form.read]
    return (padding + row if form.pad_left else row + padding), read


def _lay_out(
    clip_model: Any, rows: list[list[int]], read: list[int], layout: tuple[int, list[list[int]]],
    n_lead: int, n_shared: int,
) -> ClassTokens:  # fmt: skip
    """The tokens of `rows`, of which those at `read` count, in tiles (size, rows of each)."""
    form, weight = text_form(clip_model), clip_model.token_embedding.weight
    size, tiles = layout
    ids, owners, position = columns(rows, tiles, size, form.pad)
    # padding sees itself: the softmax over nothing is NaN, which would spread to gradients
    own = owners[:, :, None] == owners[:, None]  # (Z, Y, Y)
    own = own.tril() if form.causal else own
    order = [c for tile in tiles for c in tile]
    first = [z * size + e - len(rows[tile[i]]) for z, tile in enumerate(tiles)
             for i, e in enumerate(accumulate(len(rows[c]) for c in tile))]  # fmt: skip
    ends = torch.tensor([start + read[c] for start, c in zip(first, order, strict=True)])
    if form.apart:
        position.view(-1)[ends] = len(clip_model.positional_embedding) - 1 - n_shared
        own.view(-1, size)[ends, ends % size] = False
    slots = torch.where(ids < 0, -1 - ids, -1).to(weight.device)
    fixed = weight[ids.clamp(min=0).to(weight.device)].detach()  # a copy, filled in place
    fixed.masked_fill_((slots >= 0)[..., None], 0)
    return ClassTokens(
        start=weight[form.start[0]].detach() if form.start else torch.zeros_like(weight[0]),
        fixed=fixed,
        slots=slots,
        owner=owners.clamp(min=0).to(weight.device),
        position=position.to(weight.device),
        sees=torch.cat([own.new_ones(*own.shape[:2], n_shared), own], -1).to(weight.device),
        ends=ends.to(weight.device),
        counts=tuple(len(tile) for tile in tiles),
        inverse=torch.tensor(order).argsort().to(weight.device),
        n_lead=n_lead,
        has_slots=any(i < 0 for row in rows for i in row),
    )
