"""The text tower on many processes: samples and class tiles are a grid over them.

Every process has all contexts, encodes its piece of the grid, and gets the features of all. From
there on all compute the same loss, so the gradient that a process needs for its piece is there
without any exchange; the pieces' gradients to the contexts are added up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.ranks import Ranks, share
from .text import FrozenTextEncoder
from .tokens import ClassTokens


class SpreadTextEncoder(nn.Module):
    """A `FrozenTextEncoder` that has the other processes do their part.

    Args:
        encoder: of this process.
        ranks: who takes part; those on one machine divide the free memory of its CPU.
    """

    def __init__(self, encoder: FrozenTextEncoder, ranks: Ranks):
        super().__init__()
        self.encoder, self.ranks = encoder, ranks
        if encoder.positions.device.type == "cpu" and not encoder.mem_budget:
            encoder.mem_budget = max(1, encoder.resolved_budget // ranks.beside)

    @property
    def mem_budget(self) -> int:
        """As of `FrozenTextEncoder`, for each process."""
        return self.encoder.mem_budget

    @mem_budget.setter
    def mem_budget(self, value: int) -> None:
        self.encoder.mem_budget = value

    @property
    def resolved_budget(self) -> int:
        """As of `FrozenTextEncoder`."""
        return self.encoder.resolved_budget

    def forward(
        self, contexts: Tensor, tokens: ClassTokens, deep: Tensor | None = None, *,
        unit_norm: bool = True,
    ) -> Tensor:  # fmt: skip
        """What `FrozenTextEncoder` returns, `(S, C, E)`, for the same arguments."""
        n_samples, n_tiles, size = len(contexts), tokens.n_tiles, self.ranks.size
        shape = grid(n_samples, n_tiles, tokens, size)
        places = [divmod(number, shape[1]) for number in range(size)]
        samples = [share(n_samples, place[0], shape[0]) for place in places]
        tiles = [share(n_tiles, place[1], shape[1]) for place in places]
        classes = [sum(tokens.counts[part]) for part in tiles]
        rows = [part.stop - part.start for part in samples]
        mine = self.ranks.number
        # one after the other in each process: their gradients are added up in one order
        deep = None if deep is None else _Added.apply(deep, self.ranks)
        contexts = _Added.apply(contexts, self.ranks)
        own = self._piece(contexts, samples[mine], tiles[mine], tokens, deep, unit_norm)
        padding = (0, 0, 0, max(classes) - own.shape[1], 0, max(rows) - own.shape[0])
        pieces = _Gathered.apply(F.pad(own, padding), self.ranks)
        found = []
        for first in range(0, size, shape[1]):  # the pieces of one range of samples
            numbers = range(first, first + shape[1])
            parts = [pieces[n][: rows[n], : classes[n]] for n in numbers]
            found.append(torch.cat(parts, 1)[:, tokens.inverse])
        return torch.cat(found)

    def _piece(
        self, contexts: Tensor, samples: slice, tiles: slice, tokens: ClassTokens,
        deep: Tensor | None, unit_norm: bool,
    ) -> Tensor:  # fmt: skip
        """Features of some samples and tiles, the classes in the order of the tiles."""
        part = tokens.part(tiles)
        n_classes = sum(tokens.counts[tiles])
        if samples.start == samples.stop or not n_classes:
            # nothing to do, but the backward pass must come by: the others wait for it there
            width = self.encoder.projection.shape[1]
            nothing = 0 * contexts.sum() + (0 if deep is None else 0 * deep.sum())
            return contexts.new_zeros(0, 0, width, dtype=torch.float32) + nothing
        order = torch.arange(n_classes, device=tokens.inverse.device)
        below = None if deep is None else deep[:, samples]
        part = replace(part, inverse=order)
        return self.encoder(contexts[samples], part, below, unit_norm=unit_norm)


def grid(n_samples: int, n_tiles: int, tokens: ClassTokens, size: int) -> tuple[int, int]:
    """Into how many ranges samples and tiles are cut, so that the largest piece is least work.

    Work is counted in tokens; the shared beginning of a sample is computed by all who have it.
    """

    def work(n_ranges: int) -> tuple[int, int]:
        own = -(-n_tiles // (size // n_ranges)) * tokens.tile
        return -(-n_samples // n_ranges) * (own + tokens.n_shared), -n_ranges

    best = min((n for n in range(1, size + 1) if size % n == 0), key=work)
    return best, size // best


class _Added(torch.autograd.Function):
    """Passes contexts on; adds up the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, contexts: Tensor, ranks: Ranks) -> Tensor:
        """The contexts themselves."""
        ctx.ranks = ranks
        return contexts.view_as(contexts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The sum."""
        return ctx.ranks.add(gradient.clone()), None


class _Gathered(torch.autograd.Function):
    """The pieces of all processes; every process has the whole gradient of each."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> tuple[Tensor, ...]:
        """All pieces, this process's own among them."""
        ctx.number = ranks.number
        return tuple(ranks.gather(own))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of this process's own piece."""
        return gradients[ctx.number], None
