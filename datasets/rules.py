"""The rules of the CoOp protocol: halves of the classes, and splits where there is no file."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from varprompt.common.checks import Problems, check_choice
from varprompt.errors import ConfigError

from .splits import Item, Split

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
    renumbered = kept_labels((item.label for item in split.train), subsample)
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


def kept_labels(labels: Iterable[int], subsample: str) -> dict[int, int]:
    """Return the labels of a half of the classes, "base" or "new" -> their new labels.

    Raises:
        ConfigError: if no class is selected.
    """
    known = sorted(set(labels))
    half = math.ceil(len(known) / 2)
    selected = known[:half] if subsample == "base" else known[half:]
    if not selected:
        raise ConfigError(
            f"DATASET.SUBSAMPLE_CLASSES {subsample!r} selects none of {len(known)} classes"
        )
    return {label: new for new, label in enumerate(selected)}


def _group(items: Iterable[Item]) -> Iterable[list[Item]]:
    """Group items by label, labels in order of first appearance."""
    groups: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.label].append(item)
    return groups.values()


def _generator() -> random.Random:
    """Return a generator of its own, so that no other draw depends on who built the split."""
    return random.Random(SPLIT_SEED)  # noqa: S311


def split_50_20_30(
    items: list[Item], where: str, p_train: float = 0.5, p_val: float = 0.2
) -> Split:
    """Divide every class at random into 50 % train, 20 % val and 30 % test, each rounded.

    Other shares may be given; the items may be any records with a label and a class name.

    Raises:
        DataError: if a class is too small to give every part an image.
    """
    rng, problems, split = _generator(), Problems(), Split([], [], [])
    for group in _group(items):
        rng.shuffle(group)
        n_train, n_val = round(len(group) * p_train), round(len(group) * p_val)
        parts = group[:n_train], group[n_train : n_train + n_val], group[n_train + n_val :]
        if not all(parts):
            problems.add("classes too small", f"{group[0].classname!r}: {len(group)} images")
        for target, part in zip(split, parts, strict=True):
            target.extend(part)
    shares = [f"{100 * share:.0f} %" for share in (p_train, p_val, 1 - p_train - p_val)]
    problems.raise_if_any(
        f"{where}: cannot be divided into {shares[0]} train, {shares[1]} val, {shares[2]} test"
    )
    return split


def split_80_20(trainval: list[Item], test: list[Item], where: str, p_val: float = 0.2) -> Split:
    """Divide every class of ``trainval`` at random into 80 % train and 20 % val, rounded.

    Another share may be given; the items may be any records with a label and a class name.

    Raises:
        DataError: if a class is too small to give both parts an image.
    """
    rng, problems, split = _generator(), Problems(), Split([], [], test)
    for group in _group(trainval):
        rng.shuffle(group)
        n_val = round(len(group) * p_val)
        if not 0 < n_val < len(group):
            problems.add("classes too small", f"{group[0].classname!r}: {len(group)} images")
        split.val.extend(group[:n_val])
        split.train.extend(group[n_val:])
    shares = f"{100 - 100 * p_val:.0f} % train and {100 * p_val:.0f} % val"
    problems.raise_if_any(f"{where}: cannot be divided into {shares}")
    return split
