"""What every trainer costs on every data set, on this machine: the rows of cost.csv.

    python benchmarks/cost.py                  # all, into varprompt/data/cost.csv
    python benchmarks/cost.py --datasets dtd --trainers VPT CoOp --repeats 3
    python benchmarks/cost.py --device cuda --precision fp16

True numbers of classes, samples and images (the official trainings on the base classes, see
varprompt/cost.py), a CLIP of true size with random weights, names as long as ImageNet's, images of
noise. The first step is not timed; each row is written as soon as it is measured, and replaces the
one before for the same device. What would take longer than --limit seconds is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks._measure import PeakMemory, timed  # noqa: E402
from benchmarks._report import device_name, environment, percentiles  # noqa: E402
from benchmarks._setup import BACKBONES, prompted_clip, random_clip  # noqa: E402
from varprompt.cost import CLASSES, MEASURED, TRAINERS, Work, names_like, work_of  # noqa: E402
from varprompt.files import write_atomic  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402

FIELDS = (
    "dataset", "trainer", "classes", "L", "batch", "steps", "device", "threads", "precision",
    "s_step", "peak_mib", "ms_image", "hours", "repeats", "date", "commit",
)  # fmt: skip
KEY = ("dataset", "trainer", "L", "device", "threads", "precision")
N_TEST = 4  # images


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--datasets", nargs="+", choices=CLASSES, default=list(CLASSES))
    p.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    p.add_argument("--backbone", choices=BACKBONES, default="ViT-B/16")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--device", type=device_name, default="cpu", help="cpu or cuda")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--limit", type=float, default=120, help="seconds of a row, first step included")
    p.add_argument("--output", type=Path, default=MEASURED, help="default: %(default)s")
    return p


def main() -> None:
    """Measure and write row by row."""
    args = parser().parse_args()
    clip_model = random_clip(args.backbone).to(args.device)
    works = [work_of(d, t) for d in args.datasets for t in args.trainers]
    # the cheap ones first, so that what is cut off is little
    for work in tqdm(sorted(works, key=lambda w: w.classes * w.prompts), disable=None):
        row = measure(work, clip_model, args)
        if row is None:
            print(f"left out: {work.trainer} on {work.dataset} takes too long")
        else:
            add(args.output, row)
            print(f"{work.trainer:11} {work.dataset:15} {row['s_step']} s {row['peak_mib']} MiB")


def measure(work: Work, clip_model: Any, args: argparse.Namespace) -> dict[str, Any] | None:
    """The row of a training; None if it takes longer than the limit."""
    device = torch.device(args.device)
    names = names_like(work.dataset, work.classes)
    model = prompted_clip(
        clip_model, names, work.trainer, work.samples, precision=args.precision
    )  # fmt: skip
    side = model.towers.clip.visual.input_resolution
    images = torch.randn(max(work.batch, N_TEST), 3, side, side, device=device)
    labels = torch.zeros(work.batch, dtype=torch.long, device=device)
    cfg = ObjectiveConfig("iwae", kl_scale(0.001, "mean", model.n_dims, 1))

    def step() -> None:
        model.prompt_learner.zero_grad()
        logits, kl = model.logits(images[: work.batch])
        objective(logits, labels, kl, cfg).loss.backward()

    with PeakMemory(device) as memory:
        first, _ = timed(step, device)
        if first * (args.repeats + 1) > args.limit:
            return None
        seconds = percentiles([timed(step, device)[0] for _ in range(args.repeats)])["p50"]
    predictor = model.predictor()
    test, _ = timed(lambda: predictor(model.towers.encode_image(images[:N_TEST])), device)
    where = environment(device)
    return {
        "dataset": work.dataset, "trainer": work.trainer, "classes": work.classes,
        "L": work.samples, "batch": work.batch, "steps": work.steps,
        "device": where["gpu"] or where["cpu"], "threads": torch.get_num_threads(),
        "precision": args.precision, "s_step": f"{seconds:.4f}",
        "peak_mib": round(memory.peak / 2**20), "ms_image": f"{1000 * test / N_TEST:.1f}",
        "hours": f"{seconds * work.steps / 3600:.2f}", "repeats": args.repeats,
        "date": where["date"][:10], "commit": (where["commit"] or "")[:12],
    }  # fmt: skip


def add(file: Path, row: dict[str, Any]) -> None:
    """Write `row` in the place of the one for the same training and device."""
    rows = []
    if file.is_file():
        with open(file, encoding="utf-8", newline="") as old:
            rows = list(csv.DictReader(old))
    text = {key: str(value) for key, value in row.items()}
    rows = [other for other in rows if any(other[key] != text[key] for key in KEY)]
    order = list(CLASSES), list(TRAINERS)
    rows.append(text)
    rows.sort(
        key=lambda r: (r["device"], order[0].index(r["dataset"]), order[1].index(r["trainer"]))
    )
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(file, lambda stream: stream.write(out.getvalue().encode()))


if __name__ == "__main__":
    main()
