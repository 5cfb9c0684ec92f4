"""CLIPs from every source, by name: OpenAI's, open_clip's, transformers', the embedded tiny one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch

from ..errors import ConfigError, brief
from .build import (
    ACTIVATIONS,
    PRECISIONS,
    Provenance,
    build_clip,
    cast_clip,
    check_numbers,
    clip_module,
    input_size,
)
from .huggingface import load_hf
from .openai import load_openai, openai_urls
from .openclip import load_open_clip
from .weights import load_file

__all__ = [
    "ACTIVATIONS", "CLIP_SOURCES", "PRECISIONS", "Provenance", "build_clip", "cast_clip",
    "check_backbone", "clip_module", "input_size", "load_clip",
]  # fmt: skip


def load_embedded(name: str = "", path: str = "", activation: str = "") -> Any:
    """The tiny CLIP of this package, or the CLIP of the weight file `path`; see `load_file`."""
    from ..embedded import tiny_clip_state_dict

    if path:
        return load_file(path, activation)
    return build_clip(tiny_clip_state_dict(), "the embedded tiny CLIP", "quick_gelu")


def load_embedded_vit(name: str = "", path: str = "", activation: str = "") -> Any:
    """The same with the tiny CLIP whose image tower is a vision transformer."""
    from ..embedded import tiny_vit_state_dict

    if path:
        return load_file(path, activation)
    source = "the embedded tiny CLIP with a vision transformer"
    return build_clip(tiny_vit_state_dict(), source, "quick_gelu")


EMBEDDED = {"embedded": load_embedded, "embedded_vit": load_embedded_vit}
"""The sources that are their only name."""

CLIP_SOURCES: dict[str, Callable[[str, str, str], Any]] = {
    "openai": load_openai,
    **EMBEDDED,
    "open_clip": load_open_clip,
    "hf": load_hf,
}
"""Prefix -> function of (name behind the prefix, MODEL.BACKBONE.PATH, MODEL.BACKBONE.ACTIVATION).

It returns a model with a `Provenance` as ``provenance`` (`build_clip` makes one), or raises
ConfigError for a name that it does not know. Another package adds one by assignment.
"""


def load_clip(
    name: str, path: str = "", device: str | torch.device = "cpu", activation: str = ""
) -> Any:
    """Load a CLIP in evaluation mode, float32, all parameters frozen.

    Args:
        name: an OpenAI model name ("ViT-B/16", also "openai:ViT-B/16"), "embedded" and
            "embedded_vit" for the tiny CLIPs of this package, "open_clip:NAME/TAG", "hf:ORG/MODEL",
            their folders (see docs/towers.md), or "SOURCE:NAME" with another source in
            `CLIP_SOURCES`.
        path: a weight file (state dict, safetensors or TorchScript archive); overrides `name`
            for OpenAI's names and "embedded", and is that of the named model of "open_clip".
        device: where the model goes.
        activation: "quick_gelu" or "gelu", for a file that does not say it.

    Returns:
        ``clip.model.CLIP``, or `varprompt.towers.adapt.AdaptedCLIP` from other libraries, with its
        `Provenance` as ``provenance``; ``weights_sha256`` and ``activation`` of that are attributes
        of the model, too.

    Raises:
        ConfigError: unknown name; an activation that nobody states, or another than the source's.
        CheckpointError: the file is missing, damaged or not a CLIP.
    """
    if not path:
        check_backbone(name)
    source, rest = _split(name)
    model = CLIP_SOURCES[source](rest, path, activation)
    stated = getattr(model, "provenance", None)
    if not isinstance(stated, Provenance):
        raise ConfigError(
            f"the CLIP source {source!r} does not state where {name!r} comes from: its model needs "
            "a varprompt.towers.load.Provenance as attribute provenance"
        )
    if activation and activation != stated.activation:
        raise ConfigError(
            f"the activation of {stated.source} is {stated.activation}; leave out "
            f"MODEL.BACKBONE.ACTIVATION, which is {activation}"
        )
    check_numbers(model, stated.source)
    model.weights_sha256, model.activation = stated.weights_sha256, stated.activation
    return model.to(device).eval().requires_grad_(False)


def check_backbone(name: str) -> None:
    """Whether `load_clip` knows `name`; of sources that others registered only the prefix.

    Raises:
        ConfigError: it does not.
    """
    source, rest = _split(name)
    if source != "openai" or rest in (urls := openai_urls()):
        return
    others = [f"{prefix}:NAME" for prefix in CLIP_SOURCES if prefix not in ("openai", *EMBEDDED)]
    names = [*EMBEDDED, *urls]
    plain = {n.lower(): n for n in names}
    near = difflib.get_close_matches(rest.lower().replace("_", "-"), plain, 1, 0.4)
    hint = f"; did you mean {plain[near[0]]!r}?" if near else ""
    raise ConfigError(
        f"backbone {name!r} is unknown; choose from {', '.join([*names, *others])} "
        f"(MODEL.BACKBONE.NAME), or give a file in MODEL.BACKBONE.PATH{hint}"
    )


def _split(name: str) -> tuple[str, str]:
    """Source and the name in it; a bare name that is no source is one of OpenAI's.

    Raises:
        ConfigError: it is no name.
    """
    if not isinstance(name, str):
        raise ConfigError(f"the name of a CLIP is {brief(name)}; give a text, such as 'ViT-B/16'")
    prefix, colon, rest = name.partition(":")
    if prefix in CLIP_SOURCES and (colon or prefix in EMBEDDED):
        return prefix, rest
    return "openai", name
