"""Time and memory of a training step, beside the usual implementation, and with ideas left out.

    python benchmarks/step.py                                     # VPT, ViT-B/16, OxfordPets' 19
    python benchmarks/step.py --trainer VPT_CoCoOp -B 4
    python benchmarks/step.py --ablate --repeats 5
    python benchmarks/step.py --names imagenet --classes 500 --precision bf16 --device cuda
    python benchmarks/step.py --against CHECKOUT                  # beside the authors' own code

A step is `PromptedCLIP.logits` on images, the objective and its backward. "plain" pads all prompts
to 77 tokens and sends them through CLIP's own transformer as one batch. Every variant runs in its
own process on the same weights, images and noise; the first step is not timed. With --against the
other side is the authors' `CustomCLIP`, the two take turns, and a first test is timed as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._ablate import ABLATIONS, ablate  # noqa: E402
from benchmarks._against import against  # noqa: E402
from benchmarks._measure import PeakMemory, floor_flops, matmul_peak, timed  # noqa: E402
from benchmarks._report import device_name, environment, percentiles, write_json  # noqa: E402
from benchmarks._setup import (  # noqa: E402
    BACKBONES,
    TRAINERS,
    class_names,
    plain_logits,
    prompted_clip,
    random_clip,
)
from varprompt.model import PromptedCLIP  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402


def build(args: argparse.Namespace) -> tuple[PromptedCLIP, list[str], dict[str, Tensor]]:
    """Model, class names, and the same images, labels and noise in every process."""
    names = class_names(args.names, args.classes)
    clip_model = random_clip(args.backbone).to(args.device)
    torch.manual_seed(args.seed)
    model = prompted_clip(
        clip_model, names, args.trainer, args.L, precision=args.precision,
        mem_budget=int(args.mem_budget * 1e9),
    )  # fmt: skip
    side, posterior = model.towers.clip.visual.input_resolution, model.prompt_learner.posterior
    rows = args.B if model.prompt_learner.conditional else 1
    shape = posterior and posterior.noise_shape(model.config.n_samples, rows)
    data = {
        "images": torch.randn(args.B, 3, side, side),
        "labels": torch.randint(len(names), (args.B,)),
        "eps": torch.randn(shape or (model.config.n_samples, rows, 1, 1)),
    }
    return model, names, {k: v.to(args.device) for k, v in data.items()}


def step_of(args: argparse.Namespace, model: PromptedCLIP, names: list[str], data: Any) -> Callable:
    """The step of the variant; it returns the logits and leaves gradients in the learner."""
    cfg = ObjectiveConfig("iwae", kl_scale(0.001, "mean", model.n_dims, 1))
    amp = torch.autocast(args.device, _half(args)) if args.precision == "amp" else nullcontext()
    logits_of = partial(plain_logits, model, names) if args.variant == "plain" else model.logits
    size = args.plain_images if args.variant == "plain" else 0

    def step() -> Tensor:
        model.prompt_learner.zero_grad()
        all_logits = []
        for part in _parts(data, size or args.B):
            with amp:
                logits, kl = logits_of(part["images"], eps=part["eps"])
                loss = objective(logits, part["labels"], kl, cfg).loss
            (loss * (len(part["labels"]) / args.B)).backward()
            all_logits.append(logits.detach())
        return torch.cat(all_logits, 1)

    return step


def _half(args: argparse.Namespace) -> torch.dtype:
    """What autocast computes in."""
    return torch.float16 if args.device == "cuda" else torch.bfloat16


def _parts(data: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """The batch in pieces of `size` images."""
    eps = data["eps"]
    for i in range(0, len(data["images"]), size):
        rows = slice(i, i + size)
        yield {
            "images": data["images"][rows],
            "labels": data["labels"][rows],
            "eps": eps[:, rows] if eps.shape[1] > 1 else eps,
        }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one variant in this process; its logits and gradients go to `args.workdir`."""
    device = torch.device(args.device)
    model, names, data = build(args)
    ablate(model, names, args.variant)
    if args.variant == "compiled":
        model.towers.encode_text.compile()
    step = step_of(args, model, names, data)
    repeats = args.plain_repeats if args.variant == "plain" else args.repeats
    logits: list[Tensor] = []
    with PeakMemory(device) as memory:
        step()
        times = [timed(lambda: logits.append(step()), device) for _ in range(repeats)]
    report = {
        "time_s": percentiles([wall for wall, _ in times]),
        "cpu_s": percentiles([cpu for _, cpu in times]),
        "peak_bytes": memory.peak,
        "repeats": repeats,
    }
    gradients = {n: p.grad for n, p in model.prompt_learner.named_parameters()}
    gradients = {n: g for n, g in gradients.items() if g is not None}
    save_file({"logits": logits[-1].contiguous(), **gradients}, args.workdir / args.variant)
    if args.variant == "fast":
        images = [timed(lambda: model.encode_image(data["images"]), device)
                  for _ in range(repeats)]  # fmt: skip
        n_prompts = model.config.n_samples * data["eps"].shape[1]
        report |= {
            "image_time_s": percentiles([wall for wall, _ in images]),
            "image_cpu_s": percentiles([cpu for _, cpu in images]),
            "text_floor_flops": floor_flops(model, names, n_prompts),
            "matmul_flops_per_s": matmul_peak(
                device, _half(args) if args.precision == "amp" else model.towers.encode_text.dtype
            ),
            "slots": model.tokens.n_tiles * model.tokens.tile,
            "chunks": model.towers.encode_text._chunk(n_prompts, model.tokens),
        }
    return report


def differences(workdir: Path, variant: str, reference: str) -> dict[str, float]:
    """Largest difference of logits over their scale, and of gradients in relative norm."""
    got, want = (load_file(workdir / name) for name in (variant, reference))
    logits = (got.pop("logits") - want.pop("logits")).abs().max().item() / 100
    got, want = (torch.cat([g[n].flatten().double() for n in want]) for g in (got, want))
    return {"logits": logits, "gradient": ((got - want).norm() / want.norm()).item()}


def run(args: argparse.Namespace, variant: str, folder: str) -> dict[str, Any]:
    """Measure `variant` in a process of its own."""
    command = [sys.executable, *sys.argv, "--variant", variant, "--workdir", folder]
    subprocess.run(command, check=True)  # noqa: S603 - this file
    row = json.loads((Path(folder) / f"{variant}.json").read_text(encoding="utf-8"))
    if "out_of_memory" in row:
        print(f"{variant:17} {row['out_of_memory']}")
    else:
        print(f"{variant:17} {row['time_s']['p50']:8.3f} s  {row['peak_bytes'] / 1e6:8.1f} MB")
    return row


def main() -> None:
    """Run every variant in its own process, compare, write JSON."""
    args = _arguments()
    if args.variant:
        try:
            row = measure(args)
        except torch.OutOfMemoryError as error:
            row = {"out_of_memory": str(error).splitlines()[0]}
        write_json(args.workdir / f"{args.variant}.json", row)
        return
    if args.against:
        report = {"setting": _setting(args), **against(args)}
        print(report["step"]["ratio"], report["step"]["floor"], report["first_test"])
        if args.output:
            write_json(args.output, report)
        return
    report = {
        "environment": environment(torch.device(args.device)),
        "setting": _setting(args),
    }
    names = [*["plain"] * (args.plain_repeats > 0), "fast", *["compiled"] * args.compile]
    if args.ablate is not None:
        names += args.ablate or ABLATIONS
    with tempfile.TemporaryDirectory() as folder:
        rows = report["variants"] = {name: run(args, name, folder) for name in names}
        done = [name for name in names if "out_of_memory" not in rows[name]]
        for name in done[1:]:
            rows[name][f"difference_to_{done[0]}"] = differences(Path(folder), name, done[0])
    if done[:2] == ["plain", "fast"]:
        plain, fast = rows["plain"], rows["fast"]
        report["plain_over_fast"] = {
            "time": plain["time_s"]["p50"] / fast["time_s"]["p50"],
            "cpu_time": plain["cpu_s"]["p50"] / fast["cpu_s"]["p50"],
            "peak_memory": plain["peak_bytes"] / fast["peak_bytes"],
        }
        print(report["plain_over_fast"], fast["difference_to_plain"])
    if args.output:
        write_json(args.output, report)


def _setting(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, without what only says where things lie."""
    hidden = ("variant", "workdir", "output", "against")
    return {k: v for k, v in vars(args).items() if k not in hidden}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", choices=TRAINERS, default="VPT")
    parser.add_argument("--backbone", choices=BACKBONES, default="ViT-B/16")
    parser.add_argument("--names", default="oxford_pets", help="oxford_pets, imagenet or a file")
    parser.add_argument("--classes", type=int, default=19, help="C, the first of the names")
    parser.add_argument("-L", type=int, default=10)
    parser.add_argument("-B", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "amp"), default="fp32")
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu or cuda")
    parser.add_argument("--mem-budget", type=float, default=0, help="GB, 0 = automatic")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain-repeats", type=int, default=1, help="0 = without the plain path")
    parser.add_argument("--plain-images", type=int, default=0,
                        help="images at once on the plain path if memory is short, 0 = all; its "
                        "peak memory is then that of a part of the step")  # fmt: skip
    parser.add_argument("--ablate", nargs="*", choices=ABLATIONS,
                        help="ideas to leave out, one at a time; none named = all")  # fmt: skip
    parser.add_argument("--compile", action="store_true",
                        help="also with torch.compile for the text tower")  # fmt: skip
    parser.add_argument("--against", metavar="CHECKOUT",
                        help="VPT in fp32 on the CPU beside the authors' code there")  # fmt: skip
    parser.add_argument("--test-classes", type=int, default=37, help="of the first test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="JSON file")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
