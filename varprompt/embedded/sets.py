"""The small data sets, made as image files in CoOp's layout: ``images/`` and a split JSON.

Digits are real: scikit-learn's 1,797 scanned handwritten digits. The others show things of the
world in :mod:`.world` under a systematic shift that the tiny CLIP was not trained on, because only
a systematic shift leaves something to learn from a few images.

The shifts were chosen in November 2026 on draws of their own (generator seeds 900000 and 900001, 32
and 30 images a class; never on test images), so that a linear probe of the image features is well
above zero-shot with "a photo of a {}.". Accuracy in % of the committed weights, base / new:

========  ===========  ===========  =============================================================
set       zero-shot    probe        considered
========  ===========  ===========  =============================================================
Digits    81.7 / 77.1  96.1 / 91.6  white on black as scanned; inverted: zero-shot 86.1 / 78.2
Chalk     72.7 / 70.8  95.3 / 94.5  lines on the very edge: zero-shot 96.7 / 97.2, nothing to gain
Stretch   76.5 / 81.7  90.5 / 91.5  aspect 1.4: zero-shot 90.3 / 91.5; 1.7: 62.7 / 70.8
Zoom      76.3 / 67.5  88.7 / 81.3  scale 1.3 to 1.5: 84.5 / 76.2; 1.45 to 1.75: 62.2 / 52.5
Tint      44.5 / 44.0  49.7 / 51.0  six casts, none with clearly more; see below
Squash    72.5 / 60.8  87.2 / 87.5  aspect 0.64: zero-shot 82.5 / 70.7; 0.55: 60.5 / 48.0
Shear     69.0 / 61.0  84.0 / 80.2  0.5: zero-shot 83.7 / 75.3; 0.7: 53.8 / 47.2
Coloured  40.2 / 38.2  53.0 / 57.5  not so close: zero-shot 42.5 / 52.8, probe 44.8 / 51.7
========  ===========  ===========  =============================================================

Digits are measured on their validation images. Tint is hard and has little head-room: the tiny CLIP
names nearly every shape and hardly any colour, which its training did not need to tell things
apart. It is kept as the set on which little can be gained.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from .paint import paint
from .world import COLOURS, Shift, draw, load_masks

IMAGES_PER_CLASS = {"train": 32, "val": 8, "test": 100}
N_CLASSES = 40
TINT_SHAPES = ("circle", "square", "triangle", "ring", "semicircle", "plus", "hourglass", "house")
TINT_COLOURS = ("red", "yellow", "green", "blue", "purple")
TINT_STYLES = ("photo", "blurry", "noisy", "painting", "cartoon")  # the others hide colours
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Picture(NamedTuple):
    """One image of a set: its part of the split, its class, and its pixels (H, W[, 3]) uint8."""

    part: str
    label: int
    classname: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Rendered:
    """A rendered set. Its seed is below 10^6, the range that training the tiny CLIP draws from."""

    seed: int
    shift: Shift
    coloured: bool = False  # classes are colour x shape instead of things

    def classes(self) -> list[tuple[str, str, str]]:
        """Return (class name, thing, colour or '') in label order.

        The order is random, so that base and new classes (the halves of it) are equally hard up
        to chance.
        """
        if self.coloured:
            kinds = [(f"{c} {thing}", thing, c) for thing in TINT_SHAPES for c in TINT_COLOURS]
        else:
            kinds = [(name, name, "") for name in load_masks().names if name not in DIGITS]
        order = np.random.RandomState(self.seed).permutation(len(kinds))[:N_CLASSES]
        return [kinds[i] for i in order]

    def pictures(self, parts: tuple[str, ...] = tuple(IMAGES_PER_CLASS)) -> Iterator[Picture]:
        """Render the set, class by class; each part has its own generator."""
        names, colours = load_masks().names, list(COLOURS)
        for part in parts:
            offset, count = list(IMAGES_PER_CLASS).index(part), IMAGES_PER_CLASS[part]
            generator = torch.Generator().manual_seed(self.seed + offset)
            for label, (classname, thing, colour) in enumerate(self.classes()):
                things = torch.full((count,), names.index(thing))
                ink = torch.full((count,), colours.index(colour)) if colour else None
                scene = draw(things, generator, self.shift, foreground=ink)
                pixels = (paint(scene, self.shift) * 255).round().byte().permute(0, 2, 3, 1)
                yield from (Picture(part, label, classname, image) for image in pixels.numpy())

    def __len__(self) -> int:
        return N_CLASSES * sum(IMAGES_PER_CLASS.values())


class HandwrittenDigits:
    """Scans of 8 x 8 pixels, framed by one pixel and enlarged to 32 x 32, split 50/20/30."""

    seed = 1

    def __len__(self) -> int:
        return 1797

    def pictures(self) -> Iterator[Picture]:
        """Return the scans, white strokes on black, in a fixed random split of every class."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise DataError(
                "Digits are made from scikit-learn's scans: run `pip install scikit-learn`"
            ) from error
        scans = load_digits()
        random = np.random.RandomState(self.seed)
        for label, classname in enumerate(DIGITS):
            rows = random.permutation(np.flatnonzero(scans.target == label))
            bounds = [round(0.5 * len(rows)), round(0.5 * len(rows)) + round(0.2 * len(rows))]
            for part, chosen in zip(IMAGES_PER_CLASS, np.split(rows, bounds), strict=True):
                for row in chosen:
                    ink = np.pad(scans.images[row] * 255 / 16, 1).round().astype(np.uint8)
                    image = Image.fromarray(ink).resize((32, 32), Image.Resampling.BICUBIC)
                    yield Picture(part, label, classname, np.asarray(image))


SETS: dict[str, Rendered | HandwrittenDigits] = {
    "Digits": HandwrittenDigits(),
    "Chalk": Rendered(1000, Shift(chalk=True, blur=0.8)),
    "Stretch": Rendered(2000, Shift(aspect=(1.56, 1.56))),
    "Zoom": Rendered(3000, Shift(scale=(1.32, 1.63))),
    "Tint": Rendered(4000, Shift(cast=(1.0, 0.6, 0.35), styles=TINT_STYLES), coloured=True),
    "Squash": Rendered(5000, Shift(aspect=(0.6, 0.6))),
    "Shear": Rendered(6000, Shift(shear=(0.6, 0.6))),
    "Coloured": Rendered(7010, Shift(scale=(1.32, 1.63), styles=TINT_STYLES), coloured=True),
}


def make_dataset(name: str, folder: str | os.PathLike) -> None:
    """Make the set ``name`` of SETS as ``folder``, unless it is there.

    The folder appears in one step when it is complete; processes that start together wait for the
    first one.

    Raises:
        DataError: the parent folder is missing or read-only, or ``folder`` is something else.
    """
    folder = Path(folder)
    split = folder / f"split_zhou_{name}.json"
    if split.is_file():
        return
    root = folder.parent
    if not root.is_dir() or not os.access(root, os.W_OK):
        state = "is read-only" if root.is_dir() else "does not exist"
        raise DataError(
            f"{name} is made on first use in {folder}, but {root} {state}; create a writable "
            f"folder (mkdir -p {root}) or name another one (DATA of the scripts, --root)"
        )
    with FileLock(root / f".{name}.lock"):
        if not split.is_file():
            _make(name, folder, split.name)


def _make(name: str, folder: Path, split_file: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise DataError(
            f"{folder} has no {split_file}, so it is not the {name} set, which would be made there;"
            " move or delete it, or name another folder (DATA of the scripts, --root)"
        )
    partial = folder.with_name(f".{name}.partial")  # left by an interrupted run, if it exists
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(name, partial, split_file)
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(f"{name} cannot be made in {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(name: str, folder: Path, split_file: str) -> None:
    """Write the images and, last, the split JSON."""
    source = SETS[name]
    split: dict[str, list[list[object]]] = {part: [] for part in IMAGES_PER_CLASS}
    for picture in tqdm(source.pictures(), f"Making {name}", len(source), unit=" images"):
        entries = split[picture.part]
        kind = picture.classname.replace(" ", "_")
        path = f"{kind}/{picture.part}_{len(entries):04d}.png"
        target = folder / "images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels).save(target)
        entries.append([path, picture.label, picture.classname])
    with open(folder / split_file, "w", encoding="utf-8") as file:
        json.dump(split, file, indent=4, separators=(",", ": "))
        file.flush()
        os.fsync(file.fileno())
