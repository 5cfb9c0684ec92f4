"""The CLIPs of `open_clip`: by name and tag, from a folder of its form, or from a weight file."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..common.safe_load import check_start
from ..errors import CheckpointError, ConfigError, pass_on_memory
from .adapt import AdaptedCLIP, ImageTower, square, stated_activation
from .build import Provenance
from .hub import SMALLEST_STD, brief_reason, files_sha256, model_folder, quietly, read_json, triple
from .openclip_text import text_form_of, text_parts

_CONFIG = "open_clip_config.json"
_HUB = "hf-hub:"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class _Found:
    """What makes a model: its name for open_clip, its weights, and what a tag says of them."""

    library_name: str
    weights: Path
    said: dict[str, Any]  # of a tag: mean, std, quick_gelu
    source: str
    config: Path | str  # what the architecture is known by


def load_open_clip(name: str, path: str = "", activation: str = "") -> Any:
    """A CLIP of `open_clip` whose text tower is a transformer of CLIP's form.

    Args:
        name: NAME/TAG of its list; or a folder with open_clip_config.json, or hf-hub:ORG/MODEL, its
            copy on the Hugging Face hub; or NAME, or NAME/TAG, of the weight file `path`.
        path: a weight file in open_clip's names, or a folder.
        activation: not needed, the configuration says it.

    Raises:
        ConfigError: the name is unknown, the text tower is another model's, or `open_clip` is
            missing.
        CheckpointError: weights or tokenizer cannot be had, are damaged or of another model.
    """
    library = _library()
    found = _find(library, name, path)
    model = _model(library, found)
    preprocess = model.visual.preprocess_cfg | found.said
    tokenizer = _tokenizer(library, found)
    tower = getattr(model, "text", model)
    form = text_form_of(tokenizer, tower, model, found.source)
    text = text_parts(tower, form)
    visual = ImageTower(model.visual, _features, square(model.visual.image_size, found.source))
    clip = AdaptedCLIP(text, visual, model.logit_scale, model.logit_bias)
    clip.provenance = Provenance(
        found.source, files_sha256([found.config, found.weights]),
        stated_activation(text.activation, found.source), clip.context_length,
        triple(preprocess["mean"], "mean", found.source),
        triple(preprocess["std"], "std", found.source, SMALLEST_STD),
        "softmax" if model.logit_bias is None else "sigmoid",
    )  # fmt: skip
    return clip


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import open_clip
    except ImportError as error:
        raise ConfigError(
            f"open_clip:NAME needs the package open_clip_torch ({error}): pip install "
            "'varprompt[open_clip]'"
        ) from error
    return open_clip


def _find(library: Any, name: str, path: str) -> _Found:
    place = Path(os.path.expanduser(path or name))
    if name.startswith(_HUB) and not path:
        return _in_folder(model_folder(name.removeprefix(_HUB), "", f"open_clip:{_HUB[:-1]}"))
    if (name or path) and place.is_dir():
        return _in_folder(place)
    if place.is_file() and (not path or not name):
        if (place.parent / _CONFIG).is_file():
            return _in_folder(place.parent, place)
        raise ConfigError(
            f"{place} does not say its architecture, and has no {_CONFIG} beside it: name it, "
            "MODEL.BACKBONE.NAME open_clip:NAME/TAG (or open_clip:NAME) with MODEL.BACKBONE.PATH"
        )
    model, _, tag = name.partition("/")
    tags = library.list_pretrained_tags_by_model(model) if model in library.list_models() else []
    if model not in library.list_models() or (tag and tag not in tags) or not (tag or path):
        raise ConfigError(_unknown(library, name, model, tags))
    if path and not place.is_file():
        raise CheckpointError(f"CLIP weight file {place} does not exist (MODEL.BACKBONE.PATH)")
    weights = place if path else _download(library, model, tag)
    said = _said(library, model, tag, tags)
    source = f"open_clip's {model}{'/' + tag if tag else ''} ({weights})"
    return _Found(model, weights, said, source, f"{model} {said.get('quick_gelu')}")


def _unknown(library: Any, name: str, model: str, tags: list[str]) -> str:
    import difflib

    if tags:
        return (
            f"open_clip:{name} is no model with weights; choose a tag: "
            f"{', '.join(f'open_clip:{model}/{tag}' for tag in tags)}, or give a weight file in "
            "MODEL.BACKBONE.PATH"
        )
    near = difflib.get_close_matches(model, library.list_models(), 3, 0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return (
        f"open_clip:{name} is no folder, no file and no NAME/TAG of open_clip's list "
        f"(open_clip.list_pretrained()){hint}"
    )


def _in_folder(folder: Path, weights: Path | None = None) -> _Found:
    config = read_json(folder / _CONFIG)
    if not isinstance(config.get("model_cfg"), dict) or not isinstance(
        config.get("preprocess_cfg"), dict
    ):
        raise CheckpointError(f"{folder / _CONFIG} lacks model_cfg or preprocess_cfg")
    if weights is None:
        files = sorted(
            (file for file in folder.iterdir() if file.suffix in _WEIGHTS),
            key=lambda file: (_WEIGHTS.index(file.suffix), "open_clip" not in file.name, file.name),
        )
        if not files:
            raise CheckpointError(f"{folder} has no weights ({', '.join(_WEIGHTS)})")
        weights = files[0]
    said = {key: config["preprocess_cfg"].get(key) for key in ("mean", "std")}
    return _Found(f"local-dir:{folder}", weights, said, f"open_clip's {weights}", folder / _CONFIG)


def _said(library: Any, model: str, tag: str, tags: list[str]) -> dict[str, Any]:
    """Mean, standard deviation and, of a tag, activation that the weights were trained with.

    Raises:
        ConfigError: no tag, and those of this model differ.
    """
    every = [library.get_pretrained_cfg(model, t) for t in ([tag] if tag else tags)]
    said = [{key: cfg[key] for key in ("mean", "std") if cfg.get(key)} for cfg in every]
    if any(one != said[0] for one in said):
        raise ConfigError(
            f"the weights of open_clip's {model} were trained with different means of the images: "
            f"give the tag of the file, too, open_clip:{model}/TAG: {', '.join(tags)}"
        )
    result = said[0] if said else {}
    if tag:
        result = result | {"quick_gelu": bool(every[0].get("quick_gelu", False))}
    return result


def _download(library: Any, model: str, tag: str) -> Path:
    try:
        with quietly():
            cfg = library.get_pretrained_cfg(model, tag)
            return Path(library.download_pretrained(cfg))
    except Exception as error:  # a dozen kinds of failed requests
        pass_on_memory(error, f"fetching {model}/{tag}")
        raise CheckpointError(
            f"the weights of open_clip:{model}/{tag} are not in the cache and could not be "
            f"downloaded ({brief_reason(error)}). Download them elsewhere and give the file: "
            f"MODEL.BACKBONE.NAME open_clip:{model}/{tag} MODEL.BACKBONE.PATH FILE"
        ) from error


def _model(library: Any, found: _Found) -> Any:
    """The library's model in float32 with the weights."""
    config = library.get_model_config(found.library_name)
    if config["text_cfg"].get("hf_model_name"):
        raise ConfigError(
            f"the text tower of {found.source} is {config['text_cfg']['hf_model_name']}, which is "
            "no transformer of CLIP's form: prompts cannot be put in front of its words"
        )
    check_start(found.weights)
    options = {k: v for k, v in found.said.items() if k == "quick_gelu"}
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = library.create_model(
                found.library_name, load_weights=False, pretrained_text=False, **options
            )
            library.load_checkpoint(model, str(found.weights))
    except Exception as error:  # a state of another model makes it raise anything
        pass_on_memory(error, f"reading {found.weights}")
        raise CheckpointError(
            f"{found.weights} is damaged, or no weights of {found.library_name}: "
            f"{brief_reason(error)}"
        ) from error
    return model.eval()


def _tokenizer(library: Any, found: _Found) -> Any:
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library.get_tokenizer(found.library_name)
    except Exception as error:  # of transformers, where it is a tokenizer of its own
        pass_on_memory(error, f"reading the tokenizer of {found.source}")
        raise CheckpointError(
            f"the tokenizer of {found.source} cannot be read ({brief_reason(error)}). A folder "
            "with open_clip_config.json, weights and tokenizer needs no network: open_clip:FOLDER"
        ) from error


def _features(visual: Any, images: Tensor) -> Tensor:
    found = visual(images)
    return found[0] if isinstance(found, tuple) else found  # CoCa's gives its tokens, too
