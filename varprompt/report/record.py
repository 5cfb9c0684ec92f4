"""What a results.json says of its run, checked: any file gives a record, or a reason for none.

Files of version 0.1.0 record configuration, class names and the number of test images; later ones
also an ``identity`` with the content of the images.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.characters import printable
from ..errors import brief
from .detail import Detail, detail_of
from .metrics import NotARecord, metric, metrics_of
from .recorded import flat, name_of, of_a_method, path, place, title

RESULTS = "results.json"
PARTS = ("all", "base", "new")
ALL_IMAGES = -1  # as number of shots
_DIGESTS = ("class names", "test images")
PLACE = "folder of the data"
_LARGEST = 64 << 20  # bytes; 1,000 classes need 0.1 MB
_MOST_SHOTS, _MOST_SEED = 10**6, 2**32


@dataclass(frozen=True)
class Data:
    """On what was tested. Empty fields are not recorded; `content` decides where both have it."""

    content: str = ""  # digest of the test images
    train: str = ""  # digest of the training images
    kind: str = ""  # name of the data set's class
    split: str = ""
    place: str = ""  # the folder: DATASET.PATH in DATASET.ROOT
    path: str = ""  # DATASET.PATH alone
    classes: str = ""  # digest of the class names in order
    n_total: int = 0

    def difference(self, other: Data, any_root: bool = False) -> str:
        """What tells the data of `self` from those of `other`; empty if nothing recorded does."""
        pairs: list[tuple[str, Any, Any]] = [
            ("class names", self.classes, other.classes),
            ("split", self.split, other.split),
        ]
        if self.content and other.content:
            pairs.insert(0, ("test images", self.content, other.content))
        else:
            pairs += [
                ("data set", self.kind, other.kind),
                ("number of test images", self.n_total, other.n_total),
            ]
            home = (self.path, other.path) if any_root else (self.place, other.place)
            pairs.append((PLACE, *home))
        for what, mine, theirs in pairs:
            if mine and theirs and mine != theirs:
                if what in _DIGESTS:
                    return f"{what} are not those of"
                return f"{what} is {printable(mine)}, not {printable(theirs)} as in"
        return ""

    def other_training(self, other: Data) -> str:
        """What `difference` says, of the training images."""
        differ = self.train and other.train and self.train != other.train
        return "training images are not those of" if differ else ""


@dataclass(frozen=True)
class Record:
    """One results.json; `metrics` are in % except `nll`, None stands for what is not said."""

    metrics: dict[str, float]
    trainer: str | None = None
    dataset: str | None = None  # name of the data set's class
    part: str | None = None
    shots: int | None = None
    seed: int | None = None
    title: str = ""  # what a data set of one's own is called
    weights: str = ""
    checkpoint: str = ""
    calibrated_ece: float | None = None  # % that a perfectly calibrated classifier would read
    data: Data = Data()
    selected_on_test: bool = False  # the epoch was chosen on the test images
    digest: str = ""  # of all that it says, if it says when: no two runs say the same then
    options: Mapping[str, str] = field(default_factory=dict)  # but for data, seed and machine
    detail: Detail = Detail()

    @property
    def settings(self) -> str:
        """A name for the options; empty if they are not recorded."""
        return name_of(self.options)


def copy_of(originals: dict[str, str], record: Record | None, file: str) -> str:
    """Why a result is another one's copy; "" if it is none. Keeps what it sees in `originals`."""
    if record and record.digest and originals.setdefault(record.digest, file) != file:
        return f"it is a copy of {originals[record.digest]}"
    return ""


def read_record(file: str) -> Record:
    """What `file` says.

    Raises:
        NotARecord: it cannot be read, or a value in it is impossible.
    """
    content = _load(file)
    metrics = metrics_of(content)
    config = flat(content.get("config"))
    identity = content.get("identity")
    identity = identity if isinstance(identity, dict) else {}
    shots = _integer(content, "shots", -1, _MOST_SHOTS)
    dataset = _text(content, "dataset")
    return Record(
        metrics,
        trainer=_text(content, "trainer"),
        dataset=dataset,
        part=_text(content, "subsample_classes"),
        shots=ALL_IMAGES if shots == 0 else shots,
        seed=_integer(content, "seed", -1, _MOST_SEED),
        title=title(config, dataset or ""),
        weights=_text(content, "weights_sha256") or "",
        checkpoint=_text(content, "checkpoint_sha256") or "",
        calibrated_ece=_calibrated(content),
        data=Data(
            content=_digest(identity, "test_images"),
            train=_digest(identity, "train_images"),
            kind=dataset or "",
            split=_text(content, "split") or "",
            place=place(config),
            path=path(config),
            classes=_classes(content, identity),
            n_total=_integer(content, "n_total", 1, 10**9) or 0,
        ),
        selected_on_test=content.get("selected_on") == "test",
        digest=_digest_of(content) if content.get("date") else "",
        options=of_a_method(config),
        detail=detail_of(content),
    )


def _digest_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load(file: str) -> dict[str, Any]:
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotARecord("it is no regular file")
        if status.st_size > _LARGEST:
            raise NotARecord(f"it has {status.st_size >> 20} MB, too many for results")
        with open(file, encoding="utf-8-sig") as stream:
            content = json.load(stream, object_pairs_hook=_without_doubles)
    except NotARecord:
        raise
    except OSError as error:
        raise NotARecord(f"not readable ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise NotARecord(f"not readable ({printable(error)[:100]})") from error
    if not isinstance(content, dict):
        raise NotARecord(f"not readable (it holds a {type(content).__name__}, no object)")
    return content


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        double = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise NotARecord(f"{brief(double)} occurs twice in it")
    return found


def _text(content: Mapping[str, Any], key: str) -> str | None:
    """A text, shortened and with control characters escaped; None if it is not there.

    Raises:
        NotARecord: something else is there.
    """
    value = content.get(key)
    if key in content and not isinstance(value, str):
        raise NotARecord(f"its {key} is {brief(value)}, no text")
    return None if value is None else printable(value[:200])


def _integer(content: Mapping[str, Any], key: str, least: int, most: int) -> int | None:
    if key not in content:
        return None
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise NotARecord(f"its {key} is {brief(value)}, no whole number from {least} to {most}")
    return value


def _calibrated(content: Mapping[str, Any]) -> float | None:
    value = content.get("ece_if_calibrated")
    return metric("ece", value.get("mean")) if isinstance(value, dict) else None


def _digest(identity: Mapping[str, Any], part: str) -> str:
    value = identity.get(part)
    return value if isinstance(value, str) else ""


def _classes(content: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Digest of the class names in order: of the identity, or of the accuracies by class.

    Those are by label with the name inside, or, in version 0.1.0, by name.
    """
    names, by_class = identity.get("class_names"), content.get("per_class")
    if not isinstance(names, list) and isinstance(by_class, dict):
        names = [
            value["name"] if isinstance(value, dict) and "name" in value else key
            for key, value in by_class.items()
        ]
    if not isinstance(names, list) or not names:
        return ""
    return hashlib.sha256(repr([str(name) for name in names]).encode()).hexdigest()
