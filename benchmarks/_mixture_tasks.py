"""Few-shot tasks that are drawn anew for each seed: classes, images, and which are base and new."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from varprompt.common.files import write_atomic
from varprompt.embedded.sets import DIGITS, SETS, HandwrittenDigits, Picture
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.load import load_clip

TEST_SEEDS = tuple(range(1, 16))
VALIDATION_SEEDS = tuple(range(901, 905))
MOST_SHOTS = 16
N_IMAGES = {"train": MOST_SHOTS, "val": 8, "test": 50}  # of a class; digits have fewer to test on
_SPREAD = 20  # generator seeds that a draw of a set keeps to itself
_ENCODED = 500  # images at once


@dataclass(frozen=True)
class Part:
    """Unit-norm features `(N, E)` and labels `(N,)`, those of a class in a row."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Task:
    """Half of the classes to learn from, base, and the other half, new.

    Attributes:
        dataset: the set that it is drawn from.
        names: of base and new classes, in the order of labels.
        train: images of base classes.
        val: further ones.
        test: "base" -> images of base classes, "new" -> of new ones; labels start at 0 in both.
    """

    dataset: str
    names: dict[str, list[str]]
    train: Part
    val: Part
    test: dict[str, Part]

    @property
    def all_names(self) -> dict[str, list[str]]:
        """Also those of "all", base classes first."""
        return {**self.names, "all": [*self.names["base"], *self.names["new"]]}


def draw(dataset: str, seed: int, shots: int, towers: FrozenCLIP, folder: Path) -> Task:
    """A task; features are kept in `folder`, as every number of shots has the same images.

    Args:
        dataset: a name in `varprompt.embedded.sets.SETS`.
        seed: decides classes, images and halves.
        shots: training images of a class, the first of 16.
        towers: of the embedded CLIP.
        folder: where features are kept.
    """
    file = folder / f"{dataset}-{seed}.npz"
    if not file.is_file():
        content = io.BytesIO()
        np.savez(content, **_features(dataset, seed, towers))
        write_atomic(file, lambda target: target.write(content.getvalue()))
    with np.load(file) as stored:
        arrays: dict[str, Any] = {key: stored[key] for key in stored.files}
    names = [str(name) for name in arrays["names"]]
    n_base = len(names) // 2
    parts = {part: _halves(arrays, part, n_base) for part in N_IMAGES}
    train = parts["train"]["base"]
    index = torch.cat([(train.labels == c).nonzero()[:shots, 0] for c in range(n_base)])
    return Task(
        dataset, {"base": names[:n_base], "new": names[n_base:]},
        Part(train.features[index], train.labels[index]), parts["val"]["base"], parts["test"],
    )  # fmt: skip


def _halves(arrays: dict[str, Any], part: str, n_base: int) -> dict[str, Part]:
    features = torch.from_numpy(arrays[f"{part}_features"])
    labels = torch.from_numpy(arrays[f"{part}_labels"])
    base = labels < n_base
    return {
        "base": Part(features[base], labels[base]),
        "new": Part(features[~base], labels[~base] - n_base),
    }


@torch.no_grad()
def _features(dataset: str, seed: int, towers: FrozenCLIP) -> dict[str, np.ndarray]:
    found: dict[str, list[Picture]] = {part: [] for part in N_IMAGES}
    names: dict[int, str] = {}
    for picture in _pictures(dataset, seed):
        names[picture.label] = picture.classname
        found[picture.part].append(picture)
    arrays: dict[str, np.ndarray] = {"names": np.array([names[c] for c in range(len(names))])}
    mean, std = (
        torch.tensor(x)[:, None, None]
        for x in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    for part, pictures in found.items():
        kept = [p for c in names for p in [q for q in pictures if q.label == c][: N_IMAGES[part]]]
        rows = []
        for start in range(0, len(kept), _ENCODED):
            pixels = np.stack([_rgb(p.pixels) for p in kept[start : start + _ENCODED]])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            rows.append(towers.encode_image((images - mean) / std))
        arrays[f"{part}_features"] = torch.cat(rows).numpy()
        arrays[f"{part}_labels"] = np.array([p.label for p in kept])
    return arrays


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)


def _pictures(dataset: str, seed: int) -> Iterator[Picture]:
    source = SETS[dataset]
    if not isinstance(source, HandwrittenDigits):
        own = 100_000 + _SPREAD * (8 * seed + list(SETS).index(dataset))  # below 10^6, its range
        yield from dataclasses.replace(source, seed=own).pictures()
        return
    again = HandwrittenDigits()
    again.seed = 1000 + seed  # of the split; the order of the classes is another draw
    order = np.random.RandomState(seed).permutation(len(DIGITS)).tolist()
    for picture in again.pictures():
        yield picture._replace(label=order.index(picture.label))


def towers() -> FrozenCLIP:
    """Of the embedded CLIP."""
    return FrozenCLIP(load_clip("embedded"), "fp32", 50_000_000)
