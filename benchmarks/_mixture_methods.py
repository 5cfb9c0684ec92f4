"""The mixture and its controls: what each of them learns of a task, and how it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks._mixture_rows import Bed, Sgd, adam, sgd, sghmc, spread_start, stein
from benchmarks._mixture_tasks import Part, Task
from varprompt.ops import gaussian_kl
from varprompt.posteriors import LowRankPosterior

PRIOR = 2.0  # standard deviation of the prior, in rms of the templates' tokens
N_SAMPLES, N_SAMPLES_TEST = 4, 16
RESTART = 0.25  # standard deviation of the starts, in rms; chosen on validation draws
ETA = 0.02  # step of SGHMC, over the number of images; chosen on validation draws
KAPPA = 1.0  # of the functional prior, see docs/mixture.md
VARIATIONAL = -6.0  # initial log-variance of the noise, the project's scaled recipe

TITLES = {
    "zero_shot": "zero-shot, one template",
    "zero_shot_6": "zero-shot, six templates averaged",
    "map": "MAP, one template (Adam)",
    "map_sgd": "MAP, one template (SGD)",
    "map_averaged": "MAP (SGD), weights averaged",
    "lowest_loss": "MAP, the template of the lowest loss",
    "restarts": "six MAPs from one template",
    "mixture": "mixture: six MAPs, six templates",
    "mixture_merged": "mixture, merged texts",
    "mixture_evidence": "mixture, weights by evidence",
    "mixture_held_out": "mixture, weights by held-out likelihood",
    "mixture_functional": "mixture with a functional prior",
    "particles": "six repulsive particles, six templates",
    "coop_25": "CoOp, 25 epochs",
    "coop_50": "CoOp, 50 epochs",
    "coop_200": "CoOp, 200 epochs",
    "coop_adam": "CoOp (Adam)",
    "coops_seeds": "six CoOps, six seeds, averaged",
    "coops_templates": "six CoOps, six templates, averaged",
    "coops_adam": "six CoOps (Adam), six templates, averaged",
    "sghmc": "cyclical SGHMC, three snapshots",
    "low_rank": "Gaussian VI, low rank",
    "full": "Gaussian VI, full covariance",
}  # fmt: skip
EACH = tuple(f"map_{g}" for g in range(6))  # for the best single template in hindsight


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a method has learned; a kind of it says what its S prompts are.

    Attributes:
        log_weights: of their probabilities, `(S,)`; None = equal.
        merged: average the text features instead.
        rows: gradients of one context that this took.
    """

    log_weights: Tensor | None = None
    merged: bool = False
    rows: int = 0

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """Of images `(N, E)` under each prompt, `(S, N, C)`."""
        raise NotImplementedError

    @torch.no_grad()
    def log_prob(self, bed: Bed, part: Part, classes: str) -> Tensor:
        """Of images, `(N, C)`."""
        logits = self.logits(bed, part.features, classes)
        if self.merged:
            return logits.mean(0).log_softmax(-1)
        weights = self.log_weights
        if weights is None:
            weights = logits.new_full((len(logits),), -math.log(len(logits)))
        return (logits.log_softmax(-1) + weights[:, None, None]).logsumexp(0)


@dataclass(frozen=True)
class Found(Learned):
    """Contexts `(S, M, D)` in front of the names."""

    contexts: Tensor

    def logits(self, bed: Bed, features: Tensor, classes: str) -> Tensor:
        """As `Learned` says."""
        return bed.logits(self.contexts, features, classes)


def zero_shot(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The templates as they are."""
    return {"zero_shot": Found(bed.templates[:1]), "zero_shot_6": Found(bed.templates)}


def by_adam(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """Six templates with a prior and without, and six starts at one of them: 18 rows at once."""
    g = len(bed.templates)
    start = torch.cat([bed.templates, bed.templates, bed.templates[:1].expand(g, -1, -1)])
    begin = torch.cat([bed.templates, bed.templates, spread_start(bed, 0, RESTART, seed)])
    precision = torch.full((3 * g,), precision_of(bed))
    precision[g : 2 * g] = 0
    x = begin.clone().requires_grad_()
    adam([x], lambda: bed.map_loss(x, start, precision).sum())
    with torch.no_grad():
        losses = bed.map_loss(x, start, precision)[:g]
        held = bed.nll(x[:g], task.val.features, task.val.labels)
    maps, coops, restarts = x.detach().split(g)
    rows = 150 * g
    evidence = (-bed.n_images * losses).log_softmax(0)
    by_held_out = (-len(task.val.labels) * held).log_softmax(0)
    found: dict[str, Learned] = {
        "map": Found(maps[:1], rows=150),
        "lowest_loss": Found(maps[losses.argmin()][None], rows=rows),
        "restarts": Found(restarts, rows=rows),
        "mixture": Found(maps, rows=rows),
        "mixture_merged": Found(maps, merged=True, rows=rows),
        "mixture_evidence": Found(maps, log_weights=evidence, rows=rows),
        "mixture_held_out": Found(maps, log_weights=by_held_out, rows=rows),
        "coop_adam": Found(coops[:1], rows=150),
        "coops_adam": Found(coops, rows=rows),
    }
    return found | {name: Found(maps[i][None], rows=150) for i, name in enumerate(EACH)}


def functional(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """Each component's class texts are kept near those of its template."""
    tokens, encode = bed.tokens["base"], bed.towers.encode_text
    with torch.no_grad():
        plain = encode(bed.templates, tokens)  # (G, C, E)
    x, precision = bed.templates.clone().requires_grad_(), precision_of(bed)

    def loss() -> Tensor:
        far = 1 - (encode(x, tokens) * plain).sum(-1).mean(-1)  # (G,)
        return (bed.map_loss(x, bed.templates, precision) + KAPPA * far).sum()

    adam([x], loss)
    return {"mixture_functional": Found(x.detach(), rows=300 * len(x))}


def particles(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """Stein variational descent from the six templates, each with its own prior."""
    x, precision = bed.templates.clone().requires_grad_(), precision_of(bed)

    def loss() -> Tensor:
        energy = bed.n_images * bed.map_loss(x, bed.templates, precision).sum()
        (gradient,) = torch.autograd.grad(energy, x)
        return (x * stein(x.detach(), gradient)).sum()

    adam([x], loss)
    return {"particles": Found(x.detach(), rows=150 * len(x))}


def by_sgd(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """CoOp's recipe: six templates in one order of the images, and one template in six orders."""
    g = len(bed.templates)
    start = torch.cat([bed.templates, bed.templates[:1].expand(g - 1, -1, -1)])
    orders = [100 * seed] * g + [100 * seed + i for i in range(1, g)]
    x = sgd(bed, start, orders, Sgd())
    steps = 50 * max(1, bed.n_images // 32)
    return {
        "coop_50": Found(x[:1], rows=steps),
        "coops_templates": Found(x[:g], rows=steps * g),
        "coops_seeds": Found(torch.cat([x[:1], x[g:]]), rows=steps * g),
    }


def map_by_sgd(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The project's recipe for a MAP estimate, and the mean of its weights over half the epochs."""
    found: dict[str, Learned] = {}
    for name, averaged in (("map_sgd", False), ("map_averaged", True)):
        recipe = Sgd(lr=0.06, decay=0.0, precision=precision_of(bed), averaged=averaged)
        x = sgd(bed, bed.templates[:1], [100 * seed], recipe)
        found[name] = Found(x, rows=50 * max(1, bed.n_images // 32))
    return found


def other_lengths(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """CoOp for half and for four times the epochs."""
    return {
        f"coop_{epochs}": Found(
            sgd(bed, bed.templates[:1], [100 * seed], Sgd(epochs=epochs)),
            rows=epochs * max(1, bed.n_images // 32),
        )
        for epochs in (25, 200)
    }


def snapshots(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """Cyclical SGHMC around one template."""
    x = sghmc(bed, bed.templates[0], precision=precision_of(bed), eta=ETA / bed.n_images, seed=seed)
    return {"sghmc": Found(x, rows=450)}


def low_rank(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """The shipped family around one template, by the evidence lower bound."""
    shape = bed.templates.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        posterior = LowRankPosterior(*shape, 0, VARIATIONAL, 4)
    generator, nothing = torch.Generator().manual_seed(seed), bed.train.features[:1]

    def draw(n_samples: int) -> tuple[Tensor, Tensor]:
        sample = posterior.sample(
            bed.templates[0], n_samples, nothing, prior_std=PRIOR * bed.rms, generator=generator
        )
        return sample.contexts[:, 0], sample.kl[0]

    return {"low_rank": _variational(bed, list(posterior.parameters()), draw)}


def full(bed: Bed, task: Task, seed: int) -> dict[str, Learned]:
    """N(m + mu, T T^T) with T lower triangular, by the evidence lower bound."""
    at, prior = bed.templates[0].flatten(), PRIOR * bed.rms
    mean = torch.zeros_like(at).requires_grad_()
    logvar = torch.full_like(at, VARIATIONAL).requires_grad_()
    below = torch.zeros(len(at), len(at)).requires_grad_()
    generator = torch.Generator().manual_seed(seed)

    def draw(n_samples: int) -> tuple[Tensor, Tensor]:
        off = below.tril(-1)
        eps = torch.randn(n_samples, len(at), generator=generator)
        x = at + mean + (logvar / 2).exp() * eps + eps @ off.T
        kl = gaussian_kl(mean[None, None], logvar[None, None], prior)[0]
        kl = kl + off.square().sum() / (2 * prior**2)  # the determinant is the diagonal's
        return x.view(n_samples, *bed.templates.shape[1:]), kl

    return {"full": _variational(bed, [mean, logvar, below], draw)}


def _variational(
    bed: Bed, values: list[Tensor], draw: Callable[[int], tuple[Tensor, Tensor]]
) -> Found:
    def loss() -> Tensor:
        contexts, kl = draw(N_SAMPLES)
        nll = bed.nll(contexts, bed.train.features, bed.train.labels).mean()
        return nll + kl / bed.n_images

    adam(values, loss)
    with torch.no_grad():
        return Found(draw(N_SAMPLES_TEST)[0], rows=150 * N_SAMPLES)


def precision_of(bed: Bed) -> float:
    """Of the prior, 1 / s^2."""
    return (PRIOR * bed.rms) ** -2
