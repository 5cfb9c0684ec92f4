"""Both sides of `originals.py`: the authors' models and losses from a checkout, and ours.

Three things of theirs are switched off for the comparison: rounding of prompts to half precision in
float32, moving to a GPU, and downloading OpenAI's CLIP.
"""

from __future__ import annotations

import copy
import importlib
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._setup import TERMS
from varprompt.config import PromptConfig
from varprompt.layouts import split_state
from varprompt.model import PromptedCLIP, text_features
from varprompt.objective import ObjectiveConfig, kl_scale, objective
from varprompt.regularisers import OF_IMAGES, Frozen, regularise
from varprompt.standin.which import ensure_dassl

FOLDERS = {"kgcoop": "KgCoOp"}  # of the code in a checkout
ROOT = Path(__file__).resolve().parent.parent
Weights = dict[str, float]  # of the terms of a loss, by the names of `varprompt.regularisers`
WEIGHTS = {"kgcoop": TERMS["KgCoOp"], "maple": {}, "promptsrc": TERMS["PromptSRC"]}


def prepare(method: str, checkout: Path) -> None:
    """Put the checkout's modules in front, and switch off what the comparison is not about."""
    ensure_dassl()
    sys.path.insert(0, str(checkout / FOLDERS.get(method, "")))
    torch.Tensor.half = torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore
    nn.Module.half = nn.Module.cuda = lambda self, *a, **k: self  # type: ignore


def original(method: str, clip: Any, names: list[str], depth: int) -> Any:
    """The authors' model in float32 with the weights of `clip`; what is learned needs gradients."""
    state = clip.state_dict()
    module = importlib.import_module(f"trainers.{method}")
    builder = sys.modules["clip.model"]

    def load(cfg: Any, zero_shot_model: bool = False) -> Any:
        lengths = {"maple_length": 2, "vision_ctx": 4, "language_ctx": 4}
        layers = 0 if zero_shot_model or method == "maple" else depth
        details = {"trainer": "MaPLe" if method == "maple" else "IVLP",
                   "vision_depth": layers, "language_depth": layers, **lengths}  # fmt: skip
        given = () if method == "kgcoop" else (details,)
        model = builder.build_model(dict(state), *given).float()
        model.load_state_dict(state, strict=False)  # not rounded to half precision
        return model

    module.load_clip_to_cpu = load
    model = module.CustomCLIP(settings(method, clip, depth), names, load(None)).float()
    for name, parameter in model.named_parameters():
        learned = "ctx" in name if method == "kgcoop" else "prompt_learner" in name
        parameter.requires_grad_((learned or "VPT" in name) and "ZS_image_encoder" not in name)
    return model.train()


def settings(method: str, clip: Any, depth: int) -> Any:
    """The options that the originals read."""
    size = clip.visual.input_resolution
    words = "a photo of a"
    nodes = {
        "COOP": SimpleNamespace(
            N_CTX=4, CTX_INIT=words, CSC=False, PREC="fp32",
            CLASS_TOKEN_POSITION="end",  # noqa: S106
        ),
        "COCOOP": SimpleNamespace(PREC="fp32"),
        "MAPLE": SimpleNamespace(N_CTX=2, CTX_INIT=words, PREC="fp32", PROMPT_DEPTH=depth),
        "PROMPTSRC": SimpleNamespace(
            N_CTX_TEXT=4, N_CTX_VISION=4, CTX_INIT=words, PREC="fp32",
            PROMPT_DEPTH_TEXT=depth, PROMPT_DEPTH_VISION=depth,
        ),
    }  # fmt: skip
    return SimpleNamespace(
        TRAINER=SimpleNamespace(**nodes), INPUT=SimpleNamespace(SIZE=(size, size)),
        DATASET=SimpleNamespace(NAME="ImageNet"), OPTIM=SimpleNamespace(MAX_EPOCH=20),
        MODEL=SimpleNamespace(BACKBONE=SimpleNamespace(NAME="random")),
    )  # fmt: skip


class Theirs:
    """A method by its authors' code, in float32 on the weights of `clip`.

    `method` is "kgcoop", "maple" or "promptsrc", `depth` the layers that have prompts, `weights`
    those of the terms of the loss.
    """

    def __init__(self, method: str, clip: Any, names: list[str], depth: int, weights: Weights):
        self.model = original(method, clip, names, depth)
        self.method, self.weights = method, weights

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Loss as their trainers put it together; logits `(B, C)`, None where they keep them."""
        if self.method == "kgcoop":
            logits, score = self.model(images)
            return F.cross_entropy(logits, labels) + self.weights["text_cosine"] * score, logits
        if self.method == "maple":
            return self.model(images, labels), None
        loss, text, fixed, frozen, seen, before, logits = self.model(images, labels)
        divergence = F.kl_div(
            F.log_softmax(logits, 1), F.log_softmax(before, 1), reduction="sum", log_target=True
        )
        loss = loss + self.weights.get("text_l1", 0.0) * F.l1_loss(text, fixed)
        loss = loss + self.weights.get("image_l1", 0.0) * F.l1_loss(seen, frozen)
        return loss + divergence / logits.numel(), logits

    def parameters(self) -> list[Tensor]:
        """What is learned."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def learned(self) -> dict[str, Tensor]:
        """The same by its names here; `split_state` reads their files, too."""
        values = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if set(values) == {"prompt_learner.ctx"}:
            return {"ctx": values["prompt_learner.ctx"]}
        return split_state(values)[0]

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by the names here."""
        before = [p.data for p in self.parameters()]
        try:
            for p in self.parameters():
                p.data = p.grad  # type: ignore[assignment]
            return {n: p.detach().clone() for n, p in self.learned().items()}
        finally:
            for p, value in zip(self.parameters(), before, strict=True):
                p.data = value


def config_of(method: str, depth: int, **options: Any) -> PromptConfig:
    """The published settings, with another depth."""
    deep = {
        "kgcoop": {},
        "maple": {"n_ctx": 2, "keep_words": True, "coupled": True, "depth": depth},
        "promptsrc": {"n_ctx": 4, "keep_words": True, "depth": depth, "n_ctx_visual": 4,
                      "depth_visual": depth},
    }[method]  # fmt: skip
    return PromptConfig(**deep, **options)


class Ours:
    """A method here, on the weights of `clip`; `weights` of the terms of its loss."""

    def __init__(
        self, method: str, clip: Any, names: list[str], config: PromptConfig, weights: Weights
    ):
        self.model = PromptedCLIP(copy.deepcopy(clip), names, config)
        self.weights, self.config = weights, config
        if weights:
            known = runpy.run_path(str(ROOT / "trainers/templates.py"))  # "trainers" is theirs
            several = method == "promptsrc"
            texts = known["DIVERSE"] if several else [known["DEFAULT_TEMPLATE"]]
            self.text = text_features(self.model.towers, names, texts, unit_norm=not several)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits `(B, C)` of the first sample."""
        model, seen = self.model, self.model.encode_image(images)
        out = model.outputs(seen, images=images)
        scale = kl_scale(self.config.kl_weight, "mean", model.n_dims, 1)
        loss = objective(out.logits, labels, out.kl, ObjectiveConfig("iwae", scale)).loss
        if self.weights:
            frozen = seen.detach()
            if OF_IMAGES & self.weights.keys():
                frozen = model.towers.encode_image(images)
            terms = regularise(out, Frozen(self.text, frozen, model.scale), self.weights)
            loss = loss + sum(terms.values())
        return loss, out.logits[0]

    def parameters(self) -> list[Tensor]:
        """What is learned."""
        return list(self.model.prompt_learner.parameters())

    def learned(self) -> dict[str, Tensor]:
        """The same by name."""
        return dict(self.model.prompt_learner.named_parameters())

    def gradients(self) -> dict[str, Tensor]:
        """By name."""
        return {n: p.grad for n, p in self.learned().items() if p.grad is not None}
