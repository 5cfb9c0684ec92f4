"""Time and peak memory of a training step against the number of prompts L x C, under a budget.

    python benchmarks/scaling.py --output benchmarks/results/scaling_cpu.json

Runs benchmarks/step.py for every C (ImageNet's class names, repeated beyond 1000) and draws the
result beside the JSON file, as a PNG of the same name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._report import device_name, environment, write_json  # noqa: E402
from benchmarks._setup import BACKBONES  # noqa: E402

CLOCKS = {"time_s": "seconds", "cpu_s": "processor seconds"}


def measure(args: argparse.Namespace, n_classes: int, folder: str) -> dict[str, Any]:
    """One point: C, L x C, seconds, bytes, and the chunks of samples and tiles."""
    out = Path(folder) / f"{n_classes}.json"
    command = [
        sys.executable, str(ROOT / "benchmarks/step.py"), "--backbone", args.backbone,
        "--names", "imagenet", "--classes", str(n_classes), "-L", str(args.L),
        "--mem-budget", str(args.mem_budget), "--device", args.device,
        "--precision", args.precision, "--plain-repeats", "0", "--repeats", str(args.repeats),
        "--output", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)  # noqa: S603 - a script of this folder
    row = json.loads(out.read_text(encoding="utf-8"))["variants"]["fast"]
    keys = ("time_s", "cpu_s", "peak_bytes", "slots", "chunks")
    return {"C": n_classes, "prompts": args.L * n_classes, **{k: row[k] for k in keys}}


def growth(points: list[dict[str, Any]], clock: str) -> dict[str, float]:
    """Exponents of L x C between the last two points: 1 is linear."""
    a, b = points[-2:]
    base = torch.tensor(b["prompts"] / a["prompts"]).log()
    ratios = {
        "time": b[clock]["p50"] / a[clock]["p50"],
        "memory": b["peak_bytes"] / a["peak_bytes"],
    }
    return {k: (torch.tensor(v).log() / base).item() for k, v in ratios.items()}


def draw(points: list[dict[str, Any]], clock: str, budget_gb: float, path: Path) -> None:
    """Time and memory over the number of prompts, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x = [p["prompts"] for p in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.loglog(x, [p[clock]["p50"] for p in points], "o-", label="measured")
    last = points[-1]
    left.loglog(x, [last[clock]["p50"] * n / last["prompts"] for n in x], ":", color="grey",
                label="proportional to L x C")  # fmt: skip
    left.set(xlabel="prompts, L x C", ylabel=f"{CLOCKS[clock]} per step")
    right.loglog(x, [p["peak_bytes"] / 1e9 for p in points], "o-", label="measured")
    right.axhline(budget_gb, linestyle="--", color="grey", label="budget of activations")
    right.set(xlabel="prompts, L x C", ylabel="peak memory of a step, GB")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every point in processes of its own, write JSON and PNG."""
    args = _arguments()
    clock = "time_s" if torch.device(args.device).type == "cuda" else "cpu_s"
    with tempfile.TemporaryDirectory() as folder:
        points = [measure(args, n, folder) for n in args.classes]
    write_json(args.output, {
        "environment": environment(torch.device(args.device)),
        "setting": {k: v for k, v in vars(args).items() if k != "output"},
        "points": points,
        "exponents": growth(points, clock),
    })  # fmt: skip
    draw(points, clock, args.mem_budget, Path(args.output).with_suffix(".png"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", choices=BACKBONES, default="tiny")
    parser.add_argument("--classes", type=int, nargs="+", help="values of C, ascending",
                        default=[10, 50, 200, 1000, 5000, 21000])  # fmt: skip
    parser.add_argument("-L", type=int, default=10)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu or cuda")
    parser.add_argument("--mem-budget", type=float, default=2, help="GB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", required=True, help="JSON file; the figure goes beside it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
