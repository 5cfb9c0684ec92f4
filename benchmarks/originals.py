"""KgCoOp, MaPLe and PromptSRC here and by their authors' own code, on one random CLIP.

    python benchmarks/originals.py maple --against path/to/multimodal-prompt-learning
    python benchmarks/originals.py promptsrc --against path/to/PromptSRC --time --repeats 5

The first form compares logits, loss and every gradient of one step, and what was learned after 30
steps of SGD, in float32. PromptSRC's absolute differences have gradients of one sign or the other:
rounding decides it where a difference is nearly zero, so there the 30 steps are also taken without
these terms and, as a control, by the authors' code alone from starts that differ by a millionth.
--time adds seconds and memory of a step of either at ViT-B/16 sizes and of the method with a
posterior, each in its own process, taking turns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._measure import PeakMemory, timed  # noqa: E402
from benchmarks._originals import (  # noqa: E402
    WEIGHTS,
    Ours,
    Theirs,
    Weights,
    config_of,
    prepare,
)
from benchmarks._report import environment, percentiles, write_json  # noqa: E402
from benchmarks._setup import class_names, random_clip  # noqa: E402
from benchmarks._turns import Process, answer  # noqa: E402
from varprompt.towers.build import build_clip, clip_module  # noqa: E402

RATES = {"kgcoop": 0.002, "maple": 0.0035, "promptsrc": 0.0025}
DEPTHS = {"small": 2, "ViT-B/16": 9}
VARIANTS = ("original", "ours", "variational")
STEPS = 30
CPU = torch.device("cpu")
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


def batch() -> tuple[Tensor, Tensor]:
    """Images of noise for the small CLIP, and labels."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([0, 3, 1, 4])


def sgd(method: str, side: Ours | Theirs) -> torch.optim.SGD:
    """As the published recipes have it."""
    return torch.optim.SGD(side.parameters(), RATES[method], momentum=0.9, weight_decay=5e-4)


def step(side: Ours | Theirs, optimizer: torch.optim.SGD, *batch: Tensor) -> tuple[Any, Any]:
    """One step; its loss and logits."""
    loss, logits = side.loss(*batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, logits


def compare(method: str, weights: Weights) -> dict[str, Any]:
    """Relative differences between here and there, of a step and of what 30 steps have learned."""
    clip, depth = small_clip(), DEPTHS["small"]
    theirs = Theirs(method, clip, NAMES, depth, weights)
    ours = Ours(method, clip, NAMES, config_of(method, depth), weights)
    start = {n: v.detach().clone() for n, v in theirs.learned().items()}
    ours.model.prompt_learner.load_state_dict(start)
    optimizers, batch = (sgd(method, ours), sgd(method, theirs)), batch_of_noise()
    report: dict[str, Any] = {}
    for number in range(STEPS):
        got, got_logits = step(ours, optimizers[0], *batch)
        want, want_logits = step(theirs, optimizers[1], *batch)
        if number == 0:
            report["loss"] = difference(got, want)
            report["gradients"] = differences(ours.gradients(), theirs.gradients())
            if want_logits is not None:
                report["logits"] = difference(got_logits, want_logits)
    if want_logits is None:
        with torch.no_grad():
            their_logits = theirs.model.eval()(batch[0])
            report["logits after 30 steps"] = difference(ours.loss(*batch)[1], their_logits)
    report["learned after 30 steps"] = differences(ours.learned(), theirs.learned())
    return report


def control(method: str) -> list[dict[str, float]]:
    """How far 30 steps of the authors' code lead away from its own, from nearly the same start.

    The start values are changed by a millionth of themselves, which is what rounding does to the
    features here and there; three times.
    """
    clip, learned = small_clip(), []
    for seed in range(4):
        torch.manual_seed(0)
        theirs = Theirs(method, clip, NAMES, DEPTHS["small"], WEIGHTS[method])
        generator = torch.Generator().manual_seed(seed)
        for p in theirs.parameters() if seed else ():
            p.data.mul_(1 + 1e-6 * torch.randn(p.shape, generator=generator))
        optimizer = sgd(method, theirs)
        for _ in range(STEPS):
            step(theirs, optimizer, *batch_of_noise())
        learned.append(theirs.learned())
    return [differences(other, learned[0]) for other in learned[1:]]


def batch_of_noise() -> tuple[Tensor, Tensor]:
    """Images for the small CLIP, and labels."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([0, 3, 1, 4])


def difference(got: Tensor, want: Tensor) -> float:
    """Largest difference relative to the largest value."""
    got, want = got.detach(), want.detach()
    return float((got - want).abs().max() / want.abs().max())


def differences(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """`difference` of each tensor."""
    return {name: difference(value, want[name]) for name, value in got.items()}


def serve(variant: str, args: argparse.Namespace, pipe: Any) -> None:
    """In a process of its own: steps of a variant at ViT-B/16 sizes, as `pipe` asks for them."""
    prepare(args.method, args.against)
    clip, names = random_clip("ViT-B/16"), class_names("imagenet", args.classes)
    depth, weights = DEPTHS["ViT-B/16"], WEIGHTS[args.method]
    images, labels = torch.randn(args.B, 3, 224, 224), torch.arange(args.B)
    side: Ours | Theirs
    if variant == "original":
        side = Theirs(args.method, clip, names, depth, weights)
    else:
        options = NOISE if variant == "variational" else {}
        side = Ours(args.method, clip, names, config_of(args.method, depth, **options), weights)

    def measured(loss: Callable[[], Tensor]) -> dict[str, float]:
        for p in side.parameters():
            p.grad = None
        with PeakMemory(CPU) as memory:
            wall, cpu = timed(lambda: loss().backward(), CPU)
        return {"time_s": wall, "cpu_s": cpu, "peak_bytes": memory.peak}

    work = {
        "step": lambda: side.loss(images, labels)[0],
        "image_tower": lambda: cast(Ours, side).model.encode_image(images).sum(),
    }
    answer(pipe, {what: partial(measured, loss) for what, loss in work.items()})


def race(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of each variant's step, in turn; the first one warms up."""
    sides = {variant: Process(serve, variant, args) for variant in VARIANTS}
    orders = [(variant, "step") for variant in VARIANTS]
    if config_of(args.method, DEPTHS["ViT-B/16"]).has_visual:
        orders.insert(2, ("ours", "image_tower"))
    rows: dict[str, list[dict[str, float]]] = {f"{v}, {what}": [] for v, what in orders}
    for number in range(args.repeats + 1):
        for variant, what in orders:
            row = sides[variant].do(what)
            if number:
                rows[f"{variant}, {what}"].append(row)
    for side in sides.values():
        side.close()
    report: dict[str, Any] = {
        name: {key: percentiles([row[key] for row in own]) for key in own[0]}
        for name, own in rows.items()
    }
    theirs, ours = report["original, step"], report["ours, step"]
    report["ratio"] = {key: theirs[key]["p50"] / ours[key]["p50"] for key in ours}
    return report


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
    args = parser.parse_args()
    prepare(args.method, args.against)
    weights = WEIGHTS[args.method]
    report: dict[str, Any] = {"method": args.method, "equal": compare(args.method, weights)}
    smooth = {name: weight for name, weight in weights.items() if not name.endswith("_l1")}
    if smooth != weights:
        report["equal without absolute differences"] = compare(args.method, smooth)
        report["control: the authors' code from starts that differ by a millionth"] = control(
            args.method
        )
    if args.time:
        report |= {"B": args.B, "classes": args.classes, "backbone": "ViT-B/16"} | race(args)
    report |= environment(CPU)
    print(json.dumps(report, indent=2))
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
