"""CLIP's frozen vision transformer with learned prompts beside the patches.

Prompts stand behind the class token and the patches. In front of a layer that has prompts of its
own, those replace what the layer before has made of the last ones. Nothing here is causal, so
unlike in the text tower all tokens depend on the prompts; what is left out is exact nevertheless:
weights have no gradients, a layer whose prompts are replaced afterwards does not finish them, and
of the last layer only the class token is read.

Without prompts it is what the tower itself computes, by the products of `products`.

With more images (or samples) than fit the memory budget, they are processed in chunks whose
activations are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import check_image_tower, finish, project_qkv
from .memory import CPU_CHUNK, activation_bytes, directly, recomputed, slices


class PromptedImageEncoder(nn.Module):
    """Image features under visual prompts, with gradients for the prompts only.

    Args:
        clip_model: a frozen CLIP with a vision transformer of OpenAI's form.
        budget: answers how many bytes of activations one call may take; one image of one sample is
            processed at a time however small that is.

    Raises:
        ConfigError: the image tower is a ResNet, or has other layers than CLIP's.
    """

    def __init__(self, clip_model: Any, budget: Callable[[], int]):
        super().__init__()
        self.activation = check_image_tower(clip_model)
        self.tower = clip_model.visual
        self.budget = budget

    @property
    def width(self) -> int:
        """V."""
        return int(self.tower.class_embedding.shape[0])

    @property
    def n_layers(self) -> int:
        """Of the tower, the greatest depth of prompts."""
        return len(self.tower.transformer.resblocks)

    def forward(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Encode every image with every sample of prompts.

        Args:
            images: `(B, 3, H, W)`.
            prompts: `(L, K, J, N, V)`, K = 1 or B: N prompts in front of each of J layers.

        Returns:
            Unit-norm features `(L, B, E)`, float32.
        """
        n_samples, n_images = len(prompts), len(images)
        with torch.no_grad():
            patches = self._patches(images)  # (B, T, V)
        prompts = prompts.to(patches.dtype).expand(-1, n_images, -1, -1, -1).flatten(0, 1)
        backward = torch.is_grad_enabled() and prompts.requires_grad
        size = self._chunk(patches.shape[1] + prompts.shape[2], patches.dtype.itemsize, backward)
        run = recomputed if backward and size < len(prompts) else directly
        rows = torch.arange(len(prompts), device=patches.device) % n_images
        features = [
            run(self._encode, patches[rows[part]], prompts[part])
            for part in slices(len(prompts), size)
        ]
        return torch.cat(features).unflatten(0, (n_samples, n_images))

    def unprompted(self, images: Tensor) -> Tensor:
        """What the tower itself makes of images `(B, 3, H, W)`: unit-norm features `(B, E)`."""
        nothing = self.tower.class_embedding.new_zeros(1, 1, 1, 0, self.width)
        return self(images, nothing)[0]

    def _patches(self, images: Tensor) -> Tensor:
        """Class token and patches in front of the first layer, `(B, T, V)`."""
        tower = self.tower
        x = tower.conv1(images.to(tower.conv1.weight.dtype)).flatten(2).mT  # (B, T - 1, V)
        first = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + tower.positional_embedding.to(x.dtype)
        return tower.ln_pre(x)

    def _encode(self, patches: Tensor, prompts: Tensor) -> Tensor:
        """Features `(n, E)` of patches `(n, T, V)` with prompts `(n, J, N, V)`."""
        blocks, n_patches, depth = (
            self.tower.transformer.resblocks,
            patches.shape[1],
            prompts.shape[1],
        )
        x = torch.cat([patches, self.tower.ln_pre(prompts[:, 0])], 1)
        for i, block in enumerate(blocks):
            if 0 < i < depth:
                x = torch.cat([x[:, :n_patches], prompts[:, i]], 1)
            q, k, v = project_qkv(block, x)
            if i + 1 == len(blocks):
                q, x = q[:, :1], x[:, :1]
            elif i + 1 < depth:
                q, x = q[:, :n_patches], x[:, :n_patches]
            q, k, v = (_heads(t, block) for t in (q, k, v))
            attended = F.scaled_dot_product_attention(q, k, v)
            x = finish(block, x, attended.transpose(1, 2).flatten(2), self.activation)
        x = self.tower.ln_post(x[:, 0]) @ self.tower.proj
        # in float32: half precision would miss unit norm by 1e-4 and more
        return F.normalize(x.float(), dim=-1)

    def _chunk(self, n_tokens: int, itemsize: int, backward: bool) -> int:
        """Images to process at once so that a call fits the budget."""
        per_token = activation_bytes(self.width, itemsize, self.n_layers if backward else 0)
        size = self.budget() // (per_token * n_tokens)
        if not backward and self.tower.class_embedding.device.type == "cpu":
            size = min(size, CPU_CHUNK // (4 * self.width * itemsize * n_tokens))
        return max(1, size)


def _heads(x: Tensor, block: Any) -> Tensor:
    """`(n, T, V)` to `(n, H, T, V / H)`."""
    return x.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)
