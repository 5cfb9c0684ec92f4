"""Lists of images with their classes: CSV, or JSON lines.

A CSV has a header with the columns path and label, and perhaps split (train, val or test), in any
order; other columns are left alone. It is separated by commas, semicolons or tabs. A line
of JSON lines is an object with the same keys. Paths are relative to the folder of the list.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..common.checks import Problems
from ..errors import DataError, brief
from .class_folders import PARTS

_KEYS = ("path", "label", "split")
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_LIKE_VAL = ("validation", "valid", "dev")


class ListedImage(NamedTuple):
    """A row: path as it stands there, class name, and its part; "" if the list names none."""

    path: str
    label: str
    part: str = ""


def is_list(path: str | os.PathLike) -> bool:
    """Whether a path is called like a list."""
    return os.fspath(path).lower().endswith(_SUFFIXES)


def read_list(path: str | os.PathLike) -> list[ListedImage]:
    """The rows of a list, in order.

    Raises:
        DataError: it cannot be read, rows lack path or label, an image stands there twice, or only
            some rows name a part; all rows that are wrong are counted.
    """
    problems, found = Problems(), dict[str, ListedImage]()
    for number, row in _rows(Path(path)):
        image, wrong = _listed(row)
        if image is None:
            problems.add(wrong, f"line {number}: {brief(dict(row))}")
        elif (place := os.path.normpath(image.path)) in found:  # ./a.png is a.png
            problems.add("images that stand there twice", f"line {number}: {image.path}")
        elif _of_windows(Path(path).parent, image.path):
            problems.add("paths with \\, which separates nothing here: write /", image.path)
        else:
            found[place] = image
    rows = list(found.values())
    if any(row.part for row in rows):
        for listed in rows:
            if not listed.part:
                problems.add("rows without a split, where others have one", listed.path)
    problems.raise_if_any(f"{path}: not a list of images")
    if not rows:
        raise DataError(f"{path} names no images")
    return rows


def _of_windows(folder: Path, name: str) -> bool:
    r"""Whether a path is one only where \ separates folders."""
    other = os.sep == "/" and "\\" in name
    return other and not (folder / name).exists() and (folder / name.replace("\\", "/")).is_file()


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of the line, and its values by the small letters of their names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _csv_rows(text, path)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {brief(row)} is no object with path and label")
        yield number, {str(key).lower(): value for key, value in row.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of whose keys none stands there twice.

    Raises:
        ValueError: one does; Python would take the last.
    """
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"a key stands twice among {brief([key for key, _ in pairs])}")
    return found


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if twice := [name for name in _KEYS if names.count(name) > 1]:
            raise DataError(f"{path} has the column {twice[0]} twice in {brief(head)}")
        if not {"path", "label"} <= set(names):
            raise DataError(
                f"{path} begins with {brief(head)}; the first line must name the columns, such as "
                "path,label or path,label,split"
            )
        for values in reader:
            if values:
                yield reader.line_num, dict(zip(names, values, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _listed(row: Mapping[str, Any]) -> tuple[ListedImage | None, str]:
    """A row, or what is wrong with it."""
    path, label, part = (row.get(name) for name in _KEYS)
    if not isinstance(path, str) or not path.strip():
        return None, "rows without a path"
    name = str(label).strip() if isinstance(label, str | int) else ""
    if not name:
        return None, "rows without a label"
    part = str(part or "").strip().lower()
    part = "val" if part in _LIKE_VAL else part
    if part not in ("", *PARTS):
        return None, f"rows of another split than {', '.join(PARTS)}"
    return ListedImage(path.strip(), name, part), ""
