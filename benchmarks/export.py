"""ONNX against torch: how far apart, how large, and how fast beside zero-shot CLIP by hand.

Writes a model of the true size (random weights) as `varprompt export` does, and classifies the same
images by each way in turn, several times: CLIP's own `encode_image` and one matrix, this package,
ONNX in onnxruntime, a torch.export program. All get as many threads. Reading files is left out.

    python benchmarks/export.py --output benchmarks/results/export_cpu.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._measure import timed  # noqa: E402
from benchmarks._report import environment, percentiles, write_json  # noqa: E402
from benchmarks._setup import (  # noqa: E402
    BACKBONES,
    class_names,
    plain_text_features,
    prompted_clip,
    random_clip,
)
from varprompt.classifier.prediction import Prediction  # noqa: E402
from varprompt.export.check import check_images  # noqa: E402
from varprompt.export.graph import OUTPUTS, ImageClassifier, texts_of  # noqa: E402
from varprompt.export.onnx import write_onnx  # noqa: E402
from varprompt.export.program import write_program  # noqa: E402
from varprompt.model import PromptedCLIP  # noqa: E402
from varprompt.towers.build import input_size  # noqa: E402
from varprompt.towers.load import clip_module  # noqa: E402

CPU = torch.device("cpu")
Way = Callable[[Tensor], Any]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--backbone", default="ViT-B/16", choices=BACKBONES)
    p.add_argument("--names", default="oxford_pets", help="oxford_pets, imagenet, or a file")
    p.add_argument("--samples", type=int, default=16, help="L")
    p.add_argument("--images", type=int, default=16, help="classified by each way, 64 at most")
    p.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--output", help="JSON file")
    return p


def by_hand(clip_model: Any, names: list[str]) -> Way:
    """Zero-shot CLIP as its README has it, with the texts encoded beforehand."""
    words = clip_module().clip.tokenize("a photo of a")[:, 1:5]
    text = plain_text_features(clip_model, clip_model.token_embedding(words), names)[0]
    scale = clip_model.logit_scale.exp()

    def classify(images: Tensor) -> Tensor:
        features = clip_model.encode_image(images)
        features = features / features.norm(dim=-1, keepdim=True)
        return (scale * features @ text.t()).softmax(-1)

    return classify


def here(model: PromptedCLIP) -> Way:
    """What `varprompt predict` does with a batch: probabilities and uncertainties."""
    predictor = model.predictor()
    return lambda images: Prediction.of(predictor.samples(model.encode_test_image(images)))


def in_onnxruntime(path: str, threads: int) -> Way:
    """A file of `varprompt export --onnx`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(OUTPUTS), {"images": images.numpy()})


def throughput(
    ways: dict[str, Way], images: Tensor, batch_size: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Images a second by each way, in turn, `repeats` times; one batch before it counts."""
    batches = images.split(batch_size)
    clocks: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for classify in ways.values():
        classify(batches[0])
    for _ in range(repeats):
        for name, classify in ways.items():
            clocks[name].append(timed(lambda c=classify: [c(batch) for batch in batches], CPU))
    found = {}
    for name, both in clocks.items():
        wall, processor = (list(clock) for clock in zip(*both, strict=True))
        found[name] = {
            "seconds": wall,
            "processor_seconds": processor,  # of all threads: tells when others were at work, too
            "images_a_second": percentiles([len(images) / s for s in wall]),
            "images_a_processor_second": percentiles([len(images) / s for s in processor]),
        }
    return found


@torch.no_grad()
def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Differences, sizes and speeds."""
    torch.set_num_threads(args.threads)
    names = class_names(args.names)
    clip_model = random_clip(args.backbone)
    model = prompted_clip(clip_model, names, "VPT", args.samples, ctx_init="a photo of a")
    graph = ImageClassifier(clip_model.visual, texts_of(model, "the file")).eval()
    images = check_images([], lambda image: torch.empty(0), input_size(clip_model))[: args.images]
    files, written = {"onnx": folder / "m.onnx", "torch.export": folder / "m.pt2"}, {}
    for name, write in (("onnx", write_onnx), ("torch.export", write_program)):
        start = time.perf_counter()
        differences = write(graph, images, {}, files[name])
        written[name] = {
            "largest_difference_from_torch": differences,
            "bytes": files[name].stat().st_size,
            "seconds_to_write_and_compare": time.perf_counter() - start,
        }
    ways = {
        "clip by hand": by_hand(clip_model, names),
        "varprompt": here(model),
        "onnx": in_onnxruntime(str(files["onnx"]), args.threads),
        "torch.export": torch.export.load(files["torch.export"]).module(),
    }
    return {
        "environment": environment(CPU),
        "settings": {k: v for k, v in vars(args).items() if k != "output"} | {"C": len(names)},
        "bytes_of_the_image_tower": sum(
            p.numel() * p.element_size() for p in clip_model.visual.parameters()
        ),
        "files": written,
        "batches": {
            str(size): throughput(ways, images, size, args.repeats) for size in args.batch_sizes
        },
    }


def main() -> None:
    """Measure, print a table, write the JSON if asked to."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(args, Path(folder))
    for name, of in report["files"].items():
        worst = max(of["largest_difference_from_torch"].values())
        print(f"{name}: {of['bytes'] / 1e6:.1f} MB, differs from torch by at most {worst:.1e}")
    for size, ways in report["batches"].items():
        for name, of in ways.items():
            speed, each = of["images_a_second"], of["images_a_processor_second"]
            print(
                f"batch {size:>3}  {name:13} {speed['p50']:8.2f} images a second "
                f"({speed['p20']:.2f} to {speed['p80']:.2f}), {each['p50']:.2f} a processor second"
            )
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
