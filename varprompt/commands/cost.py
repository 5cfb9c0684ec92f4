"""What a training costs: whether it fits a GPU, in how many pieces, and how long it takes.

    varprompt cost --dataset imagenet --trainer VPT --gpu-memory 8

Memory is computed by the rule by which the text tower cuts its work, which was measured: it holds
for any device. Time is known for the devices that benchmarks/cost.py was run on; nothing is guessed
for others. Nothing is downloaded and nothing is trained.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from ..common.checks import check_choice, check_range
from ..common.console import out
from ..errors import ConfigError
from ..settings.flags import Parser
from ..towers.load import clip_module
from ..towers.memory import activation_bytes
from ..towers.text import FrozenTextEncoder
from ..towers.tokens import ClassTokens, class_tokens
from .official import CLASSES, TRAINERS, Work, work_of

MEASURED = Path(__file__).parent.parent / "data" / "cost.csv"
GB = 10**9
N_CONTEXT = 4
# (E, image side, image layers, image width, patch), (text width, heads, layers) of OpenAI's models
SIZES: dict[str, tuple[tuple[Any, ...], tuple[int, int, int]]] = {
    "ViT-B/16": ((512, 224, 12, 768, 16), (512, 8, 12)),
    "ViT-B/32": ((512, 224, 12, 768, 32), (512, 8, 12)),
    "RN50": ((1024, 224, (3, 4, 6, 3), 64, None), (512, 8, 12)),
    "ViT-L/14": ((768, 224, 24, 1024, 14), (768, 12, 12)),
}
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
_MOST = 1 << 45  # bytes: no step takes more


def names_like(dataset: str, count: int) -> list[str]:
    """`count` names as long as those of a data set: ImageNet's own, else ImageNet's first ones."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return list(islice(cycle(_IMAGENET_CATEGORIES), count))


class Tower:
    """The text tower of a CLIP without its weights, and how it would cut work into pieces."""

    def __init__(self, backbone: str, precision: str):
        (embed, *image), text = SIZES[backbone]
        with torch.device("meta"):
            model = clip_module().model.CLIP(embed, *image, 77, 49408, *text)
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        self.clip = model.to(dtype).requires_grad_(False)
        self.encoder = FrozenTextEncoder(self.clip)

    @property
    def weights(self) -> int:
        """Bytes of both towers."""
        return sum(p.numel() * p.element_size() for p in self.clip.parameters())

    def tokens(self, work: Work) -> ClassTokens:
        """The class names of a training, packed."""
        return class_tokens(self.clip, names_like(work.dataset, work.classes), N_CONTEXT)

    def images(self, work: Work) -> int:
        """Bytes that the images of a step keep for the gradient, all at once; 0 without prompts."""
        n_visual = TRAINERS[work.trainer].n_visual
        if not n_visual:
            return 0
        tower = self.clip.visual
        n_tokens = len(tower.positional_embedding) + n_visual
        layers = len(tower.transformer.resblocks)
        width, size = len(tower.class_embedding), tower.proj.element_size()
        return work.batch * n_tokens * activation_bytes(width, size, layers)

    def pieces(self, tokens: ClassTokens, prompts: int, budget: int) -> int:
        """Pieces that a training step is cut into so that it takes `budget` bytes."""
        self.encoder.mem_budget = budget
        samples, tiles = self.encoder._chunk(prompts, tokens)
        return -(-prompts // samples) * -(-tokens.n_tiles // tiles)

    def whole(self, tokens: ClassTokens, prompts: int) -> int:
        """Bytes with which a training step is one piece."""
        low, high = 1, _MOST
        while low < high:
            middle = (low + high) // 2
            if self.pieces(tokens, prompts, middle) == 1:
                high = middle
            else:
                low = middle + 1
        return low


def measured(work: Work) -> Iterator[dict[str, str]]:
    """Rows of cost.csv for a training, one for each device."""
    if not MEASURED.is_file():
        return
    with open(MEASURED, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            same = row["dataset"] == work.dataset and row["trainer"] == work.trainer
            if same and int(row["L"]) == work.samples:
                yield row


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("--dataset", default="imagenet", help=f"default: imagenet; {', '.join(CLASSES)}")
    p.add_argument("--trainer", default="VPT", help=f"default: VPT; {', '.join(TRAINERS)}")
    p.add_argument("--backbone", default="ViT-B/16", help=", ".join(SIZES))
    p.add_argument("--gpu-memory", type=float, default=8, help="GB; default: %(default)s")
    p.add_argument("--precision", default="fp16", help="fp16, bf16 or fp32; default: %(default)s")
    p.add_argument("-L", "--samples", type=int, default=0, help="default: the authors'")
    p.add_argument("--shots", type=int, default=16, help="default: %(default)s")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a training costs; returns 0 if it fits, else 1.

    Raises:
        ConfigError: an argument that cannot be.
    """
    args = parser().parse_args(argv)
    problems: list[str] = []
    check_choice(args.dataset, tuple(CLASSES), "--dataset", problems)
    check_choice(args.trainer, tuple(TRAINERS), "--trainer", problems)
    check_choice(args.backbone, tuple(SIZES), "--backbone", problems)
    check_choice(args.precision, tuple(BYTES), "--precision", problems)
    check_range(args.gpu_memory, 0.1, 10**4, "--gpu-memory", problems)
    check_range(args.samples, 0, 10**6, "-L", problems, whole=True)
    check_range(args.shots, 1, 10**6, "--shots", problems, whole=True)
    if problems:
        raise ConfigError(problems)
    work = work_of(args.dataset, args.trainer, args.samples, args.shots)
    lines, fits = describe(work, Tower(args.backbone, args.precision), args.gpu_memory)
    for line in lines:
        out(line)
    return 0 if fits else 1


def describe(work: Work, tower: Tower, memory: float) -> tuple[list[str], bool]:
    """Lines about a training on a GPU with `memory` GB, and whether it fits."""
    tokens, total = tower.tokens(work), int(memory * GB)
    whole, images = tower.whole(tokens, work.prompts), tower.images(work)
    budget = max(0, total - tower.weights) // 2  # what 0, the default of MEM_BUDGET, means
    lines = [
        f"{work.trainer} on {work.dataset}: {work.classes} base classes, L = {work.samples}, "
        f"batch {work.batch}, {work.steps:,} steps",
        f"weights of CLIP: {tower.weights / GB:.2f} GB; texts of a step in one piece: "
        f"{whole / GB:.2f} GB"
        + (f"; its images with prompts: {images / GB:.2f} GB" if images else ""),
    ]
    least = tower.pieces(tokens, work.prompts, 1)
    # roughly, as pieces are nearly equal; of the images one
    smallest = whole / least + images / work.batch
    fits = tower.weights + smallest < total
    pieces = tower.pieces(tokens, work.prompts, max(1, budget))
    if not fits:
        lines.append(f"{memory:g} GB: does not fit")
    elif pieces == 1:
        lines.append(f"{memory:g} GB: fits, in one piece (half of the free memory is used)")
    else:
        lines.append(
            f"{memory:g} GB: fits, in {pieces} pieces (half of the free memory is used): "
            "activations are computed twice, about a third more time"
        )
    rows = list(measured(work))
    lines += [
        f"measured on {row['device']}, {row['threads']} thread(s): {float(row['s_step']):.2f} s a "
        f"step, {float(row['s_step']) * work.steps / 3600:.1f} h in all; "
        f"{float(row['ms_image']):.0f} ms an image at test"
        for row in rows
    ]
    if not rows:
        lines.append("time: not measured for this; python benchmarks/cost.py measures it here")
    return lines, fits
