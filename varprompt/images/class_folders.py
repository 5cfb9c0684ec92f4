"""Folders of images that are called like their classes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..common.checks import SHOWN, Problems
from ..errors import DataError
from .tree import beside, images_below, suffixes, summary

NAMES_FILE = "classnames.txt"
PARTS = ("train", "val", "test")
_LIKE_PARTS = {*PARTS, "trains", "tests", "training", "testing", "valid", "validation", "dev"}
_CODE = re.compile(r"n\d{8}|\d+([._-].*)?")  # WordNet's n01440764, 001.Black_footed_Albatross, 17


@dataclass(frozen=True)
class LabelledImages:
    """Images of class folders, in order: their paths, and the class name of each."""

    paths: list[str]
    labels: list[str]


def labelled_images(folder: str | os.PathLike, note: Callable[[str], None]) -> LabelledImages:
    """The images in the class folders of a folder; folders inside those belong to the class.

    Args:
        folder: holds a folder for each class, and perhaps a classnames.txt.
        note: takes a line about what was ignored.

    Raises:
        DataError: there are no class folders, one has no images, or names cannot be used.
    """
    top = os.fspath(folder)
    folders, ignored = subfolders(top), Counter[str]()
    names, problems = class_names(top, folders, note), Problems()
    paths: list[str] = []
    labels: list[str] = []
    for name in folders:
        below = os.path.join(top, name)
        found = [os.path.join(below, image) for image in images_below(below, ignored)]
        if not found:
            closed = not os.access(below, os.R_OK | os.X_OK)
            problems.add(
                f"class folders {'without permission' if closed else 'without images'}", name
            )
        paths += found
        labels += [names[name]] * len(found)
    for name, count in Counter(names.values()).items():
        if count > 1:
            both = ", ".join(folder for folder in folders if names[folder] == name)
            note(f"The folders {both} are one class, as {NAMES_FILE} calls each of them {name}")
    beside(top, "", ignored, taken=folders)
    if not folders:
        raise DataError(f"{top} has no class folders: put the images of each class into a folder")
    kinds = ", ".join(sorted(suffixes()))
    problems.raise_if_any(f"{top}: fill or delete; images are {kinds}")
    if ignored:
        note(f"Ignored in {top}: {summary(ignored)}")
    return LabelledImages(paths, labels)


def is_divided(folder: str | os.PathLike) -> bool:
    """Whether a folder holds train/, val/, test/ or the like instead of class folders."""
    return not {name.lower() for name in subfolders(folder)}.isdisjoint(_LIKE_PARTS)


def subfolders(folder: str | os.PathLike) -> list[str]:
    """Sorted names of the visible folders in a folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: not a readable folder ({error.strerror})") from error
    return sorted(
        n for n in names if not n.startswith(".") and os.path.isdir(os.path.join(folder, n))
    )


def class_names(top: str, folders: Sequence[str], note: Callable[[str], None]) -> dict[str, str]:
    """Class folder -> class name: what classnames.txt in `top` says, else the folder's own name.

    Args:
        top: where the file may be.
        folders: names of the class folders.
        note: takes a line about folders that look like codes.

    Raises:
        DataError: a name that is not UTF-8, a line of the file that begins with no folder.
    """
    problems = Problems()
    for name in folders:
        if not name.isprintable() or name.encode("utf-8", "replace") != os.fsencode(name):
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            problems.add("folder names that are not printable UTF-8: rename", repr(shown))
    problems.raise_if_any(top)
    renamed = _read_names_file(top, sorted(folders, key=len, reverse=True))
    codes = [name for name in folders if name not in renamed and _CODE.fullmatch(name)]
    if codes:
        note(
            f"{len(codes)} of {len(folders)} class folders look like codes or numbers, which "
            f"CLIP has never read: {', '.join(codes[:SHOWN])}. Put a {NAMES_FILE} into "
            f"{top}, a line for each: {codes[0]} the name to read"
        )
    return {name: renamed.get(name, name) for name in folders}


def _read_names_file(top: str, folders: Sequence[str]) -> dict[str, str]:
    """Folder -> name from lines ``folder name``, split at a space, tab, comma or =."""
    path = os.path.join(top, NAMES_FILE)
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
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
