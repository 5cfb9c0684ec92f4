"""Many prompt learners at once: their contexts are the rows of one pass of the text tower.

The rows do not know of each other (but for particles), so that one loss, the sum of theirs, trains
all of them, and Adam, which looks at single numbers, takes the steps that it would take in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks._mixture_tasks import Part, Task
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.templates import embed_template, token_rms
from varprompt.towers.tokens import ClassTokens, class_tokens

# Written down before any test of this benchmark; all have four tokens, before the name.
TEMPLATES = (
    "a photo of a {}.", "a picture of the {}.", "an image of a {}.", "a sketch of a {}.",
    "a painting of the {}.", "a cartoon of the {}.",
)  # fmt: skip


@dataclass(frozen=True)
class Bed:
    """The frozen CLIP in front of a task's classes.

    Attributes:
        towers: see `FrozenCLIP`.
        templates: embeddings of the words around the names, `(G, M, D)`.
        rms: of those embeddings.
        tokens: "base", "new" and "all", both -> the classes.
        train: images to learn from.
    """

    towers: FrozenCLIP
    templates: Tensor
    rms: float
    tokens: dict[str, ClassTokens]
    train: Part

    @staticmethod
    def of(task: Task, towers: FrozenCLIP, texts: Sequence[str] = TEMPLATES) -> Bed:
        """In front of the classes of `task`; `texts` are of one shape."""
        clip = towers.clip
        found = [embed_template(clip, text) for text in texts]
        before, n_ctx = found[0].shape
        return Bed(
            towers,
            torch.stack([template.embeddings for template in found]),
            token_rms(clip, [text.replace("{}", "") for text in texts]),
            {part: class_tokens(clip, own, n_ctx, n_before=before)
             for part, own in task.all_names.items()},
            task.train,
        )  # fmt: skip

    def logits(self, contexts: Tensor, features: Tensor, part: str = "base") -> Tensor:
        """`(S, B, C)` of contexts `(S, M, D)` and features `(B, E)` or `(S, B, E)`."""
        text = self.towers.encode_text(contexts, self.tokens[part])
        return self.towers.scale * features @ text.transpose(-2, -1)

    def nll(self, contexts: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each row `(S,)`; features `(B, E)` or `(S, B, E)`, labels alike."""
        log_prob = self.logits(contexts, features).log_softmax(-1)
        index = labels.expand(len(contexts), -1)[..., None]
        return -log_prob.gather(-1, index)[..., 0].mean(-1)

    def map_loss(self, contexts: Tensor, start: Tensor, precision: Tensor | float) -> Tensor:
        """`(S,)`: cross-entropy of all images, plus precision |d|^2 / 2 an image."""
        pull = (contexts - start).square().sum((1, 2)) * precision / 2
        return self.nll(contexts, self.train.features, self.train.labels) + pull / self.n_images

    @property
    def n_images(self) -> int:
        """N."""
        return len(self.train.labels)


def cosine(step: int, steps: int) -> float:
    """What a rate is multiplied by."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def adam(
    values: Sequence[Tensor], loss: Callable[[], Tensor], *, lr: float = 0.01, steps: int = 150
) -> None:
    """Full-batch Adam with a cosine schedule; `loss` is a scalar of `values`, which change."""
    optimizer = torch.optim.Adam(values, lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * cosine(step, steps)
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()


@dataclass(frozen=True)
class Sgd:
    """The project's recipe of stochastic gradient descent (configs/trainers/*/embedded.yaml).

    Attributes:
        epochs: the first one of them at a rate of 1e-5.
        lr: before its cosine schedule.
        decay: of the contexts, towards 0.
        precision: of the prior around the start, 0 = none.
        averaged: return the mean of the last half of the epochs instead of the last one.
    """

    epochs: int = 50
    lr: float = 0.02
    decay: float = 5e-4
    precision: float = 0.0
    averaged: bool = False


_BATCH, _MOMENTUM, _CLIP, _WARM = 32, 0.9, 1.0, 1e-5


def sgd(bed: Bed, start: Tensor, orders: Sequence[int], recipe: Sgd) -> Tensor:
    """Contexts `(S, M, D)` from `start`; the images of each row come in the order of its seed."""
    x, velocity = start.clone(), torch.zeros_like(start)
    generators = [torch.Generator().manual_seed(seed) for seed in orders]
    features, labels, kept = bed.train.features, bed.train.labels, []
    size = min(_BATCH, bed.n_images)
    for epoch in range(recipe.epochs):
        lr = recipe.lr * cosine(epoch - 1, recipe.epochs) if epoch else _WARM
        order = torch.stack([torch.randperm(bed.n_images, generator=g) for g in generators])
        for index in order[:, : bed.n_images // size * size].split(size, 1):
            leaf = x.detach().requires_grad_()
            pull = (leaf - start).square().sum() * recipe.precision / (2 * bed.n_images)
            loss = bed.nll(leaf, features[index], labels[index]).sum() + pull
            (gradient,) = torch.autograd.grad(loss, leaf)
            norm = gradient.flatten(1).norm(dim=1)[:, None, None]
            gradient = gradient * (_CLIP / (norm + 1e-6)).clamp(max=1)
            velocity = _MOMENTUM * velocity + gradient + recipe.decay * x
            x = x - lr * velocity
        if 2 * epoch >= recipe.epochs:
            kept.append(x)
    return torch.stack(kept).mean(0) if recipe.averaged else x


def sghmc(
    bed: Bed, start: Tensor, *, precision: float, eta: float, seed: int, cycles: int = 3,
    steps: int = 150, friction: float = 0.1,
) -> Tensor:  # fmt: skip
    """Snapshots `(cycles, M, D)` of cyclical stochastic gradient HMC (arXiv 1902.03932).

    Of the posterior exp(-N cross-entropy - precision |d|^2 / 2); the second half of each cycle has
    noise, its end is the snapshot. All images in every step.
    """
    generator = torch.Generator().manual_seed(seed)
    x, velocity, found = start.clone()[None], torch.zeros_like(start)[None], []
    for _ in range(cycles):
        for step in range(steps):
            size = eta * cosine(step, steps)
            leaf = x.detach().requires_grad_()
            energy = bed.n_images * bed.map_loss(leaf, start, precision).sum()
            (gradient,) = torch.autograd.grad(energy, leaf)
            velocity = (1 - friction) * velocity - size * gradient
            if 2 * step >= steps:
                noise = torch.randn(x.shape, generator=generator)
                velocity = velocity + math.sqrt(2 * friction * size) * noise
            x = x + velocity
        found.append(x[0])
    return torch.stack(found)


def stein(contexts: Tensor, gradient: Tensor) -> Tensor:
    """Stein variational direction of descent (arXiv 1608.04471) for rows `(S, M, D)`.

    Args:
        contexts: the particles.
        gradient: of their energies, alike.
    """
    flat, own = contexts.flatten(1), gradient.flatten(1)
    width = torch.pdist(flat).square().median() / math.log(len(flat) + 1)
    kernel = (-torch.cdist(flat, flat).square() / width).exp()
    apart = (kernel[..., None] * (flat[:, None] - flat[None])).sum(1) * 2 / width
    return ((kernel @ own - apart) / len(flat)).view_as(contexts)


def spread_start(bed: Bed, template: int, size: float, seed: int) -> Tensor:
    """As many starts as there are templates, all at one of them, moved by noise in rms."""
    at = bed.templates[template].expand_as(bed.templates)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(at.shape, generator=generator) * size * bed.rms
    noise[0] = 0
    return at + noise
