"""Sequences of different lengths as tiles of one size, with next to no padding."""

from __future__ import annotations

import torch
from torch import Tensor

# Longest tile: attention within a tile costs in proportion to it, the copies of the shared keys
# and values in inverse proportion (measured with benchmarks/step.py, see docs/performance.md).
TILE = 32


def fill_tiles(lengths: list[int]) -> tuple[int, list[list[int]]]:
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


def columns(rows: list[list[int]], tiles: list[list[int]], size: int, pad: int) -> list[Tensor]:
    """Token ids, class and index in its row of every token, `(Z, Y)` each; class -1 is padding."""
    found: list[list[tuple[int, ...]]] = [[], [], []]
    for tile in tiles:
        tokens = [(rows[c][i], c, i) for c in tile for i in range(len(rows[c]))]
        tokens += [(pad, -1, 0)] * (size - len(tokens))
        for column, values in zip(found, zip(*tokens, strict=True), strict=True):
            column.append(values)
    return [torch.tensor(column) for column in found]
