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

from varprompt.config import PromptConfig
from varprompt.model import PromptedCLIP
from varprompt.towers.load import clip_module

# (E, image side, image layers, image width, patch), (text width, heads, layers) of OpenAI's models
BACKBONES: dict[str, tuple[tuple[Any, ...], tuple[int, int, int]]] = {
    "ViT-B/16": ((512, 224, 12, 768, 16), (512, 8, 12)),
    "ViT-B/32": ((512, 224, 12, 768, 32), (512, 8, 12)),
    "RN50": ((1024, 224, (3, 4, 6, 3), 64, None), (512, 8, 12)),
    "ViT-L/14": ((768, 224, 24, 1024, 14), (768, 12, 12)),
    "tiny": ((32, 32, 2, 64, 16), (64, 2, 2)),  # for what must be small, of no real model
}
TRAINERS: dict[str, dict[str, Any]] = {
    "VPT": {"posterior": "gaussian", "kl_weight": 0.001, "kl_reduction": "mean"},
    "VPT_CoCoOp": {
        "posterior": "gaussian", "kl_weight": 0.001, "kl_reduction": "mean", "conditional": True,
    },
    "CoOp": {},
    "CoCoOp": {"posterior": "meta_net", "conditional": True},
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
    n_samples = n_samples if "kl_weight" in TRAINERS[trainer] else 1
    cfg = PromptConfig(
        n_samples=n_samples, n_samples_test=n_samples, **{**TRAINERS[trainer], **options}
    )
    return PromptedCLIP(clip_model, names, cfg)


def plain_text_features(clip_model: Any, contexts: Tensor, names: Sequence[str]) -> Tensor:
    """The usual implementation: S * C prompts padded to 77 tokens, one batch, whole tower.

    Args:
        clip_model: the towers.
        contexts: `(S, M, D)`.
        names: C class names.

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
    x = clip_model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    x = clip_model.ln_final(x).type(dtype)
    ends = ids.argmax(-1).repeat(n_samples)
    x = x[torch.arange(len(x), device=x.device), ends] @ clip_model.text_projection
    return F.normalize(x.float(), dim=-1).unflatten(0, (n_samples, len(names)))


def plain_logits(
    model: PromptedCLIP, names: Sequence[str], images: Tensor, eps: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logits `(L, B, C)` and kl `(K,)` as `PromptedCLIP.logits`, all prompts encoded plainly."""
    features = model.towers.encode_image(images)
    sample = model.prompt_learner(model.config.n_samples, features, eps=eps)
    text = plain_text_features(model.towers.clip, sample.contexts.flatten(0, 1), names)
    text = text.unflatten(0, sample.contexts.shape[:2])  # (L, K, C, E)
    return model.scale * (text * features[:, None]).sum(-1), sample.kl
