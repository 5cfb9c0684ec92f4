"""From the picks of :mod:`.world` to pixels."""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .world import SIZE, STYLES, Scene, Shift, load_masks, palette


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W) with reflected borders; ``sigma`` in pixels."""
    reach = max(1, math.ceil(2.5 * sigma))
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=images.dtype) / sigma) ** 2)
    weight = (weight / weight.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, weight, groups=images.shape[1])
    return F.conv2d(rows, weight.transpose(2, 3), groups=images.shape[1])


@lru_cache(maxsize=2)
def _soft_masks(dtype: torch.dtype) -> Tensor:
    """Masks (N, 1, 40, 40) with sloping edges; the root keeps thin strokes above the threshold."""
    return blur(load_masks().pixels[:, None].to(dtype), 0.7).clamp(min=0).sqrt()


def _silhouette(scene: Scene, dtype: torch.dtype) -> Tensor:
    """Warped masks (B, 1, SIZE, SIZE) in [0, 1]."""
    masks = _soft_masks(dtype)[scene.mask]
    grid = F.affine_grid(scene.theta.to(dtype), [len(scene), 1, SIZE, SIZE], align_corners=False)
    field = F.interpolate(scene.elastic.to(dtype), size=SIZE, mode="bicubic", align_corners=False)
    soft = F.grid_sample(masks, grid + field.permute(0, 2, 3, 1), align_corners=False)
    threshold = scene.stroke.to(dtype)[:, None, None, None]
    return ((soft - threshold) * 4 + 0.5).clamp(0, 1)


def _texture(scene: Scene, dtype: torch.dtype) -> Tensor:
    """Brightness of the foreground (B, 1, SIZE, SIZE): 1 where plain, 0.4 in the pattern."""
    axis = torch.arange(SIZE, dtype=dtype)
    wave = 2 * math.pi / scene.period.to(dtype)[:, None]
    x = torch.sin((axis + scene.phase.to(dtype)[:, :1]) * wave)[:, None, :]
    y = torch.sin((axis + scene.phase.to(dtype)[:, 1:]) * wave)[:, :, None]
    flat = torch.ones(len(scene), SIZE, SIZE, dtype=dtype)
    dots = 0.55 - (x + 1) * (y + 1) / 4
    kinds = torch.stack([flat, y.expand_as(flat), dots, x * y * 2])  # in the order of TEXTURES
    chosen = kinds[scene.texture, torch.arange(len(scene))]
    return 0.4 + 0.6 * (chosen * 3 + 0.5).clamp(0, 1)[:, None]


def _outline(mask: Tensor) -> Tensor:
    """Edges of a silhouette, in [0, 1]."""
    inner = -F.max_pool2d(-mask, 3, stride=1, padding=1)
    return (mask - inner).clamp(0, 1)


def _board(mask: Tensor, picture: Tensor, shift: Shift) -> Tensor:
    """Light lines around the thing on a greenish board, over a trace of the coloured picture.

    The lines run one pixel outside of the silhouette. Outlines on the edge itself are so close to
    the sketches of the training world that nothing is left to learn.
    """
    fat = F.max_pool2d(mask, 3, stride=1, padding=1)
    line = blur(_outline(fat), shift.blur) * 1.3
    board, chalk = mask.new_tensor([0.10, 0.32, 0.22]), mask.new_tensor([0.80, 0.95, 0.82])
    colour = board[:, None, None] + line * (chalk - board)[:, None, None]
    return 0.9 * colour + 0.1 * picture


def _styled(style: str, picture: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """One of STYLES applied to (B, 3, SIZE, SIZE)."""
    luma = (picture * picture.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    if style == "sketch":
        return (0.97 - 0.85 * _outline(mask) - 0.08 * mask).expand_as(picture)
    if style == "blurry":
        return blur(picture, 1.3)
    if style == "noisy":
        return picture + noise.sign() * noise.abs().clamp(min=0.02) * 3
    if style == "pixelated":
        return F.interpolate(F.avg_pool2d(picture, 2), scale_factor=2, mode="nearest")
    if style == "dark":
        return picture * 0.35
    if style == "painting":  # patches of paint: the brightest tone nearby, in few steps
        return (F.max_pool2d(blur(picture, 0.7), 3, stride=1, padding=1) * 5).round() / 5
    if style == "cartoon":
        border = F.max_pool2d(mask, 3, stride=1, padding=1) - mask
        return ((picture - 0.5) * 1.3 + 0.5).clamp(0, 1) * (1 - border)
    if style == "gray":
        return luma.expand_as(picture)
    return picture


def paint(scene: Scene, shift: Shift | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """Pictures (B, 3, SIZE, SIZE) in [0, 1].

    In float64 the pixels are the same on every machine once they are rounded to 8 bits; training
    takes float32 for speed.
    """
    shift, mask = shift or Shift(), _silhouette(scene, dtype)
    colours = palette().to(dtype)
    tone = scene.tone.to(dtype)[..., None, None]
    front = (colours[scene.foreground][..., None, None] + tone[:, 0]) * _texture(scene, dtype)
    back = colours[scene.background][..., None, None] + tone[:, 1]
    axis = torch.linspace(-1, 1, SIZE, dtype=dtype)
    slope = scene.light.to(dtype)[:, :, None]
    light = 1 + (slope[:, 0] * axis)[:, None, None, :] + (slope[:, 1] * axis)[:, None, :, None]
    picture = ((back + mask * (front - back)) * light).clamp(0, 1)
    noise = scene.noise.to(dtype)
    if shift.chalk:
        return (_board(mask, picture, shift) + noise).clamp(0, 1)
    styled = picture.clone()
    for index, style in enumerate(STYLES):
        rows = (scene.style == index).nonzero().flatten()
        if len(rows):
            styled[rows] = _styled(style, picture[rows], mask[rows], noise[rows])
    styled = styled * styled.new_tensor(shift.cast)[:, None, None]
    return (styled + noise).clamp(0, 1)
