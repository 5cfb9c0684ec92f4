"""Prompts of several shapes: templates differ in the words before and behind the class name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .tokens import ClassTokens

# context tokens before the class name (None = where `class_tokens` puts it), and in all
Shape = tuple[int | None, int]


def encode_by_shape(
    encode: Callable[[Tensor, ClassTokens], Tensor],
    contexts: Tensor,
    shapes: Sequence[Shape],
    tokens: Mapping[Shape, ClassTokens],
) -> Tensor:
    """Text features `(L * K, C, E)` of contexts `(L, K, M, D)`, one pass for each shape.

    Args:
        encode: contexts `(S, m, D)` and classes -> `(S, C, E)`.
        contexts: as many of each component, component by component; M is the longest shape.
        shapes: of each component.
        tokens: the classes, of each shape.
    """
    parts = contexts.split(len(contexts) // len(shapes))
    found: dict[int, Tensor] = {}
    for shape in dict.fromkeys(shapes):
        mine = [g for g, other in enumerate(shapes) if other == shape]
        rows = torch.cat([parts[g] for g in mine])[..., : shape[1], :]  # (l, K, m, D)
        text = encode(rows.flatten(0, 1), tokens[shape])  # (l * K, C, E)
        found |= zip(mine, text.chunk(len(mine)), strict=True)
    return torch.cat([found[g] for g in range(len(shapes))])
