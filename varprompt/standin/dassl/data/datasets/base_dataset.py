"""Items and lists of items; Datum's module path is part of pickled few-shot caches."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
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

    @property
    def impath(self) -> str:
        """Path of the image."""
        return self._impath

    @property
    def label(self) -> int:
        """Class index."""
        return self._label

    @property
    def domain(self) -> int:
        """Domain index."""
        return self._domain

    @property
    def classname(self) -> str:
        """Class name."""
        return self._classname


class DatasetBase:
    """Lists of Datum for training (labelled, unlabelled), validation and test."""

    dataset_dir = ""
    domains: list[str] = []

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ):
        if not train_x:
            raise DataError(f"{type(self).__name__} has no training images")
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> list[Datum]:
        """Labelled training data."""
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        """Unlabelled training data."""
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        """Validation data."""
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        """Test data."""
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        """Class name of each training label."""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in order of the training labels."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        """Largest training label plus one."""
        return self._num_classes

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

    def check_input_domains(self, source_domains: list[str], target_domains: list[str]) -> None:
        """Check DATASET.SOURCE_DOMAINS and TARGET_DOMAINS.

        Raises:
            ValueError: one is empty or names an unknown domain.
        """
        for key, given in (("SOURCE", source_domains), ("TARGET", target_domains)):
            if not given:
                raise ValueError(f"DATASET.{key}_DOMAINS is empty; choose from {self.domains}")
            self.is_input_domain_valid(given)

    def is_input_domain_valid(self, input_domains: list[str]) -> None:
        """Check names of domains.

        Raises:
            ValueError: one is unknown.
        """
        for domain in input_domains:
            if domain not in self.domains:
                raise ValueError(f"domain {domain!r} is unknown; choose from {self.domains}")

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw `num_shots` items per label with Python's global generator.

        Labels in order of first appearance; a class with fewer items is kept whole, or with
        `repeat` drawn from with replacement. Fewer than one shot: everything, unchanged.

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
                if len(items) >= num_shots:
                    items = random.sample(items, num_shots)
                elif repeat:
                    items = random.choices(items, k=num_shots)  # noqa: S311 - not a secret
                chosen.extend(items)
            output.append(chosen)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Items of each label, in order of first appearance."""
        return _group(data_source, lambda item: item.label)

    def split_dataset_by_domain(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Items of each domain, in order of first appearance."""
        return _group(data_source, lambda item: item.domain)


def _group(items: Sequence[Datum], key: Callable[[Datum], int]) -> dict[int, list[Datum]]:
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
