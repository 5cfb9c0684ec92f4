"""Folders and files of models: from a disk, or from the Hugging Face hub by its own client."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, pass_on_memory
from .download import file_sha256

_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]  # nothing that could hold code
SMALLEST_STD, _FAR = 1e-6, 1e3  # of pixels; as of INPUT.PIXEL_STD and INPUT.PIXEL_MEAN
_LARGEST_JSON = 64 << 20  # bytes; configurations are small, the largest tokenizers are 30 MB


def model_folder(name: str, path: str, kind: str) -> Path:
    """The folder of a model: `path`, or `name` if that is one, or its copy from the hub.

    Args:
        name: a folder, or ORGANISATION/MODEL on the Hugging Face hub.
        path: a folder that overrides `name`, or "".
        kind: prefix of the source, for errors.

    Raises:
        CheckpointError: there is no such folder, and the hub does not give it.
    """
    folder = Path(os.path.expanduser(path or name))
    if (path or name) and folder.is_dir():
        return folder
    if path or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"{kind}:{path or name} is no folder, nor a name ORGANISATION/MODEL of the hub"
        )
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=_PATTERNS))
    except Exception as error:  # a dozen kinds of failed requests, and what is no such name
        pass_on_memory(error, f"fetching {name}")
        raise CheckpointError(
            f"{kind}:{name} is no folder here, nor in the hub's cache, and could not be downloaded "
            f"({brief_reason(error)}). Download it elsewhere and give the folder: {kind}:FOLDER"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing, too large, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}")
    if path.stat().st_size > _LARGEST_JSON:
        raise CheckpointError(f"{path} is too large for a configuration")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {brief_reason(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, no configuration")
    return content


def files_sha256(parts: list[str | Path]) -> str:
    """Hex SHA-256 of texts and of the content of files, in the given order.

    A weight file alone does not say heads and activation, so the configuration counts, too.
    """
    digests = [part if isinstance(part, str) else file_sha256(part) for part in parts]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def triple(
    value: Any, what: str, place: object, least: float = -_FAR
) -> tuple[float, float, float]:
    """Three numbers of `least` or more, of red, green and blue.

    Raises:
        ConfigError: `value` is something else.
    """
    if isinstance(value, list | tuple) and len(value) == 3:
        try:
            red, green, blue = found = [float(v) for v in value]
            if all(least <= v <= _FAR for v in found):
                return red, green, blue
        except (TypeError, ValueError):
            pass
    raise ConfigError(
        f"{place} states {what} {value!r}; three numbers from {least:g} to {_FAR:g} are needed"
    )


def brief_reason(error: BaseException) -> str:
    """The first line of what an error says, and what follows a colon at its end; or its class."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines).split())[:300] if lines[0].endswith(":") else lines[0][:200]


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the log of a library that tells each step: what matters is an error here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
