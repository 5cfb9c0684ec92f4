"""Rows added to the protocol later: other priors, prompts of an image."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._mixture_methods import PRIOR, Found, Learned, precision_of
from benchmarks._mixture_rows import Bed, adam
from benchmarks._mixture_tasks import Task
from varprompt.class_words import mean_words
from varprompt.errors import ConfigError
from varprompt.posteriors.mean import AmortizedNet
from varprompt.towers.tokens import ClassTokens, class_tokens

PRIOR_FILE = Path(__file__).resolve().parent / "results/mixture_prior.json"
CLASS_SHARE = 0.2  # way of the prior's centre to the class's words; chosen on validation draws
IMAGES = 8  # of a step, as each has prompts of its own

ADDED_TITLES = {
    "zero_shot_24": "zero-shot, 24 templates of unlike shape, averaged",
    "mixture_24": "mixture: 24 templates of unlike shape",
    "mixture_24_merged": "the same, merged texts",
    "coops_24": "24 CoOps (Adam), the same templates, averaged",
    "shared_24": "24 templates of unlike shape, one shared shift",
    "zero_shot_class": "zero-shot, six templates moved to the class's words",
    "map_class": "MAP, one template moved to the class's words",
    "mixture_class": "mixture, prior moved to the class's words",
    "mixture_class_merged": "the same, merged texts",
    "coops_class": "six CoOps (Adam) from the moved templates, averaged",
    "mixture_hierarchical": "mixture, width and weights learned over other sets",
    "mixture_image": "mixture, shifted by the image, all components alike",
    "mixture_image_each": "mixture, shifted by the image, each component",
    "coops_image": "six CoOps (Adam), six templates, each shifted by the image, averaged",
    "mixture_class_image": "mixture, prior moved to the class's words, each shifted by the image",
    "coops_class_image": "six CoOps (Adam) from the moved templates, each shifted by the image",
}  # fmt: skip


@dataclass(frozen=True)
class OfClasses(Learned):
    """Contexts `(S, M, D)` to which classes add something of their own, as their tokens say."""

    contexts: Tensor
    tokens: dict[str, ClassTokens]

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says."""
        text = bed.towers.encode_text(self.contexts, self.tokens[classes])
        return bed.towers.scale * features @ text.transpose(-2, -1)


class OneForAll(nn.Module):
    """A shift of the image for all G components alike, `(1, B, 1, D)`: the shipped family's."""

    def __init__(self, width: int, n_out: int, n_parts: int):
        super().__init__()
        self.net = AmortizedNet(width, n_out)

    def forward(self, features: Tensor) -> Tensor:
        """Of features `(B, E)`."""
        return self.net(features)[None, :, None]


class OneEach(OneForAll):
    """A shift of the image for each of the G components, `(G, B, 1, D)`."""

    def __init__(self, width: int, n_out: int, n_parts: int):
        super().__init__(width, n_parts * n_out, n_parts)
        self.n_parts = n_parts

    def forward(self, features: Tensor) -> Tensor:
        """Of features `(B, E)`."""
        return self.net(features).unflatten(1, (self.n_parts, -1)).transpose(0, 1)[:, :, None]


@dataclass(frozen=True)
class OfImages(Learned):
    """Contexts `(G, M, D)` and what an image adds to them, in front of classes of any kind."""

    contexts: Tensor
    shift: OneForAll
    tokens: dict[str, ClassTokens]

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says; images in small parts, as each has texts of its own."""
        parts = features.split(10 * IMAGES)
        return torch.cat([self.of_part(bed, part, classes) for part in parts], 1)

    def of_part(self, bed: Bed, features: Tensor, classes: str = "base") -> Tensor:
        """`(G, B, C)`."""
        contexts = self.contexts[:, None] + self.shift(features)  # (G, B, M, D)
        text = bed.towers.encode_text(contexts.flatten(0, 1), self.tokens[classes])
        text = text.unflatten(0, contexts.shape[:2])  # (G, B, C, E)
        return bed.towers.scale * torch.einsum("be,gbce->gbc", features, text)


def class_prior(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The prior's centre of a class's context is its template, moved to the class's own words.

    The shift from there is that of the component, the same for all classes: so new classes have it.
    It is the shipped mixture's with CLASS_WORDS; `varprompt.class_words` has the formula.
    """
    tokens, begin, maps, coops = class_contexts(bed, task)
    rows = 150 * len(maps)
    return {
        "zero_shot_class": OfClasses(begin, tokens),
        "mixture_class": OfClasses(maps, tokens, rows=rows),
        "mixture_class_merged": OfClasses(maps, tokens, merged=True, rows=rows),
        "map_class": OfClasses(maps[:1], tokens, rows=150),
        "coops_class": OfClasses(coops, tokens, rows=rows),
    }


def class_contexts(bed: Bed, task: Task) -> tuple[dict[str, ClassTokens], Tensor, Tensor, Tensor]:
    """Class tokens, and contexts `(G, M, D)` for them: at the start, learned with a prior, without.

    A class's tokens add its own words to a context, which therefore lacks the template's.
    """
    clip, (g, n_ctx), labels = bed.towers.clip, bed.templates.shape[:2], bed.train.labels
    tokens = {
        part: class_tokens(clip, names, n_ctx, class_specific=True).moved(
            CLASS_SHARE * mean_words(clip, names)
        )
        for part, names in task.all_names.items()
    }
    centres = CLASS_SHARE * bed.templates.mean(1, keepdim=True)  # (G, 1, D)
    start = torch.cat([bed.templates, bed.templates])
    both = torch.cat([centres, centres])
    x, precision = start.clone().requires_grad_(), torch.zeros(2 * g)
    precision[:g] = precision_of(bed)

    def loss() -> Tensor:
        logits = OfClasses(x - both, tokens).logits(bed, bed.train.features, "base")
        nll = -logits.log_softmax(-1)[:, torch.arange(len(labels)), labels].mean(1)  # (2 G,)
        pull = (x - start).square().sum((1, 2)) * precision / 2
        return (nll + pull / bed.n_images).sum()

    adam([x], loss)
    return tokens, bed.templates - centres, *(x.detach() - both).split(g)


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
    """The mixture, then a network of the image that shifts its components, alike or each.

    The shift of an image has the prior of the components, in full: each image has one of its own.
    """
    contexts, precision = maps(bed), precision_of(bed)
    kinds = {"mixture_image": OneForAll, "mixture_image_each": OneEach}
    return {
        name: shifted(bed, contexts, kind, seed, bed.tokens, precision)
        for name, kind in kinds.items()
    }


def of_image_more(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """Each component shifted by the image, from the class's words; and both without a prior."""
    tokens, _, with_prior, without = class_contexts(bed, task)
    plain, precision = maps(bed, math.inf), precision_of(bed)
    return {
        "coops_image": shifted(bed, plain, OneEach, seed, bed.tokens, 0.0),
        "mixture_class_image": shifted(bed, with_prior, OneEach, seed, tokens, precision),
        "coops_class_image": shifted(bed, without, OneEach, seed, tokens, 0.0),
    }


def shifted(
    bed: Bed,
    contexts: Tensor,
    kind: type[OneForAll],
    seed: int,
    tokens: dict[str, ClassTokens],
    precision: float,
) -> OfImages:
    """Contexts `(G, M, D)` and a learned shift of that kind, held by a prior of that precision."""
    features, labels, n_ctx = bed.train.features, bed.train.labels, contexts.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shift = kind(features.shape[1], contexts.shape[2], len(contexts))
    last = shift.net[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    generator = torch.Generator().manual_seed(seed)
    learned = OfImages(contexts, shift, tokens, rows=150 * (1 + IMAGES) * len(contexts))

    def loss() -> Tensor:
        index = torch.randperm(bed.n_images, generator=generator)[:IMAGES]
        log_prob = learned.of_part(bed, features[index]).log_softmax(-1)  # (G, B, C)
        nll = -log_prob[:, torch.arange(len(index)), labels[index]].mean()
        pull = n_ctx * shift(features[index]).square().sum(-1).mean()
        return nll + pull * precision / 2

    adam(list(shift.parameters()), loss)
    return learned
