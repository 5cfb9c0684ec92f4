"""What is given to fit: images and labels in one form, and which of them are held out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, brief
from ..images.class_folders import PARTS, is_divided, labelled_images
from ..images.inputs import check_images
from ..images.lists import ListedImage, is_list, read_list
from ..images.loaders import derive_seed
from ..images.tree import beside, summary
from ..prompt_texts import PromptTexts, parse_prompts, read_prompts


@dataclass(frozen=True)
class Labelled:
    """N images in any form, and the labels `(N,)` of each."""

    images: Sequence[Any]
    labels: np.ndarray

    def where(self, chosen: Tensor) -> Labelled:
        """Those that a mask `(N,)` chooses."""
        index = chosen.nonzero()[:, 0].tolist()
        return Labelled([self.images[i] for i in index], self.labels[index])


def labelled(images: Any, labels: Any, what: str = "images") -> Labelled:
    """Images and labels, as many of each.

    Raises:
        DataError: they are not.
    """
    if labels is None:
        raise DataError(f"{what} are {brief(images)} without labels: give labels, or a folder")
    images = check_images(images)
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise DataError(f"labels of {what} are {brief(labels)}; give one for each") from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != len(images) or not len(values):
        raise DataError(
            f"{what} number {len(images)}, their labels have the shape {values.shape}: give one "
            "label for each image"
        )
    _check_labels(labels, values, what)
    return Labelled(images, values)


def _check_labels(given: Any, values: np.ndarray, what: str) -> None:
    """Labels are words or finite numbers: others cannot be sorted, or be written to a file.

    Raises:
        DataError: there are others, or words among numbers, which NumPy would make words of.
    """
    each = given if isinstance(given, list | tuple) else values.tolist()
    wrong = [
        label for label in values.tolist()
        if not isinstance(label, str | int | float)
        or isinstance(label, float) and not math.isfinite(label)
    ]  # fmt: skip
    mixed = len({isinstance(label, str) for label in each}) > 1
    if wrong or mixed:
        which = brief(wrong) if wrong else "words and numbers"
        raise DataError(f"labels of {what} hold {which}; give words, or finite numbers")


def given_to_fit(
    images: Any, labels: Any, validation: Any, note: Callable[[str], None]
) -> tuple[Labelled, Labelled | None]:
    """What `PromptClassifier.fit` is given: training images, and those to be held out if any.

    Args:
        images: images, or a folder.
        labels: of each; None if `images` is a folder.
        validation: a folder of class folders, or images and labels, or None.
        note: takes a line about what is ignored.

    Raises:
        DataError: images without labels, labels that do not fit, folders that are none.
    """
    held = None
    if labels is None and isinstance(images, str | os.PathLike):
        train, held = from_folder(images, note)
    else:
        train = labelled(images, labels)
    if isinstance(validation, str | os.PathLike):
        held, _ = from_folder(validation, note)
    elif validation is not None:
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            what = brief(validation)
            raise DataError(f"validation is {what}; give a folder, or (images, labels)")
        theirs, of_these = validation
        held = labelled(theirs, of_these, "validation images")
    return train, held


def from_folder(
    folder: str | os.PathLike, note: Callable[[str], None]
) -> tuple[Labelled, Labelled | None]:
    """Training images of a folder or list, and its validation images if it has some.

    Args:
        folder: of class folders, or with train/ and perhaps val/; its test/ is left alone. Or a
            list, see `varprompt.images.lists`.
        note: takes a line about what is ignored.

    Raises:
        DataError: it is no such folder.
    """
    parts = divided(folder, note)
    if "train" not in parts:
        raise DataError(f"{folder} has no train/ to learn from, only other parts of a data set")
    return parts["train"], parts.get("val")


def divided(folder: str | os.PathLike, note: Callable[[str], None]) -> dict[str, Labelled]:
    """Part -> its images, of those in "train", "val" and "test" that a folder or list has.

    Images that are in no part are all in "train".

    Raises:
        DataError: it is no folder of class folders or of parts with those, and no list.
    """
    top = Path(os.path.expanduser(folder))
    if not os.fspath(folder):
        raise DataError("the folder of images is '': give one")
    if is_list(top):
        return _listed(top)
    if not top.is_dir():
        raise DataError(f"{top} is no folder: give a folder of class folders")
    if not is_divided(top):
        return {"train": _of(top, note)}
    ignored = Counter[str]()
    beside(str(top), "", ignored, taken=PARTS)
    if ignored:
        note(f"Ignored in {top}: {summary(ignored)}")
    return {part: _of(top / part, note) for part in PARTS if (top / part).is_dir()}


def _listed(path: Path) -> dict[str, Labelled]:
    parts: dict[str, list[ListedImage]] = {}
    for row in read_list(path):
        parts.setdefault(row.part or "train", []).append(row)
    return {
        part: Labelled(
            [str(path.parent / row.path) for row in rows], np.array([row.label for row in rows])
        )
        for part, rows in parts.items()
    }


def _of(folder: Path, note: Callable[[str], None]) -> Labelled:
    found = labelled_images(folder, note)
    return Labelled(found.paths, np.asarray(found.labels))


def names_of(labels: np.ndarray, names: Mapping[Any, str] | Sequence[str] | None) -> list[str]:
    """What the prompts call the classes `labels` `(C,)`, in their order.

    Args:
        labels: sorted.
        names: label -> name, or a name for each in order; None = the labels themselves.

    Raises:
        DataError: not a name for each.
    """
    if names is None:
        return [str(label) for label in labels.tolist()]
    if isinstance(names, Mapping):
        missing = [label for label in labels.tolist() if label not in names]
        found = [names[label] for label in labels.tolist() if label in names]
    else:
        listed = isinstance(names, Sequence | np.ndarray) and not isinstance(names, str | bytes)
        found, missing = list(names) if listed else [], []  # a set has no order
    if missing or len(found) != len(labels) or not all(isinstance(n, str) for n in found):
        lacks = f" (missing: {brief(missing)})" if missing else ""
        raise DataError(
            f"class_names are {brief(names)} for the {len(labels)} labels "
            f"{brief(labels.tolist())}{lacks}: give a name for each, in this order"
        )
    return found


def hold_out(targets: Tensor, share: float, seed: int) -> Tensor:
    """Which of N images `(N,)` are held out: of every class that share, drawn at random.

    A class keeps at least one image to learn from.

    Args:
        targets: number of the class of each image, `(N,)`.
        share: in [0, 1).
        seed: decides which.
    """
    held = torch.zeros(len(targets), dtype=torch.bool)
    generator = torch.Generator().manual_seed(derive_seed(seed, "hold out"))
    for target in targets.unique():
        mine = (targets == target).nonzero()[:, 0]
        order = torch.randperm(len(mine), generator=generator)
        held[mine[order[: min(round(len(mine) * share), len(mine) - 1)]]] = True
    return held


def targets_of(labels: np.ndarray, classes: np.ndarray, what: str = "validation images") -> Tensor:
    """The numbers of the classes of images `(n,)` that are not learned from; `what` is their name.

    Raises:
        DataError: they are of other classes.
    """
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(f"{what} are of classes without training images: {unknown[:10]}")
    return torch.from_numpy(np.searchsorted(classes, labels))


def texts_for(prompts: str | Mapping[str, Any] | None, names: Sequence[str]) -> PromptTexts | None:
    """Synonyms and templates of the classes `names`: of a file, of a mapping, or none.

    Raises:
        DataError: they are of another form, or of other classes.
    """
    if prompts is None:
        return None
    if not isinstance(prompts, Mapping | str | os.PathLike):
        raise DataError(f"prompts are {brief(prompts)}; give a file, or a mapping as it would hold")
    mapping = isinstance(prompts, Mapping)
    texts = parse_prompts(prompts) if mapping else read_prompts(str(prompts))
    texts.check_names(names)
    return texts
