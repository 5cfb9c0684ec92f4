"""How a classifier is learned: around which words, in units of the tower's own token embeddings.

By default these are six templates, and a class's prompts begin a fifth of the way to its own words,
as in configs/trainers/VPT/vit_b16_c4_ep50_mixture_words.yaml: on the embedded tiny CLIP that was
better than one Gaussian around "a photo of a" (`benchmarks/classifier_default.py`).

What a residual may be is a matter of scale: noise that is large for one CLIP is nothing for
another. So the standard deviations of noise and prior, and the step of the optimizer, are given in
units of the rms of the token embeddings that the prompts of the classes are made of. In
these units the loss of one CLIP looks like that of another; the factors were chosen on the embedded
tiny CLIP, whose prompts of Digits and Chalk have an rms of 0.065, and were NOT TESTED on others:
there they are noise of 0.05, a prior of 0.2 and a rate of 0.06.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..common.checks import check_choice, check_range, check_template
from ..config import PromptConfig
from ..errors import ConfigError, VarPromptError, brief
from ..images.loaders import EpochBatches, derive_seed
from ..model import PromptedCLIP
from ..objective import objective
from ..posteriors import POSTERIORS
from ..run.schedule import build_lr_scheduler

TEMPLATES = (
    "a photo of a {}.", "itap of a {}.", "a bad photo of the {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
CLASS_WORDS = 0.2
CONTEXT = "a photo of a"  # of one prompt

NOISE, PRIOR = 0.77, 3.1  # initial standard deviation of the posterior, of the prior; in rms
RATE = 14.0  # of the optimizer; in squares of the rms
_CLIP_NORM = 0.065  # largest norm of the gradient; divided by the rms
_EPOCHS, _MOST_STEPS = 50, 2000
_MEM_BUDGET = {"cpu": 50_000_000}  # chunks that stay near a processor's caches are faster, too
_MEM_BUDGET_ELSEWHERE = 2_000_000_000

# parameter -> least, greatest value, whether whole
_RANGES: dict[str, tuple[float, float, bool]] = {
    "holdout": (0, 0.9, False), "learning_rate": (0, 1e6, False), "batch_size": (1, 10**6, True),
    "n_workers": (0, 1000, True), "seed": (0, 2**32 - 1, True), "epochs": (1, 10**6, True),
}  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """How many steps of what size.

    Attributes:
        epochs: passes over the images.
        batch_size: images of a step.
        lr: rate of stochastic gradient descent with momentum, before its cosine schedule.
        clip_norm: largest norm of the gradient.
        seed: of order and noise.
        balanced: every class as often as any other.
        progress: show a bar where somebody sees it.
    """

    epochs: int
    batch_size: int
    lr: float
    clip_norm: float
    seed: int
    balanced: bool = False
    progress: bool = True


def resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a classifier, and in place of None what the prompts are by default.

    Raises:
        ConfigError: everything that is wrong, besides what `PromptConfig` checks.
    """
    given = dict(parameters)
    if isinstance(given["templates"], np.ndarray):
        given["templates"] = given["templates"].tolist()
    problems = _problems(given)
    context, templates, posterior = (given[k] for k in ("context", "templates", "posterior"))
    if posterior is None:
        posterior = "mixture" if context is None else "gaussian"
    several = posterior == "mixture"
    if context is not None and templates is not None:
        problems.append(
            f"context is {brief(context)} and templates are {brief(templates)}: give the words of "
            "one prompt or the templates of several"
        )
    elif several and context is not None:
        problems.append(
            f"context is {brief(context)}, but posterior 'mixture' has several prompts: give "
            "templates"
        )
    elif templates is not None and not several:
        problems.append(
            f"templates are {brief(templates)}, which only posterior 'mixture' takes: give context"
        )
    if problems:
        raise ConfigError(problems)
    if several and templates is None:
        templates = TEMPLATES
    if given["class_words"] is None:
        given["class_words"] = CLASS_WORDS if several else 0.0
    words = CONTEXT if context is None else context
    return given | {"context": words, "templates": templates, "posterior": posterior}


def _problems(parameters: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    for name, (least, most, whole) in _RANGES.items():
        if name != "epochs" or parameters[name] is not None:
            check_range(parameters[name], least, most, name, problems, whole=whole)
    for name in ("backbone", "backbone_path", "activation"):
        if not isinstance(parameters[name], str | os.PathLike):
            problems.append(f"{name} is {brief(parameters[name])}; give a text")
    check_choice(parameters["balanced"], (False, True), "balanced", problems)
    if parameters["posterior"] is not None:
        for_all = [name for name, of in POSTERIORS.items() if False in of.conditional_options]
        check_choice(parameters["posterior"], for_all, "posterior", problems)
    return problems + _template_problems(parameters["templates"])


def _template_problems(templates: Any) -> list[str]:
    """A set has no order, and a generator has nothing left for the next fit."""
    if templates is None:
        return []
    if not isinstance(templates, list | tuple):
        return [f"templates is {brief(templates)}; give a list of texts with a {{}} each"]
    problems: list[str] = []
    for text in templates:
        check_template(text, "templates", problems)
    return problems


def prompt_config(rms: float, device: str, **fields: Any) -> PromptConfig:
    """The scaled recipe: all that is learned is a residual per token, centred on the words.

    Args:
        rms: from `varprompt.towers.templates.token_rms`.
        device: where it is used; the size of what is computed at once is fixed for its kind, as
            last digits depend on it.
        fields: of `PromptConfig`.
    """
    scaled: dict[str, Any] = {
        "residual": "per_token", "learn_context": False, "objective": "elbo", "kl_weight": 1.0,
        "kl_reduction": "elbo", "logvar_init": 2 * math.log(NOISE * rms), "prior_std": PRIOR * rms,
        "mem_budget": _MEM_BUDGET.get(device, _MEM_BUDGET_ELSEWHERE),
    }  # fmt: skip
    values = scaled | fields
    if problems := PromptConfig.problems(values, {"ctx_init": "context"}):
        raise ConfigError(problems)
    return PromptConfig(**values)


def steps(
    rms: float, n_images: int, batch_size: int, epochs: int | None, rate: float, *,
    n_parts: int = 1, **options: Any,
) -> Steps:  # fmt: skip
    """The recipe's steps for `n_images`: 50 epochs, fewer where these were over 2,000 steps.

    Of a mixture the loss is the mean over `n_parts` components: the rate is as many times that of
    one, and the gradient is clipped where as many, each clipped alone, would be.
    """
    if epochs is None:
        epochs = max(1, min(_EPOCHS, _MOST_STEPS * batch_size // n_images))
    clip_norm = _CLIP_NORM / rms / n_parts**0.5
    return Steps(epochs, batch_size, n_parts * rate * rms**2, clip_norm, **options)


def learn(model: PromptedCLIP, features: Tensor, labels: Tensor, steps: Steps) -> None:
    """Fit the learner of `model` to unit-norm image features `(N, E)` and labels `(N,)`.

    Raises:
        VarPromptError: what was learned is not finite.
    """
    learner, device = model.prompt_learner, features.device
    optimizer = torch.optim.SGD(learner.parameters(), steps.lr, momentum=0.9)
    schedule = build_lr_scheduler(optimizer, SimpleNamespace(
        LR_SCHEDULER="cosine", MAX_EPOCH=steps.epochs, GAMMA=1.0, STEPSIZE=(-1,),
        WARMUP_EPOCH=min(1, steps.epochs - 1), WARMUP_TYPE="constant",
        WARMUP_CONS_LR=steps.lr / 100, WARMUP_RECOUNT=True,
    ))  # fmt: skip
    bound = model.objective_config(len(labels))
    batches = EpochBatches(
        len(labels), steps.batch_size, steps.seed, labels.tolist() if steps.balanced else None
    )
    noise = torch.Generator(device)
    bar = tqdm(range(steps.epochs), "learning", disable=None if steps.progress else True)
    for epoch in bar:
        batches.epoch = epoch
        noise.manual_seed(derive_seed(steps.seed, epoch, "noise"))
        for batch in batches:
            index = torch.tensor([i for i, _ in batch], device=device)
            logits, kl = model.logits_of(features[index], generator=noise)
            loss = objective(logits, labels[index], kl, bound).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learner.parameters(), steps.clip_norm)
            optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"loss {loss.item():.3f}")
    if not all(value.isfinite().all() for value in learner.state_dict().values()):
        raise VarPromptError(
            "training has diverged: what was learned is not finite; give a smaller learning_rate"
        )
