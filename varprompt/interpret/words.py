"""The words nearest to learned context vectors, in the vocabulary of the CLIP they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..model import PromptedCLIP
from ..posteriors import Marginals

METRICS = ("euclidean", "cosine")
_SAMPLE = 1000  # words that the usual distance between words is taken from


@dataclass(frozen=True)
class Context:
    """A learned context: the centre of what is sampled.

    Attributes:
        name: which one, if there are several: a component of a mixture, or a class.
        vectors: `(M, D)`.
        reach: `(M,)`, root mean square length of the noise around each vector; 0 = no noise.
        moved: `(M,)`, the same of what the image adds; 0 of prompts that ignore it.
    """

    name: str
    vectors: Tensor
    reach: Tensor
    moved: Tensor


@dataclass(frozen=True)
class Word:
    """A word of the vocabulary beside a vector."""

    text: str
    distance: float
    cosine: float


@torch.no_grad()
def contexts_of(
    model: PromptedCLIP, features: Tensor, classnames: Sequence[str] = ()
) -> list[Context]:
    """All contexts that `model` has learned: one, one a component, or one a class.

    Without what the words of a class add to them (`PromptConfig.class_words`).

    Args:
        model: what was learned.
        features: image features `(B, E)`; their values matter only if prompts depend on images.
        classnames: names for one context per class.
    """
    learner = model.prompt_learner
    context = learner.ctx.detach().float()  # (M, D) or (C, M, D)
    if learner.posterior is None:
        rows = context if context.dim() == 3 else context[None]
        names = list(classnames) if context.dim() == 3 else [""]
        still = rows.new_zeros(rows.shape[:2])
        return [Context(*row) for row in zip(names, rows, still, still, strict=True)]
    found = learner.posterior.marginals(features)
    if learner.per_layer:  # what is in front of deeper layers are no words
        found = Marginals(found.mean[:, :, :1], found.std[:, :, :1])
    vectors = context + found.mean  # (G, K, M, D)
    centres = vectors.mean(1)
    # a residual for all tokens moves each of them by as much
    reach = found.std.square().sum(-1).mean(1).sqrt().expand(-1, len(context))  # (G, M)
    moved = (vectors - centres[:, None]).square().sum(-1).mean(1).sqrt()
    names = [f"component {g}" for g in range(1, len(centres) + 1)] if len(centres) > 1 else [""]
    if len(names) == len(model.config.templates):
        names = [f'{n}: "{t}"' for n, t in zip(names, model.config.templates, strict=True)]
    lengths = found.lengths or (len(context),) * len(centres)  # what is behind is padding
    parts = zip(names, lengths, centres, reach, moved, strict=True)
    return [Context(name, c[:n], r[:n], m[:n]) for name, n, c, r, m in parts]


class Vocabulary:
    """The token embeddings of a CLIP with their texts, without start and end.

    Args:
        table: embeddings `(V, D)`.
        texts: of each token; "" = not to be named.

    Raises:
        ConfigError: there is none to be named.
    """

    def __init__(self, table: Tensor, texts: Sequence[str]):
        kept = [number for number, text in enumerate(texts) if text]
        if not kept:
            raise ConfigError("the tokenizer of this CLIP does not tell what its tokens say")
        self.texts = [texts[number] for number in kept]
        self.table = table.detach()[torch.tensor(kept, device=table.device)].float()

    def nearest(self, vectors: Tensor, n: int, metric: str = "euclidean") -> list[list[Word]]:
        """The `n` nearest words of each vector `(M, D)`, the nearest first."""
        distance = torch.cdist(vectors, self.table, compute_mode="donot_use_mm_for_euclid_dist")
        cosine = F.normalize(vectors, dim=-1) @ F.normalize(self.table, dim=-1).T
        order = (distance if metric == "euclidean" else -cosine).argsort(dim=-1, stable=True)[:, :n]
        return [
            [Word(self.texts[i], distance[row, i].item(), cosine[row, i].item()) for i in best]
            for row, best in enumerate(order.tolist())
        ]

    def usual_distance(self) -> float:
        """Median distance of a word from the nearest other one, over up to 1000 words."""
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(self.table), generator=generator)[:_SAMPLE]
        words = self.table[chosen.to(self.table.device)]
        return torch.cdist(words, self.table).topk(2, largest=False).values[:, 1].median().item()
