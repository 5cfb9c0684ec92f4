"""What the benchmarks share: random CLIPs of true sizes, class names, and the usual encoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from varprompt.commands.cost import SIZES
from varprompt.config import PromptConfig
from varprompt.model import PromptedCLIP
from varprompt.towers.load import clip_module

# Sizes of towers as in varprompt/commands/cost.py
BACKBONES: dict[str, tuple[tuple[Any, ...], tuple[int, int, int]]] = {
    **SIZES,
    "tiny": ((32, 32, 2, 64, 16), (64, 2, 2)),  # for what must be small, of no real model
    "narrow": ((32, 32, 2, 64, 16), (64, 1, 2)),  # the same with heads of 64, as all real ones have
}
_NOISE: dict[str, Any] = {"posterior": "gaussian", "kl_weight": 0.001, "kl_reduction": "mean"}
_MAPLE: dict[str, Any] = {"n_ctx": 2, "keep_words": True, "coupled": True, "depth": 9}
_INDEPENDENT: dict[str, Any] = {
    "n_ctx": 4, "keep_words": True, "depth": 9, "n_ctx_visual": 4, "depth_visual": 9,
}  # fmt: skip
TRAINERS: dict[str, dict[str, Any]] = {  # without their terms of the loss
    "VPT": _NOISE,
    "VPT_CoCoOp": {**_NOISE, "conditional": True},
    "CoOp": {},
    "CoCoOp": {"posterior": "meta_net", "conditional": True},
    "KgCoOp": {},
    "VPT_KgCoOp": _NOISE,
    "MaPLe": _MAPLE,
    "VPT_MaPLe": {**_MAPLE, **_NOISE, "residual": "per_layer"},
    "PromptSRC": _INDEPENDENT,
    "VPT_PromptSRC": {**_INDEPENDENT, **_NOISE, "residual": "per_layer"},
}
_NEAR = {"text_l1": 25.0, "image_l1": 10.0, "logits_kl": 1.0}
TERMS: dict[str, dict[str, float]] = {  # of the loss, by name in varprompt.regularisers
    "KgCoOp": {"text_cosine": 8.0}, "VPT_KgCoOp": {"text_cosine": 8.0},
    "PromptSRC": _NEAR, "VPT_PromptSRC": _NEAR,
}  # fmt: skip
OXFORD_PETS = (
    "abyssinian,american_bulldog,american_pit_bull_terrier,basset_hound,beagle,bengal,birman,"
    "bombay,boxer,british_shorthair,chihuahua,egyptian_mau,english_cocker_spaniel,english_setter,"
    "german_shorthaired,great_pyrenees,havanese,japanese_chin,keeshond,leonberger,maine_coon,"
    "miniature_pinscher,newfoundland,persian,pomeranian,pug,ragdoll,russian_blue,saint_bernard,"
    "samoyed,scottish_terrier,shiba_inu,siamese,sphynx,staffordshire_bull_terrier,wheaten_terrier,"
    "yorkshire_terrier"
).split(",")


def random_clip(backbone: str, seed: int = 0) -> Any:
    """A frozen float32 CLIP of the size of `backbone`, random weights, scale 100 as if trained."""
    (embed, *image), text = BACKBONES[backbone]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip_module().model.CLIP(embed, *image, 77, 49408, *text).float()
    model.logit_scale.data.fill_(math.log(100))
    return model.eval().requires_grad_(False)


def class_names(source: str, count: int = 0) -> list[str]:
    """The first `count` names (0 = all; repeated from the start if there are fewer).

    Args:
        source: "oxford_pets", "imagenet", or a file with one name a line.
        count: C.
    """
    if source == "oxford_pets":
        names = OXFORD_PETS
    elif source == "imagenet":
        from torchvision.models._meta import _IMAGENET_CATEGORIES as names
    else:
        names = Path(source).read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
    return list(islice(cycle(names), count or len(names)))


def prompted_clip(
    clip_model: Any, names: Sequence[str], trainer: str, n_samples: int, **options: Any
) -> PromptedCLIP:
    """The model of `trainer` (a key of `TRAINERS`) with context "a photo of a"."""
    made = {**TRAINERS[trainer], **options}
    n_samples = n_samples if "kl_weight" in made else 1
    towers = {"depth": clip_model.transformer, "depth_visual": clip_model.visual}
    for name in towers.keys() & made.keys():  # a flat tower has prompts in all its layers
        tower = getattr(towers[name], "transformer", towers[name])
        made[name] = min(made[name], len(tower.resblocks))
    cfg = PromptConfig(n_samples=n_samples, n_samples_test=n_samples, **made)
    # names may repeat: those of ImageNet do, and lists are repeated until they are long enough
    return PromptedCLIP(clip_model, names, cfg, same_names=True)


def plain_text_features(
    clip_model: Any, contexts: Tensor, names: Sequence[str], deep: Tensor | None = None
) -> Tensor:  # fmt: skip
    """The usual implementation: S * C prompts padded to 77 tokens, one batch, whole tower.

    Args:
        clip_model: the towers.
        contexts: `(S, M, D)`.
        names: C class names.
        deep: prompts of deeper layers `(J - 1, S, N, D)`.

    Returns:
        Unit-norm features `(S, C, E)`, float32.
    """
    for block in clip_model.transformer.resblocks:  # else copied in every layer of every step
        block.attn_mask = block.attn_mask.to(contexts.device)
    n_samples, n_ctx = contexts.shape[:2]
    texts = [" ".join(["X"] * n_ctx) + f" {name.replace('_', ' ')}." for name in names]
    ids = clip_module().clip.tokenize(texts).to(contexts.device)  # (C, T)
    dtype = clip_model.text_projection.dtype
    embedded = clip_model.token_embedding(ids).type(dtype).expand(n_samples, -1, -1, -1)
    middle = contexts.type(dtype)[:, None].expand(-1, len(names), -1, -1)
    x = torch.cat([embedded[:, :, :1], middle, embedded[:, :, 1 + n_ctx :]], 2).flatten(0, 1)
    x = x + clip_model.positional_embedding.type(dtype)  # (S * C, T, D)
    x = x.permute(1, 0, 2)
    for i, block in enumerate(clip_model.transformer.resblocks):
        if deep is not None and 0 < i <= len(deep):
            own = deep[i - 1].type(dtype).repeat_interleave(len(names), 0).permute(1, 0, 2)
            x = torch.cat([x[:1], own, x[1 + len(own) :]])
        x = block(x)
    x = clip_model.ln_final(x.permute(1, 0, 2)).type(dtype)
    ends = ids.argmax(-1).repeat(n_samples)
    x = x[torch.arange(len(x), device=x.device), ends] @ clip_model.text_projection
    return F.normalize(x.float(), dim=-1).unflatten(0, (n_samples, len(names)))


def plain_logits(
    model: PromptedCLIP, names: Sequence[str], images: Tensor, eps: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logits `(L, B, C)` and kl `(K,)` as `PromptedCLIP.logits`, all prompts encoded plainly."""
    features = model.encode_image(images)
    sample = model.prompt_learner(model.config.n_samples, features, eps=eps)
    deep = None if sample.deep is None else sample.deep.flatten(1, 2)
    text = plain_text_features(model.towers.clip, sample.contexts.flatten(0, 1), names, deep)
    text = text.unflatten(0, sample.contexts.shape[:2])  # (L, K, C, E)
    return model.scale * (text * features[:, None]).sum(-1), sample.kl
