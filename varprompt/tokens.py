"""Class names as packed tokens for the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from .clip_io import clip_module
from .errors import ConfigError

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class ClassTokens:
    """The own part of every class's prompt: all that does not belong to the shared beginning.

    Classes are sorted by the length of their own part and concatenated to N tokens. A token is a
    fixed embedding or a slot for a context vector.

    Attributes:
        start: embedding of the start token `(D,)`.
        fixed: embeddings `(N, D)`, zero at slots.
        slots: index `(N,)` of the context vector that fills the token, -1 for none.
        owner: original class index `(N,)` of each token.
        position: index `(N,)` of a token within its own part.
        lengths: tokens per class, ascending.
        inverse: `(C,)`, where each class of the original order stands in the sorted one.
        n_lead: leading context vectors that belong to the shared beginning.
    """

    start: Tensor
    fixed: Tensor
    slots: Tensor
    owner: Tensor
    position: Tensor
    lengths: tuple[int, ...]
    inverse: Tensor
    n_lead: int

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest own part."""
        return self.lengths[-1]

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Classes of equal length as (first token, number of classes, length)."""
        runs, first = [], 0
        for length, group in groupby(self.lengths):
            count = len(list(group))
            runs.append((first, count, length))
            first += count * length
        return runs

    @cached_property
    def end(self) -> Tensor:
        """Index `(C,)` of each class's end-of-text token among the N tokens."""
        ends = torch.tensor(self.lengths).cumsum(0) - 1
        return ends.to(self.fixed.device)

    @cached_property
    def has_slots(self) -> bool:
        """Whether any token is filled by a context vector."""
        return bool((self.slots >= 0).any())

    def part(self, classes: slice) -> ClassTokens:
        """The given range of the sorted classes."""
        if classes.start == 0 and classes.stop == self.n_classes:
            return self
        first = sum(self.lengths[: classes.start])
        tokens = slice(first, first + sum(self.lengths[classes]))
        return ClassTokens(
            self.start, self.fixed[tokens], self.slots[tokens], self.owner[tokens],
            self.position[tokens], self.lengths[classes], self.inverse[:0], self.n_lead,
        )  # fmt: skip

    def embed(self, contexts: Tensor) -> Tensor:
        """Token embeddings `(S, N, D)`, or `(1, N, D)` if they do not depend on the contexts.

        Args:
            contexts: `(S, M, D)`, or `(S, C, M, D)` for one context per class.
        """
        if not self.has_slots:
            return self.fixed[None]
        index = self.slots.clamp(min=0)
        filled = contexts[:, index] if contexts.dim() == 3 else contexts[:, self.owner, index]
        return torch.where(self.slots[:, None] >= 0, filled, self.fixed.to(filled.dtype))


def encode(text: str) -> list[int]:
    """Byte-pair token ids of `text`, without start and end."""
    return _tokenizer().encode(text)


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
    slots = [-1 - j for j in range(n_ctx)]
    rows = []
    for name in (n.replace("_", " ") for n in names):
        n_name = len(encode(name))
        text = [*encode(f"{name}."), _tokenizer().encoder["<|endoftext|>"]]
        rows.append(slots[:before] + text[:n_name] + slots[before:] + text[n_name:])
    shared = 0 if class_specific else before
    return _pack(clip_model, list(names), [row[shared:] for row in rows], shared)


def text_tokens(clip_model: Any, texts: Sequence[str]) -> ClassTokens:
    """Whole texts as prompts without context (M = 0), for zero-shot classification."""
    end = _tokenizer().encoder["<|endoftext|>"]
    return _pack(clip_model, list(texts), [[*encode(text), end] for text in texts], 0)


def _pack(clip_model: Any, names: list[str], rows: list[list[int]], n_lead: int) -> ClassTokens:
    """Sort and concatenate rows of token ids; -1 - j stands for context vector j."""
    limit = clip_model.context_length
    too_long = [n for n, row in zip(names, rows, strict=True) if 1 + n_lead + len(row) > limit]
    if too_long:
        raise ConfigError(
            f"{len(too_long)} prompt(s) do not fit the {limit} tokens of this CLIP with "
            f"{n_lead} shared context tokens, e.g. {too_long[:10]}: shorten the class names or "
            "N_CTX / CTX_INIT"
        )
    order = sorted(range(len(rows)), key=lambda c: (len(rows[c]), c))
    weight = clip_model.token_embedding.weight
    items = torch.tensor([i for c in order for i in rows[c]], device=weight.device)
    start = torch.tensor(_tokenizer().encoder["<|startoftext|>"], device=weight.device)
    lengths = tuple(len(rows[c]) for c in order)
    fixed = weight[items.clamp(min=0)].detach()
    return ClassTokens(
        start=weight[start].detach(),
        fixed=torch.where(items[:, None] >= 0, fixed, torch.zeros_like(fixed)),
        slots=torch.where(items < 0, -1 - items, -1),
        owner=torch.repeat_interleave(torch.tensor(order), torch.tensor(lengths)).to(weight.device),
        position=torch.cat([torch.arange(n) for n in lengths]).to(weight.device),
        lengths=lengths,
        inverse=torch.tensor(order).argsort().to(weight.device),
        n_lead=n_lead,
    )


def _tokenizer() -> Any:
    return clip_module().clip._tokenizer
