"""Image features that are computed once and kept on disk.

The towers are frozen, so the features of an image under a fixed transform never change. Those of
test images are kept in `cache_folder()` under a key made of all they depend on, and are shared by
all trainers, seeds and values of L.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from ..common.files import write_atomic
from ..common.ranks import ranks
from ..errors import DataError
from .content import ContentHasher
from .encode import Encode, encode_images

FORMAT = 1  # raise it when images are read or encoded in another way: old entries go unused
_OWN_FILE = re.compile(r"\.?[0-9a-f]{64}\.safetensors(\.\w+)*")  # entries, unfinished entries
_DETERMINISTIC = {"Resize", "CenterCrop", "ToTensor", "Normalize", "InstanceNormalization"}
_HEADER = 1000  # bytes of a file besides its features, at most
_ABANDONED = 3600  # seconds after which an unfinished entry is left over from a killed process


def cache_folder() -> Path:
    """``$VARPROMPT_CACHE``, by default ``~/.cache/varprompt/features``.

    Raises:
        RuntimeError: there is no home folder.
    """
    named = os.environ.get("VARPROMPT_CACHE")
    return Path(named or "~/.cache/varprompt/features").expanduser()


class FeatureCache:
    """Features of lists of images, one safetensors file each, those used least recently go first.

    A file is written whole or not at all, so that several processes may share the folder. Nothing
    that goes wrong stops a run: it is noted once, and features are computed.

    Args:
        limit: bytes that all files together may take; 0 = read and write nothing.
        note: takes a line for the log.
        hasher: tells what is in images; by default one of its own.
    """

    def __init__(
        self, limit: float, note: Callable[[str], None], hasher: ContentHasher | None = None
    ):
        self.limit = limit
        self.note = note
        self.hasher = hasher or ContentHasher(note)

    def features(self, loader: DataLoader, encode: Encode, **identity: str) -> Tensor:
        """Features `(N, E)`, float32 on the CPU, of the images of a test loader, in order.

        Args:
            loader: of a Dassl data set, with ``data_source`` and ``transform``.
            encode: computes what is not cached.
            identity: what features depend on besides images, transform, batch and versions.

        Raises:
            DataError: an image is missing or cannot be read.
        """
        items: Any = loader.dataset
        paths, transform = [item.impath for item in items.data_source], items.transform
        key, content = "", []
        if self.limit > 0 and is_deterministic(transform):
            content = self.hasher.digests(paths)
            turned = [n for n, i in enumerate(items.data_source) if getattr(i, "upright", False)]
            key = _digest(
                images=content, turned=turned, transform=_describe(transform),
                batch=loader.batch_size, versions=[FORMAT, *_versions()], **identity,
            )  # fmt: skip
        features = self.read(key, len(paths)) if key else None
        missing = ranks().any(features is None)  # all encode or none
        if features is None or missing:
            features = encode_images(loader, range(len(paths)), encode, loader.batch_size or 1)
            if key and features.isfinite().all() and self.hasher.digests(paths) == content:
                self.write(key, features)  # not if an image was replaced meanwhile
        return features

    def read(self, key: str, n_images: int) -> Tensor | None:
        """The features `(N, E)` stored under `key`; None if there are none or they are damaged."""
        try:
            path = cache_folder() / f"{key}.safetensors"
            features = _read_checked(path, key, n_images)
        except FileNotFoundError:
            return None
        except DataError as error:
            self.note(f"{path} is damaged ({error}): deleted, its features are computed again")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, RuntimeError) as error:
            self._disable(error)
            return None
        self.note(f"Image features from {path}")
        with contextlib.suppress(OSError):  # the folder may be read-only
            os.utime(path)  # used now
        return features

    def write(self, key: str, features: Tensor) -> None:
        """Store features `(N, E)` under `key`, deleting what was used least recently."""
        if self.limit <= 0 or not ranks().first:
            return
        features = features.contiguous()
        size = features.nbytes + _HEADER
        if size > self.limit:
            self.note(f"Image features are not cached: {size:,} bytes exceed TEST.CACHE_SIZE_GB")
            return
        metadata = {"key": key, "sha256": _sha256(features)}
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(folder, self.limit - size)
            data = save({"features": features}, metadata)
            write_atomic(folder / f"{key}.safetensors", lambda file: file.write(data))
        except (OSError, RuntimeError) as error:
            self._disable(error)

    def _disable(self, error: Exception) -> None:
        self.limit = 0
        self.note(
            f"Image features are not cached ({error}): set VARPROMPT_CACHE to a writable folder"
        )


def is_deterministic(transform: Any) -> bool:
    """Whether a transform is made of steps that Dassl builds for testing, none of them random."""
    return all(type(step).__name__ in _DETERMINISTIC for step in _steps(transform))


def _steps(transform: Any) -> list[Any]:
    return list(getattr(transform, "transforms", [transform]))


def _describe(transform: Any) -> list[str]:
    """What each step does, in words."""
    return [
        f"{type(step).__name__}({vars(step)})"
        if type(step).__repr__ is object.__repr__  # would tell its address only
        else repr(step)
        for step in _steps(transform)
    ]


def _digest(**parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions() -> list[str]:
    """Of what decodes, resizes and encodes images: other versions round differently."""
    return [torch.__version__, torchvision.__version__, PIL.__version__]


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().data).hexdigest()


def _read_checked(path: Path, key: str, n_images: int) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            features = file.get_tensor("features").clone()  # independent of the file from here
    except SafetensorError as error:
        raise DataError(str(error)) from error
    if metadata.get("key") != key or features.shape[:-1] != (n_images,):
        raise DataError("it holds something else than its name says")
    if features.dtype != torch.float32 or metadata.get("sha256") != _sha256(features):
        raise DataError("its checksum is wrong")
    return features


def _make_room(folder: Path, limit: float) -> None:
    """Delete own files, the one used longest ago first, until the others take at most `limit`.

    Entries that a process never finished go, too; files of another kind are left alone.
    """
    found = []
    for path in folder.iterdir():
        if not _OWN_FILE.fullmatch(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            stat = path.stat()
            if not path.name.startswith("."):
                found.append((stat.st_mtime_ns, stat.st_size, path))
            elif stat.st_mtime < time.time() - _ABANDONED:
                path.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
