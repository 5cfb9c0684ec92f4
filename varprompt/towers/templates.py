"""Hand-written templates as token embeddings: what stands before and behind the class name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .forms import embed_words, encode_behind


@dataclass(frozen=True)
class Template:
    """Words around a class name.

    Attributes:
        embeddings: of the tokens before the name and behind it, in this order, `(M, D)`. The full
            stop that ends every prompt is not among them.
        n_before: how many of them stand before the name.
    """

    embeddings: Tensor
    n_before: int

    @property
    def shape(self) -> tuple[int, int]:
        """`n_before` and M: prompts of one shape can be encoded together."""
        return self.n_before, len(self.embeddings)


def embed_template(clip_model: Any, text: str) -> Template:
    """The tokens of a text with one {} for the class name, float32; a full stop at its end or none.

    Raises:
        ConfigError: a token that belongs to the CLIP itself, or one that it does not know.
    """
    before, after = (part.strip() for part in text.split("{}"))
    rows = [embed_words(clip_model, before)]
    after = after.removesuffix(".").strip()
    if after:
        weight = clip_model.token_embedding.weight
        ids = torch.tensor(encode_behind(after, clip_model), device=weight.device).long()
        rows.append(weight[ids].detach().float())
    return Template(torch.cat(rows), len(rows[0]))


def token_rms(clip_model: Any, texts: Sequence[str]) -> float:
    """Root of the mean square of the embeddings of all tokens in `texts`."""
    rows = torch.cat([embed_words(clip_model, text) for text in texts])
    return rows.square().mean().sqrt().item()
