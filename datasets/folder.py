"""A data set of your own: no code, only DATASET.PATH."""

import os

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.errors import ConfigError

from .base import FewShotDataset
from .splits import Item, Problems, Split

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """Folders train/class, test/class and, if wanted, val/class; or a split file.

    ``DATASET.PATH`` is that folder or a split JSON with paths relative to its own folder, absolute
    or under DATASET.ROOT. Classes are called like their folders and numbered in sorted order.
    """

    sources = {
        "train/<class name>/": "training images (.jpg, .png, ...)",
        "val/<class name>/": "validation images, not required",
        "test/<class name>/": "test images; or set DATASET.PATH to a split JSON",
    }

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
        self.dataset_dir = self.image_dir = path

    def origin(self) -> str:
        """Return the sentence that says what DATASET.PATH is and counts from."""
        text = f"It comes from DATASET.PATH, now {self._given}"
        if os.path.isabs(self._given):
            return text
        if not self._root_given:
            return f"{text}, relative to the working directory {self.root}"
        text += f", relative to DATASET.ROOT (--root), now {self.root}"
        here = os.path.abspath(self._given)
        if os.path.exists(here) and not os.path.exists(os.path.join(self.root, self._given)):
            text += f"; {here} exists: if it is meant, give it in full"
        return text

    def build_split(self) -> Split:
        """Read the folders.

        Raises:
            DataError: if train or test is missing, DATASET.PATH names a JSON that is, or lists the
                classes of train that have no images at all.
        """
        if self.split_file:
            raise self.missing(self.split_file)
        labels = {name: label for label, name in enumerate(self.folder_names("train"))}
        has_val = os.path.isdir(os.path.join(self.image_dir, "val"))
        split = Split(
            self._read("train", labels),
            self._read("val", labels) if has_val else [],
            self._read("test", labels),
        )
        used, problems = {item.label for items in split for item in items}, Problems()
        for name, label in labels.items() if used else ():
            if label not in used:
                problems.add("class folders without images", f"train/{name}")
        problems.raise_if_any(f"{self.image_dir}: fill or delete; images are {', '.join(SUFFIXES)}")
        return split

    def _read(self, part: str, labels: dict[str, int]) -> list[Item]:
        """Return the images of a part; classes that train lacks get labels behind the others."""
        return [
            Item(f"{part}/{folder}/{name}", labels.setdefault(folder, len(labels)), folder)
            for folder in self.folder_names(part)
            for name in self.file_names(f"{part}/{folder}")
            if name.lower().endswith(SUFFIXES)
        ]
