"""CLIP, SigLIP and SigLIP 2 in the folders that `transformers` writes."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.safe_load import check_start
from ..errors import CheckpointError, ConfigError, pass_on_memory
from .adapt import AdaptedCLIP, ImageTower, TextParts, pooled_form, square, stated_activation
from .build import Provenance
from .forms import TextForm, tokenizer_form
from .hub import SMALLEST_STD, brief_reason, files_sha256, model_folder, quietly, read_json, triple

_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
_LAYER = {  # name of a value in a layer there -> here; query, key and value are joined
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
_OLD_END = 2  # in configurations of that time it is wrong: the token of the highest id is read


def load_hf(name: str, path: str = "", activation: str = "") -> Any:
    """A CLIP, SigLIP or SigLIP 2 from a folder with config.json, safetensors and tokenizer.

    Args:
        name: the folder, or ORGANISATION/MODEL of the Hugging Face hub.
        path: the folder, if not `name`.
        activation: not needed, the configuration says it.

    Raises:
        ConfigError: it is another kind of model, or `transformers` is missing.
        CheckpointError: the folder is not there, incomplete or damaged.
    """
    library = _library()
    folder = model_folder(name, path, "hf")
    source = f"transformers' {folder}"
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in _CLASSES:
        raise ConfigError(
            f"{folder} is a {kind!r} model; choose one of {', '.join(_CLASSES)} (config.json, "
            "model_type)"
        )
    mean, std = _normalisation(folder)
    model = _model(library, getattr(library, _CLASSES[kind]), folder)
    form = _form(library, folder, model, kind)
    text = _text(model, form)
    clip = AdaptedCLIP(text, _image_tower(model, kind, source), model.logit_scale, _bias(model))
    weights = sorted(folder.glob("*.safetensors"))
    clip.provenance = Provenance(
        source, files_sha256([folder / "config.json", *weights]),
        stated_activation(text.activation, source), clip.context_length, mean, std,
        "softmax" if kind == "clip" else "sigmoid",
    )  # fmt: skip
    return clip


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"hf:NAME needs the package transformers ({error}): pip install 'varprompt[hf]'"
        ) from error
    return transformers


def _normalisation(folder: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that images are normalised with."""
    files = [folder / "preprocessor_config.json", folder / "processor_config.json"]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{folder} does not say how images are normalised: it has no {files[0].name}. Save the "
            "image processor there, too (processor.save_pretrained)"
        )
    said = read_json(found)
    said = said.get("image_processor", said)
    factor = said.get("rescale_factor", 1 / 255)
    if said.get("do_rescale") is False or not _is_usual(factor):
        raise ConfigError(
            f"{found} states rescale_factor {factor!r}, do_rescale {said.get('do_rescale')!r}: "
            "only pixels from 0 to 1, 1/255 of what is stored, can be given here"
        )
    if said.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean = triple(said.get("image_mean"), "image_mean", found)
    return mean, triple(said.get("image_std"), "image_std", found, SMALLEST_STD)


def _is_usual(factor: Any) -> bool:
    """Whether pixels of 0 to 255 are made 0 to 1."""
    return isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-3)


def _model(library: Any, kind: Any, folder: Path) -> Any:
    """The model with all of its values, in float32."""
    for file in folder.glob("*.safetensors"):
        check_start(file)
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # a bar of theirs, in the middle of the log
            library.utils.logging.disable_progress_bar()
            model, found = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True,
                torch_dtype=torch.float32, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:  # a damaged folder makes it raise anything
        pass_on_memory(error, f"reading {folder}")
        raise CheckpointError(
            f"{folder} cannot be read as {kind.__name__} in safetensors: {brief_reason(error)}"
        ) from error
    missing = sorted(name for name in found["missing_keys"] if "position_ids" not in name)
    missing += [str(entry[0]) for entry in found.get("mismatched_keys", ())]
    if missing:  # transformers would go on with random values
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the values of a {kind.__name__}, e.g. {missing[:3]}"
        )
    if extra := sorted(name for name in found["unexpected_keys"] if "position_ids" not in name):
        raise CheckpointError(  # and would leave these out
            f"{folder} holds {len(extra)} values that its config.json has no place for, e.g. "
            f"{extra[:3]}"
        )
    return model.eval()


def _form(library: Any, folder: Path, model: Any, kind: str) -> TextForm:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise CheckpointError(  # transformers would make one without words
            f"{folder} has no tokenizer ({', '.join(_VOCABULARIES)}): save it there, too "
            "(tokenizer.save_pretrained)"
        )
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            form = tokenizer_form(tokenizer, model.config.text_config.vocab_size)
    except ConfigError:
        raise
    except Exception as error:  # what is missing raises anything, too
        pass_on_memory(error, f"reading the tokenizer of {folder}")
        raise CheckpointError(
            f"the tokenizer of {folder} cannot be read ({brief_reason(error)})"
        ) from error
    if kind == "clip":
        end = model.config.text_config.eos_token_id
        return pooled_form(form, "argmax" if end == _OLD_END else "eos", end, str(folder))
    return replace(form, causal=False, read="last")


def _text(model: Any, form: TextForm) -> TextParts:
    tower, config = model.text_model, model.config.text_config
    state = {
        "token_embedding.weight": tower.embeddings.token_embedding.weight,
        "positional_embedding": tower.embeddings.position_embedding.weight,
        "ln_final.weight": tower.final_layer_norm.weight,
        "ln_final.bias": tower.final_layer_norm.bias,
    }
    head = tower.head if hasattr(tower, "head") else model.text_projection
    state["text_projection"] = head.weight.T
    if head.bias is not None:
        state["text_bias"] = head.bias
    layers = tower.encoder.layers
    if not layers or not config.layer_norm_eps > 0:
        raise ConfigError(
            f"the text tower is stated to have {len(layers)} layers and layer_norm_eps "
            f"{config.layer_norm_eps}; it needs at least one, and a number above 0"
        )
    return TextParts(
        state,
        [_layer(layer) for layer in layers],
        config.num_attention_heads,
        layers[0].mlp.activation_fn,
        config.layer_norm_eps,
        form,
    )


def _layer(layer: nn.Module) -> dict[str, Tensor]:
    """A layer's values by the names of OpenAI's."""
    values = layer.state_dict()
    result = {
        f"attn.in_proj_{kind}": torch.cat([values[f"self_attn.{p}_proj.{kind}"] for p in "qkv"])
        for kind in ("weight", "bias")
    }
    for there, here in _LAYER.items():
        for kind in ("weight", "bias"):
            result[f"{here}.{kind}"] = values[f"{there}.{kind}"]
    return result


def _bias(model: Any) -> Tensor | None:
    return getattr(model, "logit_bias", None)


def _image_tower(model: Any, kind: str, source: str) -> ImageTower:
    config = model.config.vision_config
    if kind == "clip":
        parts = nn.ModuleList([model.vision_model, model.visual_projection])
        return ImageTower(parts, _projected, square(config.image_size, source))
    if kind == "siglip":
        return ImageTower(model.vision_model, _pooled, square(config.image_size, source))
    side = round(config.num_patches**0.5)
    if side**2 != config.num_patches:
        raise ConfigError(f"{source} has {config.num_patches} patches, which make no square image")
    return ImageTower(model.vision_model, _patched, side * config.patch_size)


def _projected(parts: Any, images: Tensor) -> Tensor:
    return parts[1](parts[0](pixel_values=images).pooler_output)


def _pooled(tower: Any, images: Tensor) -> Tensor:
    return tower(pixel_values=images).pooler_output


def _patched(tower: Any, images: Tensor) -> Tensor:
    """SigLIP 2 takes patches `(B, N, p * p * 3)` of images of any shape; here square ones."""
    size = tower.config.patch_size
    n_images, _, height, width = images.shape
    patches = images.unflatten(2, (height // size, size)).unflatten(4, (width // size, size))
    patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shape = torch.tensor([[height // size, width // size]], device=images.device)
    return tower(
        pixel_values=patches,
        pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=images.device),
        spatial_shapes=shape.expand(n_images, -1),
    ).pooler_output
