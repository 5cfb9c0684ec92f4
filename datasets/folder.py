"""A data set of your own: no code, only DATASET.PATH."""

import os
from collections import Counter

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.common.checks import Problems
from varprompt.errors import ConfigError
from varprompt.images.class_folders import (
    PARTS,
    LabelledImages,
    class_names,
    is_divided,
    labelled_images,
    subfolders,
)
from varprompt.images.lists import ListedImage, is_list, read_list
from varprompt.images.tree import beside, images_below, suffixes, summary

from .base import FewShotDataset, log_line
from .rules import SPLIT_SEED, split_50_20_30
from .splits import Item, Split


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """Folders train/class, test/class and, if wanted, val/class; class folders alone; or a list.

    ``DATASET.PATH`` is that folder, or a file with paths relative to its own folder: a split JSON,
    or a CSV or JSON-lines list (`varprompt.images.lists`). It is absolute or under DATASET.ROOT.
    Class folders alone, and lists that name no parts, are split 50/20/30 by a fixed seed: all runs
    test the same images. Of test/ alone a trained model can be tested. Classes are called
    like their folders, or as classnames.txt says, and numbered in sorted order of the folders.
    Folders inside a class folder belong to the class.
    """

    sources = {
        "train/<class name>/": "training images (.jpg, .png, ...)",
        "val/<class name>/": "validation images, not required",
        "test/<class name>/": "test images",
        "or <class name>/": "all images, to be split 50/20/30; or set DATASET.PATH to a list",
    }
    upright = True  # phones store how the camera was held instead of turning the pixels
    own_data = True
    _list_file = ""

    def prepare(self, cfg) -> None:
        """Go to DATASET.PATH.

        Raises:
            ConfigError: if it is empty.
        """
        path = os.path.expanduser(cfg.DATASET.get("PATH", ""))
        if not path:
            raise ConfigError(
                "DATASET.PATH is empty; set it to a folder with train/, test/ and, if wanted, "
                "val/, or to a split JSON (see configs/datasets/custom.yaml)"
            )
        self._given, self._root_given = path, bool(cfg.DATASET.ROOT)
        path = os.path.normpath(os.path.join(self.root, path))
        if path.endswith(".json"):
            path, self.split_file = os.path.split(path)
        elif is_list(path):
            path, self._list_file = os.path.split(path)
        self.dataset_dir = self.image_dir = path

    def origin(self) -> str:
        """Return the sentence that says what DATASET.PATH is and counts from."""
        text = f"It comes from DATASET.PATH, now {self._given}"
        if os.path.isabs(self._given):
            return text
        if not self._root_given:
            return f"{text}, relative to the working directory {self.root}"
        text += f", relative to DATASET.ROOT (--root, DATA of the scripts), now {self.root}"
        here = os.path.abspath(self._given)
        if os.path.exists(here) and not os.path.exists(os.path.join(self.root, self._given)):
            text += f"; {here} exists: if it is meant, give it in full"
        return text

    def build_split(self) -> Split:
        """Read the folders.

        Raises:
            DataError: if train or test is missing, DATASET.PATH names a JSON that is, names are no
                UTF-8, classnames.txt does not fit, or classes of train have no images at all.
        """
        if self.split_file:
            raise self.missing(self.split_file)
        if self._list_file:
            return self._listed(read_list(self.need(self._list_file)))
        if subfolders(self.image_dir) and not is_divided(self.image_dir):
            return self._undivided(labelled_images(self.image_dir, log_line))
        parts = ["train", "test"]
        if subfolders(self.image_dir) == ["test"]:
            parts = ["test"]
        elif os.path.isdir(os.path.join(self.image_dir, "val")):
            parts.insert(1, "val")
        folders = {part: self.folder_names(part) for part in parts}
        labels: dict[str, int] = {}  # classes that train lacks get labels behind the others
        for name in (name for part in parts for name in folders[part]):
            labels.setdefault(name, len(labels))
        names = class_names(self.image_dir, list(labels), log_line)
        ignored: Counter[str] = Counter()
        items = {
            part: [
                Item(f"{part}/{folder}/{image}", labels[folder], names[folder])
                for folder in folders[part]
                for image in images_below(os.path.join(self.image_dir, part, folder), ignored)
            ]
            for part in parts
        }
        self._count_the_rest(parts, ignored)
        if ignored:
            log_line(f"Ignored in {self.image_dir}: {summary(ignored)}")
        if not items.get("val", ["not there"]):
            log_line(f"{self.image_dir}/val holds no images: there is no validation")
        if parts == ["test"]:
            return self._only_test(items["test"])
        split = Split(items["train"], items.get("val", []), items["test"])
        self._refuse_empty_classes(split, labels)
        return split

    def _undivided(self, found: LabelledImages) -> Split:
        """Images of class folders, split 50/20/30."""
        numbers = {name: label for label, name in enumerate(dict.fromkeys(found.labels))}
        items = [
            Item(os.path.relpath(path, self.image_dir).replace(os.sep, "/"), numbers[name], name)
            for path, name in zip(found.paths, found.labels, strict=True)
        ]
        return self._divide(items)

    def _divide(self, items: list[Item]) -> Split:
        split = split_50_20_30(items, self.image_dir)
        counts = ", ".join(f"{len(part)} to {verb}" for part, verb in zip(
            split, ("train", "validate", "test"), strict=True
        ))  # fmt: skip
        log_line(
            f"{len(items)} images without parts were split 50/20/30 within each class by the fixed "
            f"seed {SPLIT_SEED}: {counts}. Put them into train/, val/ and test/ to decide yourself"
        )
        return split

    def _listed(self, rows: list[ListedImage]) -> Split:
        """Images of a list, in its parts if it names them."""
        numbers = {name: label for label, name in enumerate(sorted({row.label for row in rows}))}
        items = [Item(self._inside(row.path), numbers[row.label], row.label) for row in rows]
        if not any(row.part for row in rows):
            return self._divide(items)
        parts: dict[str, list[Item]] = {part: [] for part in PARTS}
        for row, item in zip(rows, items, strict=True):
            parts[row.part].append(item)
        if not parts["train"] and not parts["val"]:
            return self._only_test(parts["test"])
        return Split(**parts)

    def _inside(self, path: str) -> str:
        """A path relative to the images' folder, if it is in there."""
        inside = os.path.isabs(path) and path.startswith(os.path.join(self.image_dir, ""))
        return os.path.relpath(path, self.image_dir) if inside else path

    def _only_test(self, items: list[Item]) -> Split:
        self.test_only = True
        log_line(f"{self.image_dir} has test images only: nothing can be trained on it")
        return Split(items, [], items)

    def _count_the_rest(self, parts: list[str], ignored: Counter[str]) -> None:
        """Count what lies beside the class folders, and folders beside train/, val/ and test/."""
        for part in parts:
            beside(os.path.join(self.image_dir, part), part, ignored)
        beside(self.image_dir, "", ignored, taken=parts)

    def _refuse_empty_classes(self, split: Split, labels: dict[str, int]) -> None:
        used, problems = {item.label for items in split for item in items}, Problems()
        for name, label in labels.items() if used else ():
            if label not in used:
                problems.add("class folders without images", f"train/{name}")
        kinds = ", ".join(sorted(suffixes()))
        problems.raise_if_any(f"{self.image_dir}: fill or delete; images are {kinds}")
