"""KgCoOp, MaPLe and PromptSRC here and by their authors' own code, on one random CLIP.

    python benchmarks/originals.py maple --against path/to/multimodal-prompt-learning
    python benchmarks/originals.py promptsrc --against path/to/PromptSRC --time --repeats 5

The first form compares logits, loss and every gradient of one step, and what was learned after 30
steps of SGD, in float32. --time adds seconds and memory of a step of either at ViT-B/16 sizes, each
in its own process, and of the method with a posterior.

Of the originals, three things are switched off for the comparison: rounding of prompts to half
precision in float32, moving to a GPU, and downloading OpenAI's CLIP.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._measure import PeakMemory, timed  # noqa: E402
from benchmarks._report import environment, percentiles, write_json  # noqa: E402
from benchmarks._setup import TERMS, class_names, random_clip  # noqa: E402
from varprompt.config import PromptConfig  # noqa: E402
from varprompt.layouts import split_state  # noqa: E402
from varprompt.model import PromptedCLIP, text_features  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402
from varprompt.regularisers import OF_IMAGES, Frozen, regularise  # noqa: E402
from varprompt.standin.which import ensure_dassl  # noqa: E402
from varprompt.towers.build import build_clip, clip_module  # noqa: E402

RATES = {"kgcoop": 0.002, "maple": 0.0035, "promptsrc": 0.0025}
FOLDERS = {"kgcoop": "KgCoOp"}  # of the code in a checkout
DEPTHS = {"small": 2, "ViT-B/16": 9}
WEIGHTS = {"kgcoop": TERMS["KgCoOp"], "maple": {}, "promptsrc": TERMS["PromptSRC"]}
NOISE = {"posterior": "gaussian", "logvar_init": -6.0, "n_samples": 10, "kl_weight": 0.001}
NAMES = ["dog", "polka-dotted", "centered_lily_of_the_valley", "Boeing 747-400 St.", "x"]


def small_clip() -> Any:
    """Random towers as wide as the originals take for granted, three layers each."""
    torch.manual_seed(0)
    model = clip_module().model.CLIP(512, 64, 3, 768, 16, 77, 49408, 512, 8, 3).float()
    with torch.no_grad():  # so that texts differ
        for block in model.transformer.resblocks:
            for p in block.parameters():
                p.mul_(1.25 if p.dim() > 1 else 1.0)
    return build_clip(model.state_dict(), "random", "quick_gelu").eval().requires_grad_(False)


def config_of(method: str, depth: int, **options: Any) -> PromptConfig:
    """The published settings, with another depth."""
    deep = {
        "kgcoop": {},
        "maple": {"n_ctx": 2, "keep_words": True, "coupled": True, "depth": depth},
        "promptsrc": {"n_ctx": 4, "keep_words": True, "depth": depth, "n_ctx_visual": 4,
                      "depth_visual": depth},
    }[method]  # fmt: skip
    return PromptConfig(**deep, **options)


def original(args: argparse.Namespace, clip: Any, names: list[str], depth: int) -> Any:
    """The authors' model in float32 with the weights of `clip`; what is learned needs gradients."""
    state = clip.state_dict()
    module = importlib.import_module(f"trainers.{args.method}")
    builder = sys.modules["clip.model"]

    def load(cfg: Any, zero_shot_model: bool = False) -> Any:
        lengths = {"maple_length": 2, "vision_ctx": 4, "language_ctx": 4}
        layers = 0 if zero_shot_model or args.method == "maple" else depth
        details = {"trainer": "MaPLe" if args.method == "maple" else "IVLP",
                   "vision_depth": layers, "language_depth": layers, **lengths}  # fmt: skip
        given = () if args.method == "kgcoop" else (details,)
        model = builder.build_model(dict(state), *given).float()
        model.load_state_dict(state, strict=False)  # not rounded to half precision
        return model

    module.load_clip_to_cpu = load
    model = module.CustomCLIP(settings(args.method, clip, depth), names, load(None)).float()
    for name, parameter in model.named_parameters():
        learned = "ctx" in name if args.method == "kgcoop" else "prompt_learner" in name
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


def their_loss(method: str, model: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
    """Loss as the authors' trainers put it together, and the logits (None where they keep them)."""
    if method == "kgcoop":
        logits, score = model(images)
        return F.cross_entropy(logits, labels) + WEIGHTS[method]["text_cosine"] * score, logits
    if method == "maple":
        return model(images, labels), None
    loss, text, fixed, frozen, seen, before, logits = model(images, labels)
    weights = WEIGHTS[method]
    divergence = F.kl_div(
        F.log_softmax(logits, 1), F.log_softmax(before, 1), reduction="sum", log_target=True
    )
    loss = loss + weights["text_l1"] * F.l1_loss(text, fixed)
    return loss + weights["image_l1"] * F.l1_loss(
        seen, frozen
    ) + divergence / logits.numel(), logits


class Ours:
    """The method here: a model, and its loss for images and labels."""

    def __init__(self, method: str, clip: Any, names: list[str], config: PromptConfig):
        self.model = PromptedCLIP(copy.deepcopy(clip), names, config)
        self.weights, self.config = WEIGHTS[method], config
        if self.weights:
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


def learned_of(model: nn.Module) -> dict[str, Tensor]:
    """What the authors' model learns, by its names here; `split_state` reads their files, too."""
    values = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if set(values) == {"prompt_learner.ctx"}:
        return {"ctx": values["prompt_learner.ctx"]}
    return split_state(values)[0]


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Relative differences of a step, and of what was learned after 30."""
    clip, depth = small_clip(), DEPTHS["small"]
    theirs = original(args, clip, NAMES, depth)
    ours = Ours(args.method, clip, NAMES, config_of(args.method, depth))
    learner = ours.model.prompt_learner
    learner.load_state_dict({n: v.detach().clone() for n, v in learned_of(theirs).items()})
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    labels = torch.tensor([0, 3, 1, 4])
    rate = {"lr": RATES[args.method], "momentum": 0.9, "weight_decay": 5e-4}
    optimizers = [
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **rate)
        for model in (theirs, learner)
    ]
    report: dict[str, Any] = {}
    for step in range(30):
        want, want_logits = their_loss(args.method, theirs, images, labels)
        got, got_logits = ours.loss(images, labels)
        for loss, optimizer in zip((want, got), optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
        if step == 0:
            report["loss"] = difference(got, want)
            if want_logits is not None:
                report["logits"] = difference(got_logits, want_logits)
            gradients = gradients_of(theirs)
            report["gradients"] = {
                n: difference(p.grad, gradients[n]) for n, p in learner.named_parameters()
            }
        for optimizer in optimizers:
            optimizer.step()
    if want_logits is None:
        with torch.no_grad():
            their_logits = theirs.eval()(images)
            report["logits after 30 steps"] = difference(ours.loss(images, labels)[1], their_logits)
    after = learned_of(theirs)
    report["learned after 30 steps"] = {
        n: difference(p, after[n]) for n, p in learner.named_parameters()
    }
    return report


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Gradients by the names here."""
    grown = copy.deepcopy(model)
    for mine, source in zip(grown.parameters(), model.parameters(), strict=True):
        if source.requires_grad:
            mine.data.copy_(source.grad)
    return learned_of(grown)


def difference(got: Tensor, want: Tensor) -> float:
    """Largest difference relative to the largest value."""
    got, want = got.detach(), want.detach()
    return float((got - want).abs().max() / want.abs().max())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of a step of one variant, at ViT-B/16 sizes."""
    clip, names = random_clip("ViT-B/16"), class_names("imagenet", args.classes)
    depth = DEPTHS["ViT-B/16"]
    images, labels = torch.randn(args.B, 3, 224, 224), torch.arange(args.B)
    if args.variant == "original":
        model = original(args, clip, names, depth)

        def step() -> None:
            model.zero_grad()
            their_loss(args.method, model, images, labels)[0].backward()
    else:
        options = NOISE if args.variant == "variational" else {}
        ours = Ours(args.method, clip, names, config_of(args.method, depth, **options))

        def step() -> None:
            ours.model.prompt_learner.zero_grad()
            ours.loss(images, labels)[0].backward()

    with PeakMemory(torch.device("cpu")) as memory:
        step()
        times = [timed(step, torch.device("cpu")) for _ in range(args.repeats)]
    report = {"time_s": percentiles([wall for wall, _ in times]),
              "cpu_s": percentiles([cpu for _, cpu in times]), 
              "peak_bytes": memory.peak}  # fmt: skip
    if args.variant != "original":

        def image_tower() -> None:
            ours.model.encode_image(images).sum().backward()

        if ours.config.has_visual:
            alone = [timed(image_tower, torch.device("cpu"))[1] for _ in range(args.repeats)]
            report["image_tower_cpu_s"] = percentiles(alone)
    return report


def prepare(args: argparse.Namespace) -> None:
    """Put the checkout's modules in front, and switch off what the comparison is not about."""
    ensure_dassl()
    sys.path.insert(0, str(args.against / FOLDERS.get(args.method, "")))
    torch.Tensor.half = torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore
    nn.Module.half = nn.Module.cuda = lambda self, *a, **k: self  # type: ignore


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=RATES)
    parser.add_argument("--against", type=Path, required=True, help="checkout of the authors' code")
    parser.add_argument("--time", action="store_true", help="seconds and memory, too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-B", type=int, default=4, help="images of a step")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--output", type=Path, help="write the report there as JSON")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    prepare(args)
    if args.variant:
        print(json.dumps(measure(args)))
        return
    report: dict[str, Any] = {"method": args.method, "equal": compare(args)}
    if args.time:
        report |= {"B": args.B, "classes": args.classes, "backbone": "ViT-B/16"}
        for variant in ("original", "ours", "variational"):
            command = [sys.executable, *sys.argv, "--variant", variant]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            report[variant] = json.loads(done.stdout.splitlines()[-1])
    report |= environment(torch.device("cpu"))
    print(json.dumps(report, indent=2))
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
