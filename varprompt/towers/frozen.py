"""A frozen CLIP: both towers and the temperature."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .blocks import check_image_tower
from .image import PromptedImageEncoder
from .load import cast_clip, clip_module
from .products import takes_onednn
from .text import FrozenTextEncoder

ONEDNN = "oneDNN"


class FrozenCLIP(nn.Module):
    """The two towers and the temperature of a CLIP, in the number format of `precision`.

    Attributes:
        scale: factor in front of the cosines.
        bias: added to them where single pairs are scored, see `pair_scores`; 0 of most CLIPs.
    """

    def __init__(self, clip_model: Any, precision: str = "fp32", mem_budget: int = 0):
        super().__init__()
        self.clip = cast_clip(clip_model, precision).eval().requires_grad_(False)
        self.encode_text = FrozenTextEncoder(self.clip, mem_budget)
        self.scale = float(self.clip.logit_scale.detach().float().exp())
        bias = getattr(self.clip, "logit_bias", None)
        self.bias = 0.0 if bias is None else float(bias.detach())

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stay in evaluation mode: batch statistics of the image tower are frozen too."""
        return super().train(False)

    @cached_property
    def encode_prompted_image(self) -> PromptedImageEncoder:
        """The image tower with visual prompts; it shares the text tower's memory budget.

        Raises:
            ConfigError: the image tower is no vision transformer.
        """
        return PromptedImageEncoder(self.clip, self._budget)

    def _budget(self) -> int:
        """Bytes for activations, of the text encoder in use; a method, for it is pickled, too."""
        return int(self.encode_text.resolved_budget)

    @property
    def image_products(self) -> str:
        """Whose products encode images without prompts: `ONEDNN`, or "torch" (the tower itself).

        oneDNN's where it is faster, of the vision transformers of OpenAI's own code.
        """
        tower = self.clip.visual
        if type(tower) is not clip_module().model.VisionTransformer:
            return "torch"
        taken = takes_onednn(tower.proj, tower.proj) and self._image_tower_is_known
        return ONEDNN if taken else "torch"

    @cached_property
    def _image_tower_is_known(self) -> bool:
        try:
            check_image_tower(self.clip)
        except ConfigError:  # somebody has changed its layers: it computes itself what they do
            return False
        return True

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)`, float32, of images `(B, 3, H, W)`."""
        if self.image_products == ONEDNN:
            return self.encode_prompted_image.unprompted(images)
        return F.normalize(self.clip.encode_image(images).float(), dim=-1)

    def pair_scores(self, features: Tensor, text: Tensor) -> Tensor:
        """What SigLIP says of single pairs: sigmoid of scaled cosine plus bias, `(..., B, C)`.

        They do not add up to 1 over classes. Of a CLIP that was not trained so they mean nothing.

        Args:
            features: unit-norm image features `(B, E)`.
            text: unit-norm text features `(..., C, E)`.
        """
        return torch.sigmoid(self.scale * features @ text.transpose(-2, -1) + self.bias)
