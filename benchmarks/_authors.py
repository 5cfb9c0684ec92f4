"""VPT by its authors' own code and here, each as one object that steps and tests."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks._setup import prompted_clip, random_clip
from varprompt.layouts import name_here
from varprompt.objective import ObjectiveConfig, kl_scale, objective
from varprompt.standin.which import ensure_dassl

TEST_IMAGES = 40  # at once here
N_CONTEXT = 4


def load(checkout: Path) -> tuple[Any, Any]:
    """The checkout's modules ``trainers/vpt.py`` and ``clip.model``.

    The first one from its file: without an ``__init__`` their folder loses against every other
    package called trainers, wherever it is on the path.
    """
    ensure_dassl()
    sys.path.insert(0, str(checkout))
    spec: Any = importlib.util.spec_from_file_location("authors", checkout / "trainers/vpt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, sys.modules["clip.model"]


class Theirs:
    """The authors' `CustomCLIP` with the weights of `random_clip`, in float32.

    Args:
        args: those of benchmarks/step.py.
        names: C class names.
    """

    images_at_once = 1  # their prompts are encoded anew for every batch, whose size is 1

    def __init__(self, args: argparse.Namespace, names: list[str]):
        module, builder = load(Path(args.against).resolve())
        state = random_clip(args.backbone).state_dict()
        clip = builder.build_model(dict(state)).float()
        clip.load_state_dict(state)  # not rounded to half precision
        size = self.resolution = int(clip.visual.input_resolution)
        node = SimpleNamespace(
            N_CTX=N_CONTEXT, CTX_INIT="a photo of a", L=args.L, VPT_TYPE="coopvpt", PREC="fp32"
        )
        config = SimpleNamespace(
            TRAINER=SimpleNamespace(VPT=node), INPUT=SimpleNamespace(SIZE=(size, size))
        )
        self.model = module.CustomCLIP(config, names, clip)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("prompt_learner" in name)
        with torch.no_grad():
            self.model.prompt_learner.std_posterior.zero_()

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, after its backward pass; noise from torch's generator."""
        self.model.train().zero_grad()
        loss: Tensor = self.model(images, labels).sum()
        loss.backward()
        return loss

    def texts(self) -> None:
        """Do nothing: they are encoded with every image."""

    @torch.no_grad()
    def test(self, images: Tensor) -> Tensor:
        """Log-probabilities `(B, C)`."""
        found: Tensor = self.model.eval()(images)
        return found

    def gradients(self) -> dict[str, Tensor]:
        """By the names here."""
        named = self.model.prompt_learner.named_parameters()
        return {name_here(name): p.grad for name, p in named if p.grad is not None}


class Ours:
    """The same here."""

    images_at_once = TEST_IMAGES

    def __init__(self, args: argparse.Namespace, names: list[str]):
        self.model = prompted_clip(random_clip(args.backbone), names, "VPT", args.L)
        self.resolution = int(self.model.towers.clip.visual.input_resolution)
        with torch.no_grad():
            self.model.prompt_learner.posterior.logvar.zero_()
        self.objective = ObjectiveConfig("iwae", kl_scale(0.001, "mean", self.model.n_dims, 1))

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, after its backward pass; noise as the authors draw it."""
        self.model.prompt_learner.zero_grad()
        shape = self.model.prompt_learner.posterior.noise_shape(self.model.config.n_samples, 1)
        logits, kl = self.model.logits(images, eps=torch.randn(shape))
        loss = objective(logits, labels, kl, self.objective).loss
        loss.backward()
        return loss

    def texts(self) -> None:
        """Encode them once for all images."""
        self.predictor = self.model.predictor()

    def test(self, images: Tensor) -> Tensor:
        """Log-probabilities `(B, C)`."""
        return self.predictor(self.model.towers.encode_image(images))

    def gradients(self) -> dict[str, Tensor]:
        """Of what is learned."""
        named = self.model.prompt_learner.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}


SIDES: dict[str, Any] = {"theirs": Theirs, "ours": Ours}
