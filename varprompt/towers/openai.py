"""The CLIPs that OpenAI published, by their names in its `clip` package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, DataError
from .build import build_clip, clip_module
from .download import download, file_sha256
from .weights import load_file, read_weights


def openai_urls() -> dict[str, str]:
    """Name -> address, whose last but one part is the SHA-256 of the archive."""
    return dict(clip_module().clip._MODELS)


def load_openai(name: str, path: str = "", activation: str = "") -> Any:
    """One of OpenAI's CLIPs, from ``~/.cache/clip`` or else the network.

    Args:
        name: such as "ViT-B/16".
        path: a weight file to load instead; then `name` counts for nothing.
        activation: of that file, see `load_file`.

    Raises:
        CheckpointError: the weights cannot be had, or `path` is not a CLIP.
        ConfigError: `path` and `activation` do not go together.
    """
    if path:
        return load_file(path, activation)
    file = _archive(name, openai_urls()[name])
    return build_clip(read_weights(file).state, f"OpenAI's {name} ({file})", "quick_gelu")


def _archive(name: str, url: str) -> Path:
    """The archive with the hash that its address names."""
    sha256, file_name = url.split("/")[-2:]
    target = Path.home() / ".cache" / "clip" / file_name
    found = file_sha256(target)
    if found == sha256:
        return target
    if found:
        warnings.warn(f"{target} is not OpenAI's file: it is downloaded again", stacklevel=2)
    try:
        download(url, target, sha256)
    except (OSError, DataError) as error:
        state = "is damaged or another file" if found else "does not exist"
        raise CheckpointError(
            f"{target}, the weights of CLIP {name}, {state} and could not be downloaded "
            f"({error}). Put the file there by hand (from {url}), or name any other place in "
            "MODEL.BACKBONE.PATH"
        ) from error
    return target
