"""What a run is known by: content, never a path, a name or a size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.files import write_atomic
from ..images.content import ContentHasher
from .folder import INVENTORY

TRAIN, TEST = "train", "test"
# Parts of an identity, by what messages call them.
PARTS = {
    "class_names": "the class names",
    "train_images": "the training images",
    "val_images": "the validation images",
    "test_images": "the test images",
    "calibration_images": "the images that calibrate",
    "weights": "the weights of the CLIP",
    "weights_file": "the weights in MODEL.BACKBONE.PATH",
    "prompts": "the synonyms and templates in DATASET.PROMPTS",
    "init_weights": "the start values in MODEL.INIT_WEIGHTS",
    "checkpoint": "the values of the tested model",
    "calibration": "the temperature that its run has kept",
}
# Keys of the configuration that say where something is; what is there is a part of the identity.
PLACES = ("DATASET.PATH", "DATASET.PROMPTS", "MODEL.BACKBONE.PATH", "MODEL.INIT_WEIGHTS")
_MOST_ROWS = 100_000  # of the inventory: more would make files of tens of megabytes
_SHOWN = 3


@dataclass(frozen=True)
class Images:
    """A list of images by label and content; names are for messages only."""

    labels: Sequence[int]
    digests: Sequence[str]
    names: Sequence[str]

    @staticmethod
    def of(items: Sequence[Any], root: str, hasher: ContentHasher) -> Images:
        """Those of Dassl's records (label, impath); names are relative to `root`.

        Raises:
            DataError: one is missing or cannot be read.
        """
        prefix = os.path.join(root, "")
        paths = [item.impath for item in items]
        names = [path.removeprefix(prefix) for path in paths]
        return Images([item.label for item in items], hasher.digests(paths), names)

    @property
    def digest(self) -> str:
        """Hex digest of labels and contents in order: what training and testing depend on."""
        rows = (f"{n} {d}\n".encode() for n, d in zip(self.labels, self.digests, strict=True))
        digest = hashlib.sha256()
        for row in rows:
            digest.update(row)
        return digest.hexdigest()

    @property
    def names_digest(self) -> str:
        """Hex digest of labels and names: all that states of version 0.1.0 tell of images."""
        rows = list(zip(self.labels, self.names, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def rows(self) -> list[list[Any]]:
        """Name, label and the beginning of the content's digest of each image."""
        triples = zip(self.names, self.labels, self.digests, strict=True)
        return [[name, label, digest[:16]] for name, label, digest in triples]


@dataclass(frozen=True)
class Identity:
    """What the result of a run is a function of, besides its configuration.

    Attributes:
        mode: "train", or "test" if nothing was trained.
        class_names: in the order of the labels.
        images: part -> images, of the parts of `PARTS` that matter here and are known.
        files: part -> digest, of those that are files; "" = there is none.
    """

    mode: str
    class_names: Sequence[str]
    images: Mapping[str, Images] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Mode, class names, and a digest for each other part, for results.json and states."""
        return {
            "mode": self.mode,
            "class_names": list(self.class_names),
            **{part: images.digest for part, images in self.images.items()},
            **self.files,
        }

    def inventory(self) -> dict[str, Any]:
        """Names and single digests, from which a later start can tell what has changed."""
        rows = {part: images.rows() for part, images in self.images.items()}
        return {"class_names": list(self.class_names), **rows}


@dataclass(frozen=True)
class Comparison:
    """Parts that differ from a record, and parts that the record says nothing about."""

    changed: tuple[str, ...]
    unknown: tuple[str, ...]


def twins(images: Mapping[str, Images]) -> list[str]:
    """Lines on images whose content is that of others: of another class, or of the training."""
    places: dict[str, dict[int, str]] = {}
    for several in images.values():
        for name, label, digest in zip(several.names, several.labels, several.digests, strict=True):
            places.setdefault(digest, {}).setdefault(label, name)
    torn = [list(names.values()) for names in places.values() if len(names) > 1]
    lines = []
    if torn:
        example = " and ".join(torn[0][:2])
        lines.append(f"{len(torn)} images are in several classes at once, such as {example}")
    learned, tested = images.get("train_images"), images.get("test_images")
    if learned and tested:
        known = set(learned.digests)
        pairs = zip(tested.names, tested.digests, strict=True)
        if again := [name for name, digest in pairs if digest in known]:
            lines.append(
                f"{len(again)} of {len(tested.digests)} test images are among the training images, "
                f"too, such as {again[0]}: the figures are too good"
            )
    return lines


def is_record(recorded: Any) -> bool:
    """Whether a record can be one of an identity, or of a part of it."""
    if not isinstance(recorded, dict) or recorded.get("mode", TEST) not in (TRAIN, TEST):
        return False
    kinds = {part: list if part == "class_names" else str for part in PARTS}
    return all(type(recorded[part]) is kind for part, kind in kinds.items() if part in recorded)


def recorded_identity(results: Mapping[str, Any]) -> dict[str, Any]:
    """The identity in results, or what 0.1.0 has of it."""
    recorded = results.get("identity")
    if isinstance(recorded, dict):
        return recorded
    known = {"checkpoint": "checkpoint_sha256", "weights": "weights_sha256"}
    return {part: results[key] for part, key in known.items() if results.get(key)}


def recorded_class_names(
    results: Mapping[str, Any], recorded: Mapping[str, Any], identity: Identity
) -> dict[str, Any]:
    """What results of 0.1.0 tell of class names: those of the classes that were tested."""
    tested = results.get("per_class")
    if "class_names" in recorded or not isinstance(tested, dict):
        return {}
    if len(tested) != len(identity.class_names):  # some had no test images
        return {}
    return {"class_names": list(tested)}


def compare(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Compare the parts of `now`, a `Identity.record`, with one from a file."""
    parts = [part for part in PARTS if part in now]
    known = [part for part in parts if isinstance(recorded.get(part), type(now[part]))]
    return Comparison(
        tuple(part for part in known if recorded[part] != now[part]),
        tuple(part for part in parts if part not in known and now[part]),
    )


def write_inventory(folder: str | os.PathLike, identity: Identity) -> None:
    """Write what `explain` needs into a run's folder, unless it is there or too much."""
    content = identity.inventory()
    if sum(map(len, content.values())) > _MOST_ROWS or content == _read_inventory(folder):
        return
    text = json.dumps(content, ensure_ascii=True)
    write_atomic(Path(folder, INVENTORY), lambda file: file.write(text.encode()))


def explain(changed: Sequence[str], folder: str | os.PathLike, identity: Identity) -> str:
    """What has changed in some parts, as far as the inventory in the run's folder tells."""
    before, now = _read_inventory(folder), identity.inventory()
    details = []
    for part in changed:
        old, new = before.get(part), now.get(part)
        with contextlib.suppress(TypeError, ValueError):  # somebody's file
            if isinstance(old, list) and isinstance(new, list):
                compared = explain_classes if part == "class_names" else _images
                details.append(compared(old, new))
    return "; ".join(filter(None, details))


def named(parts: Sequence[str]) -> str:
    """Parts as messages call them."""
    return " and ".join(PARTS[part] for part in parts)


def explain_classes(before: Sequence[Any], now: Sequence[Any]) -> str:
    """Which class names have changed."""
    if len(before) != len(now):
        return f"{len(before)} -> {len(now)} classes"
    pairs = enumerate(zip(before, now, strict=True))
    return _first([f"label {i}: {a!r} -> {b!r}" for i, (a, b) in pairs if a != b])


def _images(before: list[Any], now: list[Any]) -> str:
    if len(before) != len(now):
        return f"{len(before)} -> {len(now)} images"
    found = []
    for (name, label, digest), (name_now, label_now, digest_now) in zip(before, now, strict=True):
        if digest != digest_now:
            what = "has another content" if name == name_now else f"in the place of {name}"
            found.append(f"{name_now} {what}")
        elif label != label_now:
            found.append(f"{name_now} has label {label_now} instead of {label}")
    return _first(found)


def _first(found: list[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{'; '.join(found[:_SHOWN])}{more}"


def _read_inventory(folder: str | os.PathLike) -> dict[str, Any]:
    try:
        content = json.loads(Path(folder, INVENTORY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
