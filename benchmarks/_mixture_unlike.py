"""Rows added to the protocol later: many templates of unlike shape, words before and behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from benchmarks._mixture_methods import Learned, precision_of
from benchmarks._mixture_rows import Bed, adam
from benchmarks._mixture_tasks import Task
from varprompt.towers.templates import embed_template, token_rms

# Six shapes, four of each; only words that the tiny CLIP knows. Written down before any of them was
# tried.
UNLIKE = (
    "a photo of a {}.", "a picture of the {}.", "a sketch of a {}.", "a black and white {}.",
    "a dark image of the {}.", "a noisy picture of a {}.", "a cartoon of a small {}.",
    "a clean painting of the {}.",
    "art of the {}.", "a bad cartoon {}.", "the large blurry {}.", "a good painting {}.",
    "a {} in a video game.", "a {} on a white background.", "the {} on a black background.",
    "a {} in a dark picture.",
    "a {} in a photo.", "the {} in a painting.", "a {} in the cartoon.", "the {} in an image.",
    "a photo of a {} at night.", "an image of the {} in black.", "a picture of a {} in white.",
    "a painting of the {} at night.",
)  # fmt: skip


@dataclass(frozen=True)
class OfShapes(Learned):
    """Prompts of unlike shape: contexts `(S, M, D)` in front of each bed's classes."""

    beds: Sequence[Bed]
    contexts: Sequence[Tensor]

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says, shape by shape."""
        pairs = zip(self.beds, self.contexts, strict=True)
        return torch.cat([own.logits(x, features, classes) for own, x in pairs])


def of_shapes(bed: Bed, task: Task) -> list[Bed]:
    """A bed for the templates of each shape in `UNLIKE`, all in units of one rms."""
    clip = bed.towers.clip
    kinds = groupby(UNLIKE, lambda text: embed_template(clip, text).shape)
    rms = token_rms(clip, [text.replace("{}", "") for text in UNLIKE])
    return [replace(Bed.of(task, bed.towers, list(texts)), rms=rms) for _, texts in kinds]


def unlike(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """24 templates as they are, with a prior around each, and without one."""
    beds = of_shapes(bed, task)
    starts = [torch.cat([own.templates, own.templates]) for own in beds]
    values = [start.clone().requires_grad_() for start in starts]
    precisions = [
        torch.tensor([precision_of(own), 0.0]).repeat_interleave(len(own.templates)) for own in beds
    ]

    def loss() -> Tensor:
        rows = zip(beds, values, starts, precisions, strict=True)
        return torch.cat([own.map_loss(x, at, p) for own, x, at, p in rows]).sum()

    adam(values, loss)
    halves = [x.detach().chunk(2) for x in values]
    maps, coops = zip(*halves, strict=True)
    rows = 150 * len(UNLIKE)
    return {
        "zero_shot_24": OfShapes(beds, [own.templates for own in beds]),
        "mixture_24": OfShapes(beds, maps, rows=rows),
        "mixture_24_merged": OfShapes(beds, maps, merged=True, rows=rows),
        "coops_24": OfShapes(beds, coops, rows=rows),
    }


def shared(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """24 templates that all move alike: one vector is added to every token of each."""
    beds = of_shapes(bed, task)
    shift = torch.zeros(1, bed.templates.shape[-1], requires_grad=True)
    precision = precision_of(beds[0])

    def loss() -> Tensor:
        features, labels = bed.train.features, bed.train.labels
        each = torch.cat([own.nll(own.templates + shift, features, labels) for own in beds])
        return each.mean() + shift.square().sum() * precision / (2 * bed.n_images)

    adam([shift], loss)
    moved = [own.templates + shift.detach() for own in beds]
    return {"shared_24": OfShapes(beds, moved, rows=150 * len(UNLIKE))}
