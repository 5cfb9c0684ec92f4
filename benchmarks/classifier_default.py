"""Whether several templates would be a better default of PromptClassifier, on its own recipe.

    python benchmarks/classifier_default.py
    python benchmarks/classifier_default.py --report

Tasks are the validation draws of benchmarks/mixture.py: 16 images of each base class, a fifth of
them held out for the temperature, as `fit` does it. Compared are the default, one Gaussian around
"a photo of a", and points around six templates: those of configs/trainers/VPT's
vit_b16_c4_ep50_mixture, which a default for OpenAI's CLIPs would have, and six that the embedded
tiny CLIP was trained on. The JSON is written anew after each task; a second call goes on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from benchmarks._mixture_rows import TEMPLATES  # noqa: E402
from benchmarks._mixture_tasks import VALIDATION_SEEDS, Task, draw, towers  # noqa: E402
from benchmarks._report import environment  # noqa: E402
from benchmarks._rows import Row, guarded, read, rounded, write  # noqa: E402
from benchmarks._uncertainty_report import markdown, number  # noqa: E402
from varprompt.classifier import recipe  # noqa: E402
from varprompt.classifier.given import hold_out  # noqa: E402
from varprompt.classifier.learned import Learned, Pixels  # noqa: E402
from varprompt.common.console import out, say  # noqa: E402
from varprompt.embedded.sets import SETS  # noqa: E402
from varprompt.errors import ConfigError  # noqa: E402
from varprompt.model import PromptedCLIP  # noqa: E402
from varprompt.towers.templates import token_rms  # noqa: E402
from varprompt.uncertainty import accuracy, ece, nll  # noqa: E402

RESULTS = ROOT / "benchmarks/results/classifier_default.json"
KEY = ("dataset", "seed", "kind")
SHOTS, SEED = 16, 0  # images of a class; seed of what is drawn while learning
WORDS = "a photo of a"
FIGURES = ("base/accuracy", "base/nll", "base/ece", "new/accuracy", "new/nll", "new/ece", "fit_s")


def kinds() -> dict[str, tuple[str, ...]]:
    """Templates of each kind; none of the default."""
    file = ROOT / "configs/trainers/VPT/vit_b16_c4_ep50_mixture.yaml"
    node = yaml.safe_load(file.read_text(encoding="utf-8"))["TRAINER"]["VPT"]
    return {"default": (), "photos": tuple(node["TEMPLATES"]), "embedded": TEMPLATES}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--report", action="store_true", help="the table of what is there")
    p.add_argument("--seeds", type=int, nargs="+", default=VALIDATION_SEEDS[:2],
                   choices=VALIDATION_SEEDS, help="default: the first two")  # fmt: skip
    p.add_argument("--datasets", nargs="+", default=list(SETS), choices=SETS, metavar="NAME")
    p.add_argument("--data", type=Path, default=ROOT / "data/mixture",
                   help="features are kept here; default: %(default)s")  # fmt: skip
    p.add_argument("--output", type=Path, default=RESULTS, help="JSON file; default: %(default)s")
    return p


def learned(task: Task, texts: tuple[str, ...], clip: Any) -> Learned:
    """What `PromptClassifier.fit` learns of the task, with its temperature."""
    names, train = task.names["base"], task.train
    around = [text.replace("{}", "") for text in texts] or [WORDS]
    rms = token_rms(clip, [f"{words} {name}" for words in around for name in names])
    config = recipe.prompt_config(
        rms, "cpu", precision="fp32", ctx_init=WORDS, templates=texts, component="delta",
        posterior="mixture" if texts else "gaussian", n_samples=4, n_samples_test=16,
        test_seed=SEED,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = PromptedCLIP(clip, names, config)
    held = hold_out(train.labels, 0.2, SEED)
    steps = recipe.steps(rms, int((~held).sum()), 32, None, recipe.RATE,
                         n_parts=len(texts or [()]), seed=SEED, progress=False)  # fmt: skip
    recipe.learn(model, train.features[~held], train.labels[~held], steps)
    found = Learned(model, np.arange(len(names)), names, Pixels.of(clip))
    return found.calibrated(train.features[held], train.labels[held])


def figures(task: Task, texts: tuple[str, ...], clip: Any) -> Row:
    """Accuracy and ECE in %, NLL in nats, of base and new classes; seconds of learning."""
    started = time.process_time()
    model = learned(task, texts, clip)
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
            for kind, texts in kinds().items():
                key = (dataset, seed, kind)
                if key not in done:
                    rows.append(dict(zip(KEY, key, strict=True)) | figures(task, texts, clip.clip))
            write(args.output, rows, head, KEY)
            say(f"{dataset}, seed {seed}")


def table(rows: Sequence[Row]) -> str:
    """Means over tasks, and in how many the accuracy of base classes is above the default's."""
    by_kind: dict[str, dict[tuple, Row]] = {kind: {} for kind in kinds()}
    for row in rows:
        by_kind[row["kind"]][row["dataset"], row["seed"]] = row
    lines = []
    for kind, own in by_kind.items():
        first = by_kind["default"]
        gains = [own[k]["base/accuracy"] - first[k]["base/accuracy"] for k in own.keys() & first]
        means = [number(statistics.fmean(r[key] for r in own.values()), 3) for key in FIGURES]
        above = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
        lines.append([kind, *means, "-" if kind == "default" else above])
    return markdown(["templates", *FIGURES, "tasks with more base accuracy"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured; 2 for input that cannot be."""
    args = parser().parse_args(argv)

    def work() -> None:
        if args.report:
            if not (rows := read(args.output, KEY)):
                raise ConfigError(f"{args.output} has no rows yet")
            out(table(rows))
        else:
            measure(args)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
