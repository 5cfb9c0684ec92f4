"""Time of a test run: texts encoded once, images once for all runs, against the usual way.

Runs the trainer's own `test()` on pictures made for the purpose: first with an empty feature
cache, then as another seed's run that finds the features. The usual implementation encodes all
prompts anew for every image, padded to 77 tokens; it is timed on a few images and scaled up.

    python benchmarks/evaluate.py --output benchmarks/results/evaluate_cpu.json
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._report import device_name, environment, write_json  # noqa: E402
from benchmarks._setup import BACKBONES, class_names, plain_logits, random_clip  # noqa: E402
from varprompt.objective import predictive_log_prob  # noqa: E402
from varprompt.standin.which import ensure_dassl  # noqa: E402

SIZES = {"tiny": 32}  # image sides; 224 for all others
TARGETS = {"first_over_usual": 50, "second_over_first": 10}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--backbone", default="ViT-B/16", choices=BACKBONES)
    p.add_argument("--names", default="oxford_pets", help="oxford_pets, imagenet, or a file")
    p.add_argument("--classes", type=int, default=0, help="C, 0 = all")
    p.add_argument("--samples", type=int, default=10, help="L")
    p.add_argument("--images", type=int, default=200)
    p.add_argument("--batch-size", type=int, default=100)
    p.add_argument("--usual-images", type=int, default=5, help="timed the usual way, one first")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--device", type=device_name, default="cpu", help="cpu or cuda")
    p.add_argument("--output", help="JSON file")
    return p


def make_pictures(folder: Path, names: list[str], n_images: int, side: int) -> None:
    """JPEG files as the data set Folder wants them: smooth random patterns, somewhat too large."""
    random = np.random.RandomState(0)
    for part, count in (("train", len(names)), ("test", n_images)):
        for i in range(count):
            coarse = random.randint(0, 256, (7, 9, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((side + 70, side + 30))
            path = folder / part / names[i % len(names)] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def build(args: argparse.Namespace, folder: Path, seed: int) -> Any:
    """The trainer of a run in `folder`, which holds ``clip.pt`` and ``pictures``."""
    ensure_dassl()
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import datasets  # noqa: F401  registers Folder
    import train
    import trainers  # noqa: F401  registers VPT

    side = SIZES.get(args.backbone, 224)
    command = train.parser().parse_args([
        "--root", str(folder), "--seed", str(seed), "--trainer", "VPT",
        "--output-dir", str(folder / f"seed{seed}"),
        "--dataset-config-file", str(ROOT / "configs/datasets/custom.yaml"),
        "--config-file", str(ROOT / "configs/trainers/VPT/vit_b16_c4_ep10_batch1_ctxv1.yaml"),
        "DATASET.PATH", "pictures", "MODEL.BACKBONE.PATH", str(folder / "clip.pt"),
        "MODEL.BACKBONE.ACTIVATION", "quick_gelu",
        "INPUT.SIZE", f"({side}, {side})", "USE_CUDA", str(args.device == "cuda"),
        "DATALOADER.NUM_WORKERS", "0",
        "DATALOADER.TEST.BATCH_SIZE", str(args.batch_size),
        "TRAINER.VPT.L", str(args.samples), "TRAINER.VPT.PREC", args.precision,
    ])  # fmt: skip
    cfg = train.setup_cfg(command)
    set_random_seed(seed)  # the untrained posterior of a seed stands for its checkpoint
    return build_trainer(cfg)


def timed(work: Callable[[], Any], device: torch.device) -> tuple[dict[str, float], Any]:
    """Wall-clock and processor seconds of `work`, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {
        "wall_s": time.perf_counter() - wall,
        "processor_s": time.process_time() - processor,
    }, result


@torch.no_grad()
def usual(trainer: Any, n_images: int) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Seconds and log-probabilities `(n, C)` of the first images, prompts encoded for each."""
    items, names = trainer.test_loader.dataset, trainer.dm.dataset.classnames
    config = trainer.prompt_config
    n_samples, seed = config.n_samples_test or config.n_samples, config.test_seed
    shape = trainer.model.prompt_learner.posterior.noise_shape(n_samples, 1)

    def classify(index: int) -> torch.Tensor:
        image = items[index]["img"][None].to(trainer.device)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        logits, _ = plain_logits(trainer.model, names, image, noise.to(trainer.device))
        return predictive_log_prob(logits)

    rows = [timed(lambda i=i: classify(i), trainer.device) for i in range(n_images)]
    return [seconds for seconds, _ in rows], torch.cat([log_prob for _, log_prob in rows])


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All timings and comparisons."""
    names = class_names(args.names, args.classes)
    make_pictures(folder / "pictures", names, args.images, SIZES.get(args.backbone, 224))
    torch.save(random_clip(args.backbone).state_dict(), folder / "clip.pt")
    os.environ["VARPROMPT_CACHE"] = str(folder / "cache")
    first, second = build(args, folder, 1), build(args, folder, 2)
    device = first.device
    first.predictor(), first.encode_image(first.test_loader.dataset[0]["img"][None])  # warm up
    rows = {}
    rows["first"], _ = timed(first.test, device)
    rows["second"], _ = timed(second.test, device)
    seconds, plain = usual(first, args.usual_images + 1)
    rows["usual_per_image"] = {
        unit: float(np.median([row[unit] for row in seconds[1:]])) for unit in seconds[0]
    }
    rows["usual_scaled"] = {k: v * args.images for k, v in rows["usual_per_image"].items()}
    cached, _ = second.tester.features(second.test_loader)
    second.feature_cache.limit = 0
    rows["images_encoded"], (fresh, _) = timed(
        lambda: second.tester.features(second.test_loader), device
    )
    ours = first.predictor()(cached[: len(plain)].to(device))
    return {
        "environment": environment(device),
        "settings": {k: v for k, v in vars(args).items() if k != "output"} | {"C": len(names)},
        "usual": f"{len(seconds)} images timed one by one, the first left out, median scaled to "
        f"{args.images}; all {args.samples} x {len(names)} prompts of 77 tokens in one batch",
        "seconds": rows,
        "ratios": {
            unit: {
                "first_over_usual": rows["usual_scaled"][unit] / rows["first"][unit],
                "second_over_first": rows["first"][unit] / rows["second"][unit],
            }
            for unit in ("wall_s", "processor_s")
        },
        "targets": TARGETS,
        "cached_features_equal_bit_for_bit": torch.equal(cached, fresh),
        "largest_difference_of_log_probabilities": (ours - plain).abs().max().item(),
        "predictions_equal": torch.equal(ours.argmax(1), plain.argmax(1)),
    }


def main() -> None:
    """Measure, print the ratios, write the JSON if asked to."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(args, Path(folder))
    for unit, ratios in report["ratios"].items():
        print(
            f"{unit}: {ratios['first_over_usual']:.0f} times faster than the usual way, a second "
            f"run {ratios['second_over_first']:.0f} times faster than the first"
        )
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
