"""Splits of a data set into train, val and test: their file format and their checks.

A split is three lists of :class:`Item`, the very triples of CoOp's ``split_zhou_*.json``.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from varprompt.common.checks import SHOWN, Problems
from varprompt.errors import DataError, brief


class Item(NamedTuple):
    """One image: path relative to the image folder, zero-based label, class name."""

    path: str
    label: int
    classname: str


class Split(NamedTuple):
    """The three lists of a data set; ``val`` may be empty."""

    train: list[Item]
    val: list[Item]
    test: list[Item]


def read_json(path: str) -> object:
    """Return the content of a JSON file.

    Raises:
        DataError: if the file cannot be read or is not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error})") from error


def read_split(path: str) -> Split:
    """Read a split file: an object with the lists train, val and test of [path, label, name].

    Raises:
        DataError: if the file is not JSON or not a split; every bad entry is reported.
    """
    content = read_json(path)
    parts = dict.fromkeys(Split._fields)
    if isinstance(content, dict):
        parts = {part: content.get(part) for part in parts}
    absent = [repr(part) for part, entries in parts.items() if not isinstance(entries, list)]
    if absent:
        raise DataError(
            f"{path}: not a split file: no list {', '.join(absent)}; expected an object with the "
            "lists 'train', 'val' and 'test', each of [image path, label, class name] entries; "
            "'val' may be empty: []"
        )
    problems = Problems()
    split = Split(*(_read_part(part, entries, problems) for part, entries in parts.items()))
    problems.raise_if_any(f"{path}: entries that are not [image path, label >= 0, class name]")
    return split


def _read_part(part: str, entries: list, problems: Problems) -> list[Item]:
    items = []
    names: dict[str, str] = {}  # one string per class instead of one per image
    for number, entry in enumerate(entries):
        try:
            path, label, name = entry
            item = Item(path, int(label), names.setdefault(name, name))
            good = item.label == float(label) and item.label >= 0 and bool(path) and bool(name)
            good = good and isinstance(path, str) and isinstance(name, str)
        except (TypeError, ValueError, OverflowError):
            good = False
        if good:
            items.append(item)
        else:
            problems.add(part, f"entry {number}: {brief(entry)}")
    return items


def leaves_folder(path: str) -> bool:
    """Whether a relative path is absolute, climbs out with '..' or cannot name a file."""
    return path.startswith(("/", "\\")) or ".." in path.split("/") or "\0" in path


def check_split(
    split: Split,
    where: str,
    file_names: Callable[[str], Iterable[str]],
    lenient: bool = False,
) -> tuple[list[str], list[str]]:
    """Check labels, names and files of a whole split.

    Args:
        split: the lists to check.
        where: the head of the report.
        file_names: maps a folder, relative to the image folder, to the names of its files.
        lenient: a class without test images is no damage, but returned as a note.

    Returns:
        Notes, and the paths of the files beside the images that no list names.

    Raises:
        DataError: all problems at once: an empty list, a label without training or test images,
            a gap in the labels, two names for one label, a path that leaves the data folder, a
            missing image.
    """
    problems = Problems()
    for part in ("train", "test"):
        if not getattr(split, part):
            problems.add("no images", part)
    untested = _check_labels(split, problems)
    if problems or not lenient:
        for shown in untested:
            problems.add("classes without test images", shown)
    unnamed = check_paths(split, problems, file_names)
    problems.raise_if_any(where)
    if not untested:
        return [], unnamed
    shown = ", ".join(untested[:SHOWN]) + ", ..." * (len(untested) > SHOWN)
    return [
        f"{len(untested)} classes without test images, of which no figure tells: {shown}"
    ], unnamed


def same_prompts(split: Split) -> list[str]:
    """Notes on classes that make the same prompt: CLIP cannot tell them apart.

    Prompts show "_" as a space; CLIP's tokenizer reads capitals as small letters and any white
    space as one space.
    """
    groups: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for item in split.train:
        words = " ".join(item.classname.replace("_", " ").lower().split())
        groups[words].add((item.label, item.classname))
    notes = []
    for group in groups.values():
        if len(group) > 1:
            shown = ", ".join(f"{label} ({name!r})" for label, name in sorted(group))
            notes.append(
                f"classes {shown} make the same prompt, so that only the first of them can be "
                "predicted: rename all but one"
            )
    return notes


def _check_labels(split: Split, problems: Problems) -> list[str]:
    """Note what is wrong with labels and names; return the classes without test images."""
    names: dict[int, set[str]] = defaultdict(set)
    present, untested = {}, []
    for part, items in split._asdict().items():
        pairs = {(item.label, item.classname) for item in items}
        present[part] = {label for label, _ in pairs}
        for label, name in pairs:
            names[label].add(name)
    for label, found in sorted(names.items()):
        shown = ", ".join(repr(name) for name in sorted(found))
        if label < 0:
            problems.add("negative labels", f"{label} ({shown})")
        if len(found) > 1:
            problems.add("labels with more than one class name", f"{label}: {shown}")
        if present["train"] and label not in present["train"]:
            problems.add("classes without train images", f"{label} ({shown})")
        if present["test"] and label not in present["test"]:
            untested.append(f"{label} ({shown})")
    for before, after in itertools.pairwise([-1, *sorted(names)]):
        if after - before > 1:
            gap = f"{before + 1} to {after - 1}" if after - before > 2 else f"{before + 1}"
            problems.add("gaps in the labels (must be 0, 1, 2, ...)", gap)
    return untested


def check_paths(
    split: Split, problems: Problems, file_names: Callable[[str], Iterable[str]]
) -> list[str]:
    """Note paths that leave the data folder, and images that do not exist.

    Args:
        split: the lists to check.
        problems: where to.
        file_names: maps a folder, relative to the image folder, to the names of its files.

    Returns:
        The paths of the files in folders of the split that no list names.
    """
    named: dict[str, set[str]] = defaultdict(set)
    folders: dict[str, set[str]] = {}  # one directory scan per folder, no stat per image
    for part, items in split._asdict().items():
        for path, _, _ in items:
            if leaves_folder(path):
                problems.add(f"{part} paths that leave the data folder", repr(path))
                continue
            folder, _, name = path.rpartition("/")
            if folder not in folders:
                folders[folder] = set(file_names(folder))
            named[folder].add(name)
            if name not in folders[folder]:
                problems.add(f"{part} images that do not exist{_hint(path)}", repr(path))
    return [
        f"{folder}/{name}".lstrip("/")
        for folder, names in folders.items()
        for name in sorted(names - named[folder])
    ]


def _hint(path: str) -> str:
    return ", written with \\ as on Windows: write / instead" if "\\" in path else ""


def check_choice(
    chosen: dict[str, list[Item]], split: Split, n_shots: dict[str, int], where: str
) -> None:
    """Check that a stored few-shot choice could have been made from this split.

    Args:
        chosen: part -> its chosen images.
        split: the full lists.
        n_shots: part -> images per class; a class with fewer images is chosen whole.
        where: the file of the choice.

    Raises:
        DataError: if images are not in the split with this label and name, or a class has another
            number of images.
    """
    problems = Problems()
    for part, items in chosen.items():
        known = set(getattr(split, part))
        for item in items:
            if item not in known:
                problems.add(f"{part} images that are not in the split", repr(tuple(item)))
        wanted = Counter(item.label for item in known)
        got = Counter(item.label for item in set(items) & known)
        for label, n_images in sorted(wanted.items()):
            if got[label] != min(n_images, n_shots[part]):
                problems.add(
                    f"classes with another number of {part} images",
                    f"{label}: {got[label]} instead of {min(n_images, n_shots[part])}",
                )
    problems.raise_if_any(
        f"{where}: not chosen from the present split; delete the file to choose anew, or restore "
        "the split it was made from"
    )
