"""Items and lists of items; Datum's module path is part of pickled few-shot caches."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import os
import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from varprompt.errors import DataError


class Datum:
    """One image: path, label, domain, class name; read-only.

    Raises:
        DataError: `impath` is not an existing file. Unpickling does not check.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not isinstance(impath, str) or not os.path.isfile(impath):
            raise DataError(
                f"image {impath!r} of class {classname!r} is not a file; "
                "check DATASET.ROOT and that the data set is complete"
            )
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    impath = property(attrgetter("_impath"), doc="Path of the image.")
    label = property(attrgetter("_label"), doc="Class index.")
    domain = property(attrgetter("_domain"), doc="Domain index.")
    classname = property(attrgetter("_classname"), doc="Class name.")


class DatasetBase:
    """Lists of Datum for training, validation and test, and what the training labels tell.

    `num_classes` is the largest label plus one, `lab2cname` the class name of each label,
    `classnames` the names in order of labels.

    Raises:
        DataError: there are no training images, or a label has two names.
    """

    dataset_dir = ""

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ):
        if not train_x:
            raise DataError(f"{type(self).__name__} has no training images")
        self.train_x, self.val, self.test = train_x, val, test
        self.num_classes = self.get_num_classes(train_x)
        self.lab2cname, self.classnames = self.get_lab2cname(train_x)

    @staticmethod
    def get_num_classes(data_source: Sequence[Datum]) -> int:
        """Largest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:
        """Class name of each label, and the names in order of labels.

        Raises:
            DataError: a label has two names.
        """
        names: dict[int, str] = {}
        for item in data_source:
            if names.setdefault(item.label, item.classname) != item.classname:
                raise DataError(
                    f"label {item.label} has two class names: "
                    f"{names[item.label]!r} and {item.classname!r} ({item.impath})"
                )
        names = dict(sorted(names.items()))
        return names, list(names.values())

    def generate_fewshot_dataset(self, *data_sources: list[Datum], num_shots: int = -1) -> Any:
        """Draw `num_shots` items per label with Python's global generator.

        Labels in order of first appearance; a class with fewer items is kept whole. Fewer than
        one shot: everything, unchanged.

        Returns:
            A list for one list, a list of lists for several.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for data_source in data_sources:
            chosen: list[Datum] = []
            for items in self.split_dataset_by_label(data_source).values():
                chosen += random.sample(items, num_shots) if len(items) >= num_shots else items
            output.append(chosen)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Items of each label, in order of first appearance."""
        groups: dict[int, list[Datum]] = {}
        for item in data_source:
            groups.setdefault(item.label, []).append(item)
        return groups
