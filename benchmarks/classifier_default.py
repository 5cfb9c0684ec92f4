"""What PromptClassifier should learn by default, on its own recipe.

    python benchmarks/classifier_default.py
    python benchmarks/classifier_default.py --report --against templates
    python benchmarks/classifier_default.py --step

Tasks are the validation draws of benchmarks/mixture.py: 16 images of each base class, a fifth of
them held out for the temperature, as `fit` does it. Compared are one Gaussian around "a photo of
a", and points around six templates: those of the default, of unlike shape, and six of one shape
that the embedded tiny CLIP was trained on; and each of them with prompts that begin a fifth of the
way to the words of their class, as the default's do. That fifth was chosen on draws 901 and 903.
The JSON is written anew after each task; a second call goes on. With --step it is seconds of one
step on 32 images of OxfordPets' 19 base classes, random weights of the size of ViT-B/16, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from benchmarks._measure import undisturbed  # noqa: E402
from benchmarks._mixture_rows import TEMPLATES as CAPTIONS  # noqa: E402
from benchmarks._mixture_tasks import VALIDATION_SEEDS, Task, draw, towers  # noqa: E402
from benchmarks._report import environment, percentiles, write_json  # noqa: E402
from benchmarks._rows import Row, guarded, read, rounded, write  # noqa: E402
from benchmarks._setup import class_names, random_clip  # noqa: E402
from benchmarks._uncertainty_report import markdown, number  # noqa: E402
from varprompt.classifier import PromptClassifier  # noqa: E402
from varprompt.classifier.fitting import fitted, starting  # noqa: E402
from varprompt.classifier.given import Labelled  # noqa: E402
from varprompt.classifier.learned import Learned  # noqa: E402
from varprompt.classifier.recipe import (  # noqa: E402
    CLASS_WORDS,
    RATE,
    learn,
    resolved,
    steps,
)
from varprompt.common.console import out, say  # noqa: E402
from varprompt.embedded.sets import SETS  # noqa: E402
from varprompt.errors import ConfigError  # noqa: E402
from varprompt.report.stats import mean_interval  # noqa: E402
from varprompt.towers.load import load_clip  # noqa: E402
from varprompt.uncertainty import accuracy, ece, nll  # noqa: E402

RESULTS = ROOT / "benchmarks/results/classifier_default.json"
KEY = ("dataset", "seed", "kind")
STEP = RESULTS.with_name("classifier_step_cpu.json")
SHOTS, SEED = 16, 0  # images of a class; seed of what is drawn while learning
GAINS = ("base/accuracy", "new/accuracy", "base/nll", "new/nll", "base/ece", "new/ece")
FIGURES = ("base/accuracy", "base/nll", "base/ece", "new/accuracy", "new/nll", "new/ece", "fit_s")


def kinds() -> dict[str, dict[str, Any]]:
    """Parameters of the classifiers that are compared, by name."""
    return {
        "gaussian": {"posterior": "gaussian"},
        "gaussian, words": {"posterior": "gaussian", "class_words": CLASS_WORDS},
        "templates": {"class_words": 0.0},
        "default": {},
        "captions": {"templates": CAPTIONS, "class_words": 0.0},
        "captions, words": {"templates": CAPTIONS},
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--report", action="store_true", help="the table of what is there")
    p.add_argument("--step", action="store_true", help="seconds of a step at the size of ViT-B/16")
    p.add_argument("--repeats", type=int, default=5, help="of --step; default: %(default)s")
    p.add_argument("--against", default="gaussian", choices=list(kinds()), metavar="KIND",
                   help="what gains are over; default: %(default)s")  # fmt: skip
    p.add_argument("--seeds", type=int, nargs="+", default=VALIDATION_SEEDS,
                   choices=VALIDATION_SEEDS, help="default: all four")  # fmt: skip
    p.add_argument("--datasets", nargs="+", default=list(SETS), choices=SETS, metavar="NAME")
    p.add_argument("--data", type=Path, default=ROOT / "data/mixture",
                   help="features are kept here; default: %(default)s")  # fmt: skip
    p.add_argument("--output", type=Path,
                   help=f"JSON file; default: {RESULTS.name}, of --step {STEP.name}")  # fmt: skip
    return p


def step_seconds(args: argparse.Namespace, backbone: str = "ViT-B/16") -> dict[str, Any]:
    """Processor seconds of a step of each kind on one thread, and their ratio to "gaussian"."""
    torch.set_num_threads(1)
    clip, names = random_clip(backbone), class_names("oxford_pets", 19)
    clip.provenance = load_clip("embedded").provenance  # random weights have none
    features = F.normalize(torch.randn(32, clip.text_projection.shape[1]), dim=-1)
    labels, device = torch.arange(32) % len(names), torch.device("cpu")
    work = {}
    for name, kind in kinds().items():
        asked = PromptClassifier(device="cpu", progress=False, seed=SEED, **kind)
        start, rms = starting(clip, np.arange(len(names)), names, resolved(asked.get_params()))
        one = steps(rms, len(labels), len(labels), 1, RATE, seed=SEED, progress=False)
        work[name] = partial(learn, start.model, features, labels, one)
    found: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(args.repeats + 1):
        for name, step in work.items():
            seconds = undisturbed(step, device)
            if turn:
                found[name].append(seconds)
        say(f"round {turn} of {args.repeats}")
    first = percentiles(found["gaussian"])["p50"]
    return {"environment": environment(device), "backbone": backbone, "kinds": {
        name: {"step_s": percentiles(own), "ratio": rounded(percentiles(own)["p50"] / first)}
        for name, own in found.items()
    }}  # fmt: skip


class Encoded(Learned):
    """Whose images are features already."""

    def encode(self, images: Any, n_workers: int = 0, progress: bool = True) -> Tensor:
        """The images."""
        return torch.stack(list(images))


def learned(task: Task, kind: dict[str, Any], clip: Any) -> Learned:
    """What `PromptClassifier.fit` learns of the task, with its temperature."""
    names, labels = task.names["base"], task.train.labels
    asked = PromptClassifier(device="cpu", progress=False, seed=SEED, **kind)
    given = resolved(asked.get_params())
    start, rms = starting(clip, np.arange(len(names)), names, given)
    train = Labelled(list(task.train.features), labels.numpy())
    return fitted(Encoded(**vars(start)), rms, train, labels, None, given)


def figures(task: Task, kind: dict[str, Any], clip: Any) -> Row:
    """Accuracy and ECE in %, NLL in nats, of base and new classes; seconds of learning."""
    started = time.process_time()
    model = learned(task, kind, clip)
    row: Row = {"fit_s": time.process_time() - started}
    for part, images in task.test.items():
        own = model if part == "base" else model.of_other_classes(task.names[part])
        found = torch.from_numpy(own.predict(images.features).prob).clamp(min=1e-12).log()
        confidence, predicted = found.exp().max(-1)
        row |= {
            f"{part}/accuracy": 100 * accuracy(found, images.labels),
            f"{part}/nll": nll(found, images.labels),
            f"{part}/ece": 100 * ece(confidence, predicted == images.labels).item(),
        }
    return {name: rounded(value) for name, value in row.items()}


def measure(args: argparse.Namespace) -> None:
    """Run what is missing in `args.output`.

    Raises:
        ConfigError: it is a file of something else.
    """
    torch.set_num_threads(1)
    rows, clip = read(args.output, KEY), towers()
    done = {tuple(row[name] for name in KEY) for row in rows}
    args.data.mkdir(parents=True, exist_ok=True)
    head = {"environment": environment(torch.device("cpu"))}
    for seed in args.seeds:
        for dataset in args.datasets:
            task = draw(dataset, seed, SHOTS, clip, args.data)
            for name, kind in kinds().items():
                key = (dataset, seed, name)
                if key not in done:
                    rows.append(dict(zip(KEY, key, strict=True)) | figures(task, kind, clip.clip))
            write(args.output, rows, head, KEY)
            say(f"{dataset}, seed {seed}")


def table(rows: Sequence[Row], against: str = "gaussian") -> str:
    """Means over tasks, and what each kind gains over another, with intervals over tasks."""
    by_kind: dict[str, dict[tuple, Row]] = {row["kind"]: {} for row in rows}
    for row in rows:
        by_kind[row["kind"]][row["dataset"], row["seed"]] = row
    lines = []
    for kind, own in by_kind.items():
        means = [number(statistics.fmean(r[key] for r in own.values()), 3) for key in FIGURES]
        gains = [gain(own, by_kind[against], key) for key in GAINS]
        lines.append([kind, *means, *(["-"] * len(GAINS) if kind == against else gains)])
    return markdown(["kind", *FIGURES, *(f"{key}, more" for key in GAINS)], lines)


def gain(own: dict[tuple, Row], first: dict[tuple, Row], key: str) -> str:
    """Mean paired difference, half its 95 % interval, and the tasks with more."""
    found = [own[task][key] - first[task][key] for task in sorted(own.keys() & first.keys())]
    mean, half = mean_interval(found)
    spread = "" if half is None else f" ± {half:.3g}"
    return f"{mean:+.3g}{spread}, {sum(value > 0 for value in found)} of {len(found)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured; 2 for input that cannot be."""
    args = parser().parse_args(argv)
    args.output = args.output or (STEP if args.step else RESULTS)

    def work() -> None:
        if args.step:
            found = step_seconds(args)
            write_json(args.output, found)
            out(json.dumps(found["kinds"], indent=1))
        elif args.report:
            rows = read(args.output, KEY)
            if not any(row["kind"] == args.against for row in rows):
                raise ConfigError(f"{args.output} has no rows of {args.against} yet")
            out(table(rows, args.against))
        else:
            measure(args)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
