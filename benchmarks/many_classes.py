"""Steps and tests with as many classes as ImageNet-21K has.

    python benchmarks/many_classes.py --names data.noun --trainer CoOp --mem-budget 8
    python benchmarks/many_classes.py --names data.noun --trainer VPT -L 10 --mem-budget 8
    python benchmarks/many_classes.py --names data.noun --trainer VPT --classes 2000 --profile
    python benchmarks/many_classes.py --names data.noun --trainer CoOp --class-words 0.2
    python benchmarks/many_classes.py --test-images 100000 -L 1

The first forms build a model with ViT-B/16's towers (random weights) for 21,000 names and take one
training step of one image, all classes in it, none sampled. --profile names where its time goes,
--class-words has contexts that begin at the words of their class, so that none is shared.
The last one classifies features of images that are made up, in batches of 100 as a test does.
`data.noun` is WordNet 3.0's file: every so many of its nouns for what can be seen. Without --names,
names of ImageNet are paired until there are enough. Rows of earlier calls stay in --output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks._measure import PeakMemory, timed  # noqa: E402
from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._setup import BACKBONES, class_names, prompted_clip, random_clip  # noqa: E402
from varprompt.model import Predictor, PromptedCLIP  # noqa: E402
from varprompt.objective import ObjectiveConfig, kl_scale, objective  # noqa: E402
from varprompt.run.tally import Tally  # noqa: E402

CPU = torch.device("cpu")
# WordNet's files of nouns for animals, artefacts, bodies, food, objects, persons and plants
VISIBLE = {"05", "06", "08", "13", "17", "18", "20"}
# What a step is made of, by the names of torch's operators
KINDS = {
    "matrix products": ("linear_pointwise", "addmm", "aten::mm", "aten::bmm"),
    "attention": ("scaled_dot_product",),
    "normalisation and activation": ("layer_norm", "silu", "sigmoid", "gelu"),
    "sums and factors": ("aten::add", "aten::mul", "aten::sum", "aten::div"),
    "copies": ("aten::cat", "aten::copy_", "index", "aten::fill_", "aten::clone", "gather"),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--names", type=Path, help="WordNet's data.noun")
    p.add_argument("--classes", type=int, default=21_000)
    p.add_argument("--backbone", choices=BACKBONES, default="ViT-B/16")
    p.add_argument("--trainer", choices=("CoOp", "VPT"), default="VPT")
    p.add_argument("-L", type=int, default=10)
    p.add_argument("--class-words", type=float, default=0.0, help="CLASS_WORDS, 0 to 1")
    p.add_argument(
        "--mem-budget", type=float, default=8, help="GB for the text tower's activations"
    )
    p.add_argument("--profile", action="store_true", help="where the time of a step goes")
    p.add_argument("--test-images", type=int, default=0, help="classify so many instead of a step")
    p.add_argument("--batch-size", type=int, default=100)
    p.add_argument("--output", type=Path, help="JSON file")
    return p


def main() -> None:
    """Measure one thing and add its row."""
    args = parser().parse_args()
    if args.test_images:
        name, row = f"test, L = {args.L}", test(args)
    else:
        samples = args.L if args.trainer == "VPT" else 1
        kind = "profile" if args.profile else "step"
        words = f", words {args.class_words:g}" * bool(args.class_words)
        name = f"{kind}, {args.trainer}, L = {samples}, C = {args.classes}{words}"
        row = step(args)
    print(name, json.dumps(row, indent=1))
    if args.output:
        rows = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else {}
        write_json(args.output, {**rows, name: {**row, "environment": where(args)}})


def where(args: argparse.Namespace) -> dict[str, Any]:
    """Machine and command, without the folder of the names."""
    found = environment(CPU)
    folder = f"{args.names.parent}/" if args.names else ""
    return found | {"command": found["command"].replace(folder, "") if folder else found["command"]}


def names_of(args: argparse.Namespace) -> list[str]:
    """Different class names."""
    if args.names:
        return nouns(args.names.read_text(encoding="utf-8"), args.classes)
    known = list(dict.fromkeys(class_names("imagenet")))
    pairs = (f"{a} {b}" for b in known for a in known if a != b)
    return [*known, *islice(pairs, max(0, args.classes - len(known)))][: args.classes]


def nouns(text: str, count: int) -> list[str]:
    """`count` names of `VISIBLE` things, evenly from WordNet's file, the first word of each.

    Raises:
        ValueError: the file has fewer.
    """
    rows = (line.split(" ", 5) for line in text.splitlines() if line[:1].isdigit())
    found = list(dict.fromkeys(row[4].lower() for row in rows if row[1] in VISIBLE))
    if len(found) < count:
        raise ValueError(f"{count} names were asked for, the file has {len(found)}")
    return [found[i * len(found) // count] for i in range(count)]


def step(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of building the model and of a step, or where its time goes."""
    names, clip, made = names_of(args), random_clip(args.backbone), {}
    torch.manual_seed(0)
    with PeakMemory(CPU) as built:
        building, _ = timed(lambda: made.update(model=prompted_clip(
            clip, names, args.trainer, args.L, mem_budget=int(args.mem_budget * 1e9),
            class_words=args.class_words,
        )), CPU)  # fmt: skip
    model = made["model"]
    work = step_of(model)
    n_prompts = model.config.n_samples
    with torch.enable_grad():
        chunks = model.towers.encode_text._chunk(n_prompts, model.tokens)
    row = {
        "build_s": building, "build_peak_bytes": built.peak, "letters": sum(map(len, names)),
        "slots": model.tokens.n_tiles * model.tokens.tile, "chunk": chunks,
    }  # fmt: skip
    if args.profile:
        return row | parts_of(work)
    with PeakMemory(CPU) as memory:
        wall, processor = timed(work, CPU)
    return row | {"step_s": wall, "step_cpu_s": processor, "peak_bytes": memory.peak}


def step_of(model: PromptedCLIP) -> Callable[[], None]:
    """A training step with one image."""
    side = model.towers.clip.visual.input_resolution
    image, label = torch.randn(1, 3, side, side), torch.tensor([0])
    cfg = ObjectiveConfig("iwae", kl_scale(0.001, "mean", model.n_dims, 1))

    def work() -> None:
        logits, kl = model.logits(image)
        objective(logits, label, kl, cfg).loss.backward()

    return work


def parts_of(work: Callable[[], None]) -> dict[str, Any]:
    """Processor seconds of each of `KINDS`, and of the largest operators besides."""
    work()  # what is new in the first step is left out
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    seconds = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    parts = {kind: 0.0 for kind in KINDS} | {"everything else": 0.0}
    others: dict[str, float] = {}
    for name, value in seconds.items():
        kind = next((k for k, words in KINDS.items() if any(w in name for w in words)), "")
        parts[kind or "everything else"] += value
        if not kind:
            others[name] = value
    largest = sorted(others.items(), key=lambda pair: -pair[1])[:5]
    return {"seconds": parts, "share": {k: v / sum(parts.values()) for k, v in parts.items()},
            "largest_of_everything_else": dict(largest)}  # fmt: skip


def test(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of classifying features, and of the figures that follow."""
    draw = torch.Generator().manual_seed(0)
    width = BACKBONES[args.backbone][0][0]
    text = unit(torch.randn(args.L, 1, args.classes, width, generator=draw))
    features = unit(torch.randn(args.test_images, width, generator=draw))
    labels = torch.randint(args.classes, (args.test_images,), generator=draw)
    predictor = Predictor(lambda images: text, 100.0)
    tally, figures = Tally(keep=True), {}

    def classify() -> None:
        parts = zip(features.split(args.batch_size), labels.split(args.batch_size), strict=True)
        for images, truth in tqdm(parts, total=-(-len(labels) // args.batch_size), disable=None):
            tally.update(predictor.samples(images), truth)

    def sum_up() -> None:
        figures.update(tally.summary([str(i) for i in range(args.classes)]))
        figures.update(tally.uncertainty())

    with PeakMemory(CPU) as memory:
        wall, processor = timed(classify, CPU)
        last, _ = timed(sum_up, CPU)
    return {
        "images": args.test_images, "classes": args.classes, "classify_s": wall,
        "classify_cpu_s": processor, "figures_s": last, "peak_bytes": memory.peak,
        "inputs_bytes": text.nbytes + features.nbytes, "nll": figures["nll"],
        "distributions_kept": tally.keep,
    }  # fmt: skip


def unit(x: Tensor) -> Tensor:
    """Rows of unit norm."""
    return torch.nn.functional.normalize(x, dim=-1)


if __name__ == "__main__":
    main()
