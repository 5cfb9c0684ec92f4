"""Time of a training step on several processes of one thread each, beside one.

    python benchmarks/ranks.py                       # VPT, C = 500, L = 10, 1 and 2 processes
    python benchmarks/ranks.py --ranks 1 2 4 --classes 100

The processes are forked from one that has built the model, pinned to a core each, and take turns
with the process alone: one repeat of each in every round. What counts is the slowest process: on
the clock, and in processor seconds, in which neither other programs nor waiting count.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from benchmarks._measure import timed  # noqa: E402
from benchmarks._report import environment, percentiles, write_json  # noqa: E402
from benchmarks._setup import BACKBONES, TRAINERS, prompted_clip, random_clip  # noqa: E402
from benchmarks._setup import class_names as names_of  # noqa: E402
from varprompt.common.ranks import joined  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402
from varprompt.towers.spread import SpreadTextEncoder  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--trainer", choices=TRAINERS, default="VPT")
    p.add_argument("--backbone", choices=BACKBONES, default="ViT-B/16")
    p.add_argument("--classes", type=int, default=500)
    p.add_argument("-L", type=int, default=10)
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--json", metavar="FILE")
    return p


def main() -> None:
    """Measure, print, write."""
    args = parser().parse_args()
    torch.set_num_threads(1)
    names = names_of("imagenet", args.classes)
    torch.manual_seed(0)
    model = prompted_clip(random_clip(args.backbone), names, args.trainer, args.L)
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in args.ranks}
    for _ in range(args.repeats):
        for size in args.ranks:
            times[size].append(slowest(model, size))
    rows: dict[str, dict[str, Any]] = {}
    for place, unit in enumerate(("seconds", "processor_seconds")):
        found = {size: percentiles([pair[place] for pair in own]) for size, own in times.items()}
        alone = found[args.ranks[0]]["p50"]
        for size, row in found.items():
            rows.setdefault(str(size), {})[unit] = row | {"times": alone / row["p50"]}
            print(
                f"{size} processes: {row['p50']:.2f} {unit} a step, {alone / row['p50']:.2f} times"
            )
    if args.json:
        options = {key: value for key, value in vars(args).items() if key != "json"}
        report = {
            "options": options,
            "ranks": rows,
            "environment": environment(torch.device("cpu")),
        }
        write_json(args.json, report)


def slowest(model: Any, size: int) -> tuple[float, float]:
    """Seconds and processor seconds of the second step on `size` processes, the most of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for number in range(size):
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                os.write(write, "{} {}".format(*second_step(model, number, size, port)).encode())
            finally:
                os._exit(0)  # whatever happened: the copy of this program ends here
        os.close(write)
        found.append(read)
    pairs = [tuple(map(float, (os.read(read, 100) or b"nan nan").split())) for read in found]
    for _ in found:
        os.wait()
    wall, processor = (max(own) for own in zip(*pairs, strict=True))
    return wall, processor


def second_step(model: Any, number: int, size: int, port: int) -> tuple[float, float]:
    """In a forked process: its seconds, and those of the processor."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    os.environ |= {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "benchmark",
    }  # fmt: skip
    with joined(use_cuda=False) as ranks:
        towers = model.towers
        if ranks.size > 1:
            towers.encode_text = SpreadTextEncoder(towers.encode_text, ranks)
        features = torch.nn.functional.normalize(
            torch.randn(1, towers.clip.visual.output_dim), dim=-1
        )
        cfg = ObjectiveConfig("iwae", kl_scale(0.001, "mean", model.n_dims, 1))

        def step() -> None:
            model.prompt_learner.zero_grad()
            noise = torch.Generator().manual_seed(0)
            logits, kl = model.logits_of(features, generator=noise)
            objective(logits, torch.zeros(1, dtype=torch.long), kl, cfg).loss.backward()

        step()
        ranks.any(False)
        return timed(step, torch.device("cpu"))


if __name__ == "__main__":
    main()
