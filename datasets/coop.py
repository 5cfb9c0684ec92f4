"""CoOp's helpers under CoOp's names, for data-set files that are written in its style.

Such a file is a subclass of Dassl's `DatasetBase` that calls ``OxfordPets.read_split``,
``OxfordPets.save_split``, ``OxfordPets.split_trainval``, ``OxfordPets.subsample_classes``,
``DescribableTextures.read_and_split_data`` or ``ImageNet.read_classnames``. Here every data set of
the protocol has all of them. Random rules draw from their own generator, so that the few-shot
choice does not depend on who built the split.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from dassl.data.datasets import Datum

from varprompt.common.files import write_atomic
from varprompt.settings.options import SUBSETS

from . import splits
from .annotations import parse_lines
from .rules import kept_labels, one_of, split_50_20_30, split_80_20


def make_datum(impath: str, label: int, classname: str) -> Datum:
    """Return Dassl's record, made without its constructor, which stats every file again."""
    datum = Datum.__new__(Datum)
    datum._impath, datum._label, datum._domain, datum._classname = impath, label, 0, classname
    return datum


def parse_class(line: str) -> tuple[str, str]:
    """Return folder and class name of a line of classnames.txt.

    Raises:
        ValueError: if it has no name.
    """
    folder, _, name = line.partition(" ")
    if not name:
        raise ValueError("a folder without a name")
    return folder, name


class CoOpHelpers:
    """What data-set files in CoOp's style call on its classes."""

    @staticmethod
    def read_split(filepath: str, path_prefix: str) -> tuple[list[Datum], ...]:
        """Return train, val and test of a split JSON whose paths are below ``path_prefix``.

        Raises:
            DataError: if the file is no split, or images are missing; all are listed.
        """
        print(f"Reading split from {filepath}")  # noqa: T201
        split, problems = splits.read_split(filepath), splits.Problems()
        splits.check_paths(split, problems, partial(_file_names, path_prefix))
        problems.raise_if_any(f"{filepath} and the images in {path_prefix} disagree")
        return tuple(
            [make_datum(os.path.join(path_prefix, path), *rest) for path, *rest in items]
            for items in split
        )

    @staticmethod
    def save_split(
        train: Iterable[Datum],
        val: Iterable[Datum],
        test: Iterable[Datum],
        filepath: str,
        path_prefix: str,
    ) -> None:
        """Write a split JSON with paths relative to ``path_prefix``."""
        parts = {
            part: [
                (os.path.relpath(d.impath, path_prefix).replace(os.sep, "/"), d.label, d.classname)
                for d in items
            ]
            for part, items in (("train", train), ("val", val), ("test", test))
        }
        text = json.dumps(parts, indent=4, separators=(",", ": "))
        write_atomic(filepath, lambda file: file.write(text.encode()))
        print(f"Saved split to {filepath}")  # noqa: T201

    @staticmethod
    def split_trainval(
        trainval: list[Datum], p_val: float = 0.2
    ) -> tuple[list[Datum], list[Datum]]:
        """Divide every class at random, a share of ``p_val`` for validation.

        Raises:
            DataError: if a class is too small to give both parts an image.
        """
        split = split_80_20(trainval, [], "training images", p_val)
        return split.train, split.val

    @staticmethod
    def subsample_classes(*lists: Sequence[Datum], subsample: str = "all") -> Sequence:
        """Return the lists with the first half of the classes ("base"), the second ("new"), or all.

        Halves are those of the classes in the first list; labels are numbered from 0 again.

        Raises:
            ConfigError: if there is no such half, or it is empty.
        """
        one_of(subsample, SUBSETS, "DATASET.SUBSAMPLE_CLASSES")
        if subsample == "all":
            return lists
        print(f"SUBSAMPLE {subsample.upper()} CLASSES!")  # noqa: T201
        new = kept_labels((d.label for d in lists[0]), subsample)
        return [
            [make_datum(d.impath, new[d.label], d.classname) for d in items if d.label in new]
            for items in lists
        ]

    @staticmethod
    def read_and_split_data(
        image_dir: str,
        p_trn: float = 0.5,
        p_val: float = 0.2,
        ignored: Collection[str] = (),
        new_cnames: Mapping[str, str] | None = None,
    ) -> tuple[list[Datum], ...]:
        """Divide the images of a folder of class folders at random into train, val and test.

        Raises:
            DataError: if a class is too small to give every part an image.
        """
        with os.scandir(image_dir) as entries:
            folders = sorted(
                e.name for e in entries if not e.name.startswith(".") and e.name not in ignored
            )
        print(f"Splitting into {p_trn:.0%} train, {p_val:.0%} val, and the rest test")  # noqa: T201
        data = [
            make_datum(
                os.path.join(image_dir, folder, name), label, (new_cnames or {}).get(folder, folder)
            )
            for label, folder in enumerate(folders)
            for name in _file_names(image_dir, folder)
        ]
        return tuple(split_50_20_30(data, image_dir, p_trn, p_val))

    @staticmethod
    def read_classnames(text_file: str) -> dict[str, str]:
        """Return folder -> class name in the order of a classnames.txt.

        Raises:
            DataError: if the file is unreadable, or a line has no name.
        """
        return dict(parse_lines(text_file, parse_class))


def _file_names(image_dir: str, folder: str) -> list[str]:
    try:
        with os.scandir(os.path.join(image_dir, folder)) as entries:
            return sorted(e.name for e in entries if not e.name.startswith("."))
    except (OSError, ValueError):
        return []
