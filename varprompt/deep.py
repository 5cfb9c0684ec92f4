"""Prompts in front of the deeper layers of the text tower, and in the image tower.

Three designs, by what `varprompt.config.PromptConfig` says: deep prompts in the text tower alone,
independent ones in both towers (IVLP, PromptSRC), and visual prompts that are linear maps of those
of the text tower (MaPLe, arXiv 2210.03117).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .config import PromptConfig
from .errors import ConfigError
from .posteriors import PromptSample
from .towers.blocks import check_image_tower

_STD = 0.02  # of CLIP's own initialisation, and of all three methods' prompts


@dataclass(frozen=True)
class Prompts(PromptSample):
    """What both towers get: `contexts` and `kl` of a `PromptSample`, and further prompts.

    Attributes:
        deep: of layers 2 to J of the text tower, `(J - 1, L, K, M, D)`; None if there are none.
        visual: `(L, K, J, N, V)` where they differ between samples, else None: they are those of
            `varprompt.prompt.PromptLearner.visual`.
        residual: mean of the samples' residuals `(K, R, D)`; None without a posterior.
    """

    deep: Tensor | None = None
    visual: Tensor | None = None
    residual: Tensor | None = None


@dataclass(frozen=True)
class DeepShape:
    """Sizes of what is learned besides the context.

    Attributes:
        n_ctx: M, prompts of a layer of the text tower.
        width: D.
        depth: J, layers of the text tower that have prompts of their own, the context's included.
        n_visual: N, prompts of a layer of the image tower; 0 = it has none.
        visual_width: V.
        visual_depth: layers of the image tower that have prompts of their own.
        coupled: the visual prompts are linear maps of the text tower's: N = M, and equal depths.
    """

    n_ctx: int
    width: int
    depth: int = 1
    n_visual: int = 0
    visual_width: int = 0
    visual_depth: int = 1
    coupled: bool = False

    def __bool__(self) -> bool:
        return self.depth > 1 or self.n_visual > 0


class DeepPrompts(nn.Module):
    """Everything of a prompt learner but context and residual.

    Args:
        shape: the sizes; its `coupled` decides where visual prompts come from.
        learned: False keeps the text tower's prompts where they started.
    """

    def __init__(self, shape: DeepShape, learned: bool = True):
        super().__init__()
        self.shape = shape
        text = _STD * torch.randn(shape.depth - 1, shape.n_ctx, shape.width)
        self.text: Tensor
        if learned and shape.depth > 1:
            self.text = nn.Parameter(text)
        else:
            self.register_buffer("text", text, persistent=shape.depth > 1)
        if shape.coupled:
            first = nn.Linear(shape.width, shape.visual_width)
            rest = nn.Linear(shape.width, shape.visual_width)  # those behind it start alike
            self.couplings = nn.ModuleList([first])
            for _ in range(shape.depth - 1):
                self.couplings.append(nn.Linear(shape.width, shape.visual_width))
                self.couplings[-1].load_state_dict(rest.state_dict())
        elif shape.n_visual:
            self.visual = nn.Parameter(
                _STD * torch.randn(shape.visual_depth, shape.n_visual, shape.visual_width)
            )

    def visual_of(self, context: Tensor, deep: Tensor) -> Tensor | None:
        """Visual prompts `(L, K, J, N, V)`; None if the image tower has none.

        Args:
            context: of the text tower, `(L, K, M, D)`.
            deep: its deeper prompts, `(J - 1, L, K, M, D)`.
        """
        if self.shape.coupled:
            layers = zip(self.couplings, [context, *deep], strict=True)
            return torch.stack([coupling(prompts) for coupling, prompts in layers], 2)
        return self.visual[None, None] if self.shape.n_visual else None


def deep_shape(clip_model: Any, cfg: PromptConfig, context: Tensor) -> DeepShape:
    """Sizes of what is learned besides the context.

    Raises:
        ConfigError: deeper prompts than a tower has layers, or visual ones and no ViT.
    """
    n_visual = (context.shape[-2] if cfg.coupled else cfg.n_ctx_visual) if cfg.has_visual else 0
    depths = {"text": (cfg.depth, clip_model.transformer.resblocks)}
    if n_visual:
        check_image_tower(clip_model)
        depths["image"] = (cfg.visual_depth, clip_model.visual.transformer.resblocks)
    problems = [
        f"prompts in {depth} layers of the {name} tower, which has {len(layers)}: lower "
        "PROMPT_DEPTH"
        for name, (depth, layers) in depths.items()
        if depth > len(layers)
    ]
    if problems:
        raise ConfigError(problems)
    return DeepShape(
        context.shape[-2], context.shape[-1], cfg.depth, n_visual,
        len(clip_model.visual.class_embedding) if n_visual else 0, cfg.visual_depth, cfg.coupled,
    )  # fmt: skip
