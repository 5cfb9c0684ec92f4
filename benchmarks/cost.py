"""What every trainer costs on every data set, on this machine: the rows of cost.csv.

    python benchmarks/cost.py                  # all, into varprompt/data/cost.csv
    python benchmarks/cost.py --datasets dtd --trainers VPT CoOp --repeats 3
    python benchmarks/cost.py --device cuda --precision fp16

True numbers of classes, samples and images (the official trainings on the base classes, see
varprompt/commands/cost.py), a CLIP of true size with random weights, names as long as ImageNet's,
images of noise. The image tower without prompts is timed once for each batch size, whatever the
trainer, and added; everything else is timed in each row: the median of --repeats steps after a
first one, or that one if it takes longer than 8 s. Seconds are those on the clock, but of one
thread on a CPU those of the processor, so that other programs do not count. Peak memory is above
that of the weights. Each row is written as soon as it is measured, and replaces the one before for
the same device; --missing measures only what is not there. What would take longer than --limit
seconds is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks._measure import PeakMemory, undisturbed  # noqa: E402
from benchmarks._report import device_name, environment, percentiles  # noqa: E402
from benchmarks._setup import BACKBONES, TERMS, prompted_clip, random_clip  # noqa: E402
from varprompt.commands.cost import MEASURED, names_like  # noqa: E402
from varprompt.commands.official import CLASSES, TRAINERS, Work, work_of  # noqa: E402
from varprompt.common.files import write_atomic  # noqa: E402
from varprompt.model import PromptedCLIP, text_features  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402
from varprompt.regularisers import Frozen, regularise  # noqa: E402

FIELDS = (
    "dataset", "trainer", "classes", "L", "batch", "steps", "device", "threads", "precision",
    "s_step", "peak_mib", "ms_image", "hours", "repeats", "date", "commit",
)  # fmt: skip
KEY = ("dataset", "trainer", "L", "device", "threads", "precision")
N_TEST = 4  # images
LONG = 8.0  # seconds: such a step is timed as it comes, whatever it loses to memory that is new


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
    p.add_argument("--missing", action="store_true", help="keep the rows that there are")
    p.add_argument("--limit", type=float, default=120, help="seconds of a row, first step included")
    p.add_argument("--output", type=Path, default=MEASURED, help="default: %(default)s")
    return p


def main() -> None:
    """Measure and write row by row."""
    args = parser().parse_args()
    machine = Measured(args)
    works = [work_of(d, t) for d in args.datasets for t in args.trainers]
    if args.missing:
        works = [work for work in works if not machine.known(work)]
    # the cheap ones first, so that what is cut off is little
    for work in tqdm(sorted(works, key=lambda w: w.classes * w.prompts), disable=None):
        row = machine.row(work)
        if row is None:
            print(f"left out: {work.trainer} on {work.dataset} takes too long")
        else:
            add(args.output, row)
            print(f"{work.trainer:11} {work.dataset:15} {row['s_step']} s {row['peak_mib']} MiB")


class Measured:
    """Models of one CLIP on one device, and the time of its image tower, which is taken once.

    Args:
        args: of the command line.
    """

    def __init__(self, args: argparse.Namespace):
        self.args, self.device = args, torch.device(args.device)
        self.clip = random_clip(args.backbone).to(self.device)
        self.side = self.clip.visual.input_resolution
        self.image_times: dict[int, float] = {}

    def image_s(self, model: PromptedCLIP, count: int) -> float:
        """Seconds of the image tower without prompts for `count` images: no trainer changes it."""
        if count not in self.image_times:
            images = self.images(count)
            self.image_times[count] = self.median(lambda: model.towers.encode_image(images), 1)
        return self.image_times[count]

    def images(self, count: int) -> Tensor:
        """Images of noise `(count, 3, side, side)`."""
        return torch.randn(count, 3, self.side, self.side, device=self.device)

    def median(self, work: Callable[[], Any], first: float) -> float:
        """Seconds of `work`; what took longer than `LONG` the first time is timed once."""
        repeats = 1 if first > LONG else self.args.repeats
        return percentiles([undisturbed(work, self.device) for _ in range(repeats)])["p50"]

    def row(self, work: Work) -> dict[str, Any] | None:
        """The row of a training; None if it takes longer than the limit."""
        names = names_like(work.dataset, work.classes)
        model = prompted_clip(
            self.clip, names, work.trainer, work.samples, precision=self.args.precision
        )
        moved = TRAINERS[work.trainer].n_visual > 0  # images need a gradient
        images = self.images(work.batch if moved else 1)
        step = self.step_of(model, images, work, names)
        with PeakMemory(self.device) as memory:
            first = undisturbed(step, self.device)
            if first * (1 + (first <= LONG) * self.args.repeats) > self.args.limit:
                return None
            seconds = first if first > LONG else self.median(step, first)
        if not moved:
            seconds += self.image_s(model, work.batch)
        return self.described(work, seconds, memory.peak, self.test_s(model, work))

    def step_of(
        self, model: PromptedCLIP, images: Tensor, work: Work, names: list[str]
    ) -> Callable[[], None]:
        """A training step; without the image tower where its features have no gradient."""
        count, terms = work.batch, TERMS.get(work.trainer, {})
        labels = torch.zeros(count, dtype=torch.long, device=self.device)
        cfg = ObjectiveConfig("iwae", kl_scale(0.001, "mean", model.n_dims, 1))
        frozen = model.towers.encode_image(images).expand(count, -1)
        text = text_features(model.towers, names, ["a photo of a {}."]) if terms else None

        def step() -> None:
            model.prompt_learner.zero_grad()
            features = model.encode_image(images) if model.config.has_visual else frozen
            out = model.outputs(features, images=images)
            loss = objective(out.logits, labels, out.kl, cfg).loss
            if text is not None:
                near = model.towers.encode_image(images) if model.config.has_visual else frozen
                loss = loss + sum(regularise(out, Frozen(text, near, model.scale), terms).values())
            loss.backward()

        return step

    def test_s(self, model: PromptedCLIP, work: Work) -> float:
        """Seconds of an image at test, when texts that all images share are encoded."""
        if not TRAINERS[work.trainer].conditional:
            images = self.images(N_TEST)
            if not model.config.has_visual:
                return self.image_s(model, N_TEST) / N_TEST
            return undisturbed(lambda: model.encode_test_image(images), self.device) / N_TEST
        feature = model.towers.encode_image(self.images(1))
        predictor = model.predictor()
        texts = undisturbed(lambda: predictor(feature), self.device)
        return texts + self.image_s(model, N_TEST) / N_TEST

    def known(self, work: Work) -> bool:
        """Whether the file has the row of this device."""
        new = self.described(work, 0, 0, 0)
        return any(all(row[k] == str(new[k]) for k in KEY) for row in rows_of(self.args.output))

    def described(self, work: Work, step: float, peak: int, test: float) -> dict[str, Any]:
        """The row."""
        where = environment(self.device)
        return {
            "dataset": work.dataset, "trainer": work.trainer, "classes": work.classes,
            "L": work.samples, "batch": work.batch, "steps": work.steps,
            "device": where["gpu"] or where["cpu"], "threads": torch.get_num_threads(),
            "precision": self.args.precision, "s_step": f"{step:.4f}",
            "peak_mib": round(peak / 2**20), "ms_image": f"{1000 * test:.1f}",
            "hours": f"{step * work.steps / 3600:.2f}", "repeats": self.args.repeats,
            "date": where["date"][:10], "commit": (where["commit"] or "")[:12],
        }  # fmt: skip


def rows_of(file: Path) -> list[dict[str, str]]:
    """What a file has; nothing if there is none."""
    if not file.is_file():
        return []
    with open(file, encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def add(file: Path, row: dict[str, Any]) -> None:
    """Write `row` in the place of the one for the same training and device."""
    rows = rows_of(file)
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
