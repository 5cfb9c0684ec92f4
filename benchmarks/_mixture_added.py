"""Rows that were added to the protocol later: other templates, other priors, prompts of an image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._mixture_methods import PRIOR, Found, Learned, precision_of
from benchmarks._mixture_rows import Bed, adam
from benchmarks._mixture_tasks import Task
from varprompt.errors import ConfigError
from varprompt.posteriors import MixturePosterior
from varprompt.towers.templates import embed_template, token_rms
from varprompt.towers.tokens import ClassTokens, class_tokens, embed_words

PRIOR_FILE = Path(__file__).resolve().parent / "results/mixture_prior.json"
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
CLASS_SHARE = 0.1  # how far the centre of the prior moves to the words of the class
IMAGES = 8  # of a step, as each has prompts of its own

ADDED_TITLES = {
    "zero_shot_24": "zero-shot, 24 templates of unlike shape, averaged",
    "mixture_24": "mixture: 24 templates of unlike shape",
    "mixture_24_merged": "the same, merged texts",
    "coops_24": "24 CoOps (Adam), the same templates, averaged",
    "shared_24": "24 templates of unlike shape, one shared shift",
    "mixture_class": "mixture, prior moved to the class's words",
    "mixture_hierarchical": "mixture, width and weights learned over other sets",
    "mixture_image": "mixture, shifted by the image",
}  # fmt: skip


@dataclass(frozen=True)
class OfShapes(Learned):
    """Prompts of unlike shape: contexts `(S, M, D)` in front of each bed's classes."""

    beds: Sequence[Bed]
    contexts: Sequence[Tensor]

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says, shape by shape."""
        pairs = zip(self.beds, self.contexts, strict=True)
        return torch.cat([own.logits(x, features, classes) for own, x in pairs])


@dataclass(frozen=True)
class OfClasses(Learned):
    """Contexts `(S, M, D)` with something added for each class `(S, C, 1, D)`, by part."""

    contexts: Tensor
    moves: dict[str, Tensor]
    tokens: dict[str, ClassTokens]

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says."""
        each = self.contexts[:, None] + self.moves[classes]  # (S, C, M, D)
        text = bed.towers.encode_text(each, self.tokens[classes])
        return bed.towers.scale * features @ text.transpose(-2, -1)


@dataclass(frozen=True)
class OfImages(Learned):
    """Contexts of each image, from the shipped family."""

    posterior: MixturePosterior

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says; images in small parts, as each has texts of its own."""
        parts = features.split(10 * IMAGES)
        return torch.cat([self.of_part(bed, part, classes) for part in parts], 1)

    def of_part(self, bed: Bed, features: Tensor, classes: str = "base") -> Tensor:
        """`(G, B, C)`."""
        contexts = bed.templates[:, None] + self.posterior.deviation(features)  # (G, B, M, D)
        text = bed.towers.encode_text(contexts.flatten(0, 1), bed.tokens[classes])
        text = text.unflatten(0, contexts.shape[:2])  # (G, B, C, E)
        return bed.towers.scale * torch.einsum("be,gbce->gbc", features, text)


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
        torch.tensor([precision_of(own), 0.0]).repeat_interleave(len(own.templates))
        for own in beds
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


def class_moves(bed: Bed, task: Task) -> dict[str, Tensor]:
    """From each template's mean token to that of the words of each class, `(G, C, 1, D)`."""
    middle = bed.templates.mean(1)[:, None]  # (G, 1, D)
    words = {
        part: torch.stack([embed_words(bed.towers.clip, name.replace("_", " ")).mean(0)
                           for name in names])
        for part, names in task.all_names.items()
    }  # fmt: skip
    return {part: (rows - middle)[:, :, None] for part, rows in words.items()}


def class_prior(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The prior's centre of a class's context is its template, moved to the class's own words.

    The shift from there is that of the component, the same for all classes: so new classes have it.
    """
    moves = {part: CLASS_SHARE * move for part, move in class_moves(bed, task).items()}
    n_ctx = bed.templates.shape[1]
    tokens = {
        part: class_tokens(bed.towers.clip, names, n_ctx, class_specific=True)
        for part, names in task.all_names.items()
    }
    x, precision = bed.templates.clone().requires_grad_(), precision_of(bed)
    labels = bed.train.labels

    def loss() -> Tensor:
        log_prob = OfClasses(x, moves, tokens).logits(bed, bed.train.features, "base").log_softmax(-1)
        nll = -log_prob[:, torch.arange(len(labels)), labels].mean(1)  # (G,)
        pull = (x - bed.templates).square().sum((1, 2)) * precision / 2
        return (nll + pull / bed.n_images).sum()

    adam([x], loss)
    return {"mixture_class": OfClasses(x.detach(), moves, tokens, rows=150 * len(x))}


def learned_prior(dataset: str) -> dict[str, Any]:
    """What benchmarks/mixture_prior.py has learned over all sets but `dataset`.

    Raises:
        ConfigError: it has not run.
    """
    if not PRIOR_FILE.is_file():
        raise ConfigError(f"{PRIOR_FILE} is missing: run `python benchmarks/mixture_prior.py`")
    found: dict[str, Any] = json.loads(PRIOR_FILE.read_text(encoding="utf-8"))["without"][dataset]
    return found


def maps(bed: Bed, prior: float = PRIOR) -> Tensor:
    """One maximum a posteriori estimate for each template, `(G, M, D)`.

    Args:
        bed: the task.
        prior: standard deviation, in rms.
    """
    x, precision = bed.templates.clone().requires_grad_(), (prior * bed.rms) ** -2
    adam([x], lambda: bed.map_loss(x, bed.templates, precision).sum())
    return x.detach()


def hierarchical(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The width of the prior and the weights of the templates come from other data sets."""
    prior = learned_prior(task.dataset)
    found = maps(bed, prior["prior_std"])
    weights = torch.tensor(prior["weights"]).log()
    return {"mixture_hierarchical": Found(found, log_weights=weights, rows=150 * len(found))}


def of_image(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """One network of the image shifts all components alike, from nothing at its start."""
    features, labels = bed.train.features, bed.train.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        posterior = MixturePosterior(
            1, bed.templates.shape[-1], features.shape[1], component="delta",
            anchors=bed.templates - bed.templates[0],
        )  # fmt: skip
    last = posterior.of_image[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    generator, precision = torch.Generator().manual_seed(seed), precision_of(bed)
    learned = OfImages(posterior, rows=150 * IMAGES * len(bed.templates))

    def loss() -> Tensor:
        index = torch.randperm(bed.n_images, generator=generator)[:IMAGES]
        log_prob = learned.of_part(bed, features[index]).log_softmax(-1)  # (G, B, C)
        nll = -log_prob[:, torch.arange(len(index)), labels[index]].mean()
        pull = posterior.deviation(features[index]).square().sum((2, 3)).mean() * precision / 2
        return nll + pull / bed.n_images

    adam([posterior.shifts, *posterior.of_image.parameters()], loss)
    return {"mixture_image": learned}
