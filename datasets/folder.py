"""A data set of your own: no code, only DATASET.PATH."""

import os
import re
from collections import Counter

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.errors import ConfigError, DataError

from .base import FewShotDataset, log_line
from .splits import SHOWN, Item, Problems, Split
from .tree import beside, images_below, suffixes, summary

NAMES_FILE = "classnames.txt"
_CODE = re.compile(r"n\d{8}|\d+([._-].*)?")  # WordNet's n01440764, 001.Black_footed_Albatross, 17


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """Folders train/class, test/class and, if wanted, val/class; or a split file.

    ``DATASET.PATH`` is that folder or a split JSON with paths relative to its own folder, absolute
    or under DATASET.ROOT. Classes are called like their folders, or as classnames.txt says, and
    numbered in sorted order of the folders. Folders inside a class folder belong to the class.
    """

    sources = {
        "train/<class name>/": "training images (.jpg, .png, ...)",
        "val/<class name>/": "validation images, not required",
        "test/<class name>/": "test images; or set DATASET.PATH to a split JSON",
    }
    upright = True  # phones store how the camera was held instead of turning the pixels
    own_data = True

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
        parts = ["train", "test"]
        if os.path.isdir(os.path.join(self.image_dir, "val")):
            parts.insert(1, "val")
        folders = {part: self.folder_names(part) for part in parts}
        labels: dict[str, int] = {}  # classes that train lacks get labels behind the others
        for name in (name for part in ("train", *parts) for name in folders[part]):
            labels.setdefault(name, len(labels))
        names = self._class_names(list(labels))
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
        split = Split(items["train"], items.get("val", []), items["test"])
        self._refuse_empty_classes(split, labels)
        return split

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

    def _class_names(self, folders: list[str]) -> dict[str, str]:
        """Return folder -> class name: what classnames.txt says, else the folder's own name.

        Raises:
            DataError: a name that is not UTF-8, a line of the file that begins with no folder.
        """
        problems = Problems()
        for name in folders:
            if not name.isprintable() or name.encode("utf-8", "replace") != os.fsencode(name):
                shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                problems.add("folder names that are not printable UTF-8: rename", repr(shown))
        problems.raise_if_any(self.image_dir)
        renamed = self._read_names_file(sorted(folders, key=len, reverse=True))
        codes = [name for name in folders if name not in renamed and _CODE.fullmatch(name)]
        if codes:
            log_line(
                f"{len(codes)} of {len(folders)} class folders look like codes or numbers, which "
                f"CLIP has never read: {', '.join(codes[:SHOWN])}. Put a {NAMES_FILE} into "
                f"{self.image_dir}, a line for each: {codes[0]} the name to read"
            )
        return {name: renamed.get(name, name) for name in folders}

    def _read_names_file(self, folders: list[str]) -> dict[str, str]:
        """Return folder -> name from lines ``folder name``, split at a space, tab, comma or =."""
        path = os.path.join(self.image_dir, NAMES_FILE)
        if not os.path.isfile(path):
            return {}
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = file.read().splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable text file ({error})") from error
        names: dict[str, str] = {}
        problems = Problems()
        for number, line in enumerate(lines, 1):
            folder = next((f for f in folders if re.match(rf"{re.escape(f)}[ \t,=]", line)), "")
            name = line[len(folder) :].strip(" \t,=")
            if folder and name and folder not in names:
                names[folder] = name
            elif line.strip() and not line.startswith("#"):
                problems.add("lines that are not a class folder and its name", f"{number}: {line}")
        problems.raise_if_any(path)
        return names
