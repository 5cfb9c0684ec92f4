"""Checkpoints from anywhere: checked before torch reads them, and nothing in them is run.

CoOp's files hold, besides tensors, a pickled scheduler with its optimizer. Nothing of it is
needed, so its classes (all of ``torch.optim``) are read as inert placeholders and then dropped.
YAML of others is read without what could surprise.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

import yaml

from ..errors import CheckpointError, disk_failed, pass_on_memory

_CODE_SIZE = 64 * 2**20  # bytes of the program code in an archive, more than any has


class _Placeholder:
    """Stands where a file has an object of ``torch.optim``."""

    def __new__(cls, *args: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass


def _plain_dict(*args: Any) -> dict[Any, Any]:
    """Stands for ``collections.defaultdict``."""
    return {}


def _placeholders(file: IO[bytes]) -> dict[str, Any]:
    """What to use for the classes a file names that ``torch.load`` does not know."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception as error:  # damaged, or of torch's oldest form: loading it says what is wrong
        pass_on_memory(error, "looking for the classes in a checkpoint")
        names = []
    finally:
        file.seek(0)
    if not any(name.startswith("torch.optim.") for name in names):
        return {}
    known = {name: _Placeholder for name in names if name.startswith("torch.optim.")}
    return known | {"collections.defaultdict": _plain_dict, "builtins.dict": _Placeholder}


def _has_placeholder(value: Any) -> bool:
    return any(isinstance(leaf, _Placeholder) for leaf in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
    """What containers hold, however deep they are and even if they hold themselves."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list | tuple):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


_MISTAKEN = {  # beginning of a file that is no file of weights, in small letters: what it is
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; git lfs pull gets that",
    b"<!doctype html": "a web page, not the file that was to be downloaded from it",
    b"<html": "a web page, not the file that was to be downloaded from it",
}


def check_start(path: str | os.PathLike) -> None:
    """Whether a file is what is often found in the place of weights.

    Raises:
        CheckpointError: it is empty, a pointer of Git LFS, or a web page.
    """
    with open(path, "rb") as file:
        start = file.read(64).lstrip().lower()
    what = next((what for how, what in _MISTAKEN.items() if start.startswith(how)), "")
    if what or not start:
        raise CheckpointError(f"{path} is {what or 'damaged or not a checkpoint: it is empty'}")


def load_state(file: IO[bytes], path: str | os.PathLike) -> dict[str, Any]:
    """The state in a checkpoint on the CPU; a pickled scheduler object is read as None.

    Raises:
        CheckpointError: it is damaged, not a checkpoint, or wants to run code; names `path`.
    """
    state = load(file, path, _placeholders(file))
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, not a dict")
    return {key: None if _has_placeholder(value) else value for key, value in state.items()}


def load(
    file: IO[bytes], path: str | os.PathLike, placeholders: Mapping[str, Any] | None = None
) -> Any:
    """What ``torch.load`` makes of a whole and harmless file, with ``weights_only=True``.

    Args:
        file: its content.
        path: its name, for messages.
        placeholders: what stands for classes that torch does not know, by name.

    Raises:
        CheckpointError: as of `load_state`.
    """
    import torch

    allowed: list[Any] = [(stand_in, name) for name, stand_in in (placeholders or {}).items()]
    try:
        n_bytes = _check_sums(file)
        with torch.serialization.safe_globals(allowed):
            state = torch.load(file, map_location="cpu", weights_only=True)
        check_claims(state, n_bytes)
        return state
    except pickle.UnpicklingError as error:
        names = ", ".join(dict.fromkeys(re.findall(r"GLOBAL (\S+)", str(error))))
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds objects other than tensors and numbers"
            f"{names and f' ({names})'}, which are never unpickled"
        ) from error
    except Exception as error:  # a damaged file makes the reader raise anything
        if disk_failed(error):
            raise
        pass_on_memory(error, f"reading {path}")
        known = isinstance(error, OSError | RuntimeError | ValueError)
        reason = str(error).partition(".")[0].strip()[:100] if known else ""
        raise CheckpointError(
            f"checkpoint {path} is damaged or not a checkpoint ({reason or 'not of torch.save'})"
        ) from error


def _check_sums(file: IO[bytes]) -> int:
    """Compare the checksums in a zip archive, which ``torch.load`` does not.

    Returns:
        Bytes of values: those of the archive's tensors, or of the file if it is none.
    """
    n_bytes = file.seek(0, io.SEEK_END)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(archive)
            broken = archive.testzip()
            n_bytes = sum(p.file_size for p in archive.infolist() if "/data/" in p.filename)
        if broken:
            raise ValueError(f"the checksum of its part {broken} is wrong")
    file.seek(0)
    if file.read(4) == b"PK\3\4" and not zipfile.is_zipfile(file):
        raise ValueError("it is cut short")
    file.seek(0)
    return n_bytes


def check_claims(state: Any, n_bytes: int) -> None:
    """Refuse tensors longer than what the file holds: torch 2.6 would read beyond its memory.

    Raises:
        ValueError: they claim more than `n_bytes`.
    """
    import torch

    tensors = (leaf for leaf in _leaves(state) if torch.is_tensor(leaf) and not leaf.is_meta)
    storages = (t.untyped_storage() for t in tensors if t.layout == torch.strided)
    claimed = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if claimed > n_bytes:
        raise ValueError(f"its tensors claim {claimed:,} bytes and it holds {n_bytes:,}")


def check_unpacked_size(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is far larger unpacked: torch compresses nothing but program code.

    Raises:
        ValueError: its parts have more than twice the bytes of the file, and 64 MB.
    """
    unpacked = sum(part.file_size for part in archive.infolist())
    packed = archive.fp.seek(0, io.SEEK_END) if archive.fp else 0
    if unpacked > 2 * packed + _CODE_SIZE:
        raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}")


class _Loader(yaml.SafeLoader):
    """Refuses what makes a small file large, and keys given twice, of which YAML takes the last."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Any part of the file but an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping with each of its keys once."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name, count in Counter(key.value for key in keys).items():
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} is given {count} times", node.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """What a YAML text says; PyYAML's errors pass."""
    return yaml.load(text, _Loader)  # noqa: S506 - derived from the safe one
