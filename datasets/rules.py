"""The rules of the CoOp protocol: halves of the classes, and splits where there is no file."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from varprompt.checks import check_choice
from varprompt.errors import ConfigError

from .splits import Item, Problems, Split

SPLIT_SEED = 0


def one_of(value: str, allowed: Sequence[str], key: str) -> str:
    """Return the value of a config key if it is allowed.

    Raises:
        ConfigError: if it is not.
    """
    problems: list[str] = []
    check_choice(value, allowed, key, problems)
    if problems:
        raise ConfigError(problems)
    return value


def subsample_classes(split: Split, subsample: str) -> Split:
    """Keep the first half of the classes ("base", the larger one), the second ("new"), or "all".

    Labels are renumbered from 0 in their order; names and paths are kept.

    Raises:
        ConfigError: if no class is selected.
    """
    if subsample == "all":
        return split
    labels = sorted({item.label for item in split.train})
    half = math.ceil(len(labels) / 2)
    selected = labels[:half] if subsample == "base" else labels[half:]
    if not selected:
        raise ConfigError(
            f"DATASET.SUBSAMPLE_CLASSES {subsample!r} selects none of {len(labels)} classes"
        )
    renumbered = {label: new for new, label in enumerate(selected)}
    return Split(
        *(
            [
                item._replace(label=renumbered[item.label])
                for item in items
                if item.label in renumbered
            ]
            for items in split
        )
    )


def _group(items: Iterable[Item]) -> Iterable[list[Item]]:
    """Group items by label, labels in order of first appearance."""
    groups: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.label].append(item)
    return groups.values()


def _generator() -> random.Random:
    """Return a generator of its own, so that no other draw depends on who built the split."""
    return random.Random(SPLIT_SEED)  # noqa: S311


def split_50_20_30(items: list[Item], where: str) -> Split:
    """Divide every class at random into 50 % train, 20 % val and 30 % test, each rounded.

    Raises:
        DataError: if a class is too small to give every part an image.
    """
    rng, problems, split = _generator(), Problems(), Split([], [], [])
    for group in _group(items):
        rng.shuffle(group)
        n_train, n_val = round(len(group) * 0.5), round(len(group) * 0.2)
        parts = group[:n_train], group[n_train : n_train + n_val], group[n_train + n_val :]
        if not all(parts):
            problems.add("classes too small", f"{group[0].classname!r}: {len(group)} images")
        for target, part in zip(split, parts, strict=True):
            target.extend(part)
    problems.raise_if_any(f"{where}: cannot be divided into 50 % train, 20 % val, 30 % test")
    return split


def split_80_20(trainval: list[Item], test: list[Item], where: str) -> Split:
    """Divide every class of ``trainval`` at random into 80 % train and 20 % val, rounded.

    Raises:
        DataError: if a class is too small to give both parts an image.
    """
    rng, problems, split = _generator(), Problems(), Split([], [], test)
    for group in _group(trainval):
        rng.shuffle(group)
        n_val = round(len(group) * 0.2)
        if not 0 < n_val < len(group):
            problems.add("classes too small", f"{group[0].classname!r}: {len(group)} images")
        split.val.extend(group[:n_val])
        split.train.extend(group[n_val:])
    problems.raise_if_any(f"{where}: cannot be divided into 80 % train and 20 % val")
    return split
