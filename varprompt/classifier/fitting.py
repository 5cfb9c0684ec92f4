"""From what `PromptClassifier.fit` is given to what it has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.checks import collapse
from ..common.console import say
from ..model import PromptedCLIP
from ..towers.device import device_of
from ..towers.templates import token_rms
from . import recipe
from .given import Labelled, hold_out, targets_of, texts_for
from .learned import FEWEST, Learned, Pixels


def starting(
    clip_model: Any, classes: np.ndarray, names: Sequence[str], given: Mapping[str, Any]
) -> tuple[Learned, float]:
    """A classifier that has not learned anything, and the rms that its recipe is in units of.

    Args:
        clip_model: from `load_clip`.
        classes: labels `(C,)`, sorted.
        names: what the prompts call them.
        given: from `recipe.resolved`.

    Raises:
        ConfigError: parameters that cannot be; names that do not fit the CLIP.
        DataError: synonyms or templates of another form, or of other classes.
    """
    texts, templates = texts_for(given["prompts"], names), given["templates"] or ()
    around = [text.replace("{}", "") for text in templates] or [given["context"]]
    rms = token_rms(clip_model, [f"{words} {name}" for words in around for name in names])
    fields = ("precision", "component", "class_words", "merge", "posterior", "n_samples",
              "n_samples_test")  # fmt: skip
    config = recipe.prompt_config(
        rms, device_of(given["device"]), ctx_init=given["context"], templates=tuple(templates),
        test_seed=int(given["seed"]), **{name: given[name] for name in fields},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(given["seed"]))
        model = PromptedCLIP(clip_model, names, config, texts=texts)
    return Learned(model, classes, list(names), Pixels.of(clip_model), texts=texts), rms


def fitted(
    start: Learned, rms: float, train: Labelled, targets: Tensor, held: Labelled | None,
    given: Mapping[str, Any],
) -> Learned:  # fmt: skip
    """The classifier `start`, fitted to images of classes `targets` `(N,)`, and calibrated.

    Args:
        start: from `starting`, whose learner is fitted in place.
        rms: as well.
        train: images to learn from; a share of them is held out if `held` is None.
        targets: numbers of their classes.
        held: images that are held out.
        given: from `recipe.resolved`.

    Raises:
        DataError: images that cannot be read, or are of other classes.
        VarPromptError: what was learned is not finite.
    """
    reading = given["n_workers"], given["progress"]
    features = start.encode(train.images, *reading)
    if held:
        out = torch.zeros(len(targets), dtype=torch.bool)
        outside = start.encode(held.images, *reading), targets_of(held.labels, start.labels)
    else:
        out = hold_out(targets, given["holdout"], given["seed"])
        outside = features[out], targets[out]
    inside = features[~out].to(start.device), targets[~out].to(start.device)
    steps = recipe.steps(
        rms, len(inside[1]), given["batch_size"], given["epochs"], given["learning_rate"],
        n_parts=len(given["templates"] or [()]), seed=given["seed"], balanced=given["balanced"],
        progress=given["progress"],
    )  # fmt: skip
    recipe.learn(start.model, *inside, steps)
    per_class = inside[1].bincount(minlength=len(start.names)).tolist()
    counts = {
        "learned_from": dict(zip(start.names, per_class, strict=True)),
        "held_out": len(outside[1]),
    }
    learned = replace(start, counts=counts)
    similarity = learned.predictor.similarity(inside[0][:1])
    if said := collapse(similarity, "give a smaller learning_rate, or more images"):
        say(said)
    if 0 < (n_held := len(outside[1])) < FEWEST:
        say(
            f"{n_held} held-out images are too few to calibrate by, {FEWEST} would do: "
            "probabilities are as they were learned"
        )
    return learned.calibrated(*outside)
