"""A world of 32 x 32 pictures of 106 named things, and what is random about them.

The tiny CLIP is trained on random pictures of this world; the rendered data sets show the same
things under a systematic shift that training never shows. :func:`draw` picks everything random
about B pictures from one generator and :mod:`.paint` turns the picks into pixels, so a picture is
a function of its seed. Silhouettes are stored, so nothing depends on installed fonts.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIZE = 32
MASKS = Path(__file__).with_name("masks.npz")
COLOURS = {
    "red": (0.85, 0.12, 0.12), "orange": (0.96, 0.55, 0.10), "yellow": (0.95, 0.88, 0.15),
    "green": (0.12, 0.62, 0.20), "cyan": (0.15, 0.80, 0.85), "blue": (0.12, 0.22, 0.80),
    "purple": (0.50, 0.15, 0.65), "pink": (0.97, 0.60, 0.75), "brown": (0.45, 0.27, 0.12),
    "white": (0.97, 0.97, 0.97), "black": (0.04, 0.04, 0.04), "gray": (0.50, 0.50, 0.50),
}  # fmt: skip
TEXTURES = ("solid", "striped", "dotted", "checkered")
STYLES = ("photo", "sketch", "blurry", "noisy", "pixelated", "dark", "painting", "cartoon", "gray")


@dataclass(frozen=True)
class Masks:
    """Silhouettes ``pixels (N, 40, 40)`` in [0, 1] of the things ``names[owner]``, owner (N,)."""

    pixels: Tensor
    owner: Tensor
    names: tuple[str, ...]


@lru_cache(maxsize=1)
def load_masks() -> Masks:
    """Read the stored silhouettes; the digits are the last ten names."""
    with np.load(MASKS, allow_pickle=False) as stored:
        pixels = torch.from_numpy(stored["pixels"]).double() / 255
        owner = torch.from_numpy(stored["owner"]).long()
        return Masks(pixels, owner, tuple(stored["names"].tolist()))


@dataclass(frozen=True)
class Shift:
    """What a data set does to the world; the default is the world of the tiny CLIP's training.

    ``scale``, ``aspect`` (width over height), ``rotation`` (radians) and ``shear`` (sideways over
    up) are the ranges drawn from, as are ``styles``;
    ``chalk`` replaces colour and style by lines on a board, blurred by ``blur`` pixels; ``cast``
    multiplies red, green and blue.
    """

    scale: tuple[float, float] = (0.75, 1.15)
    aspect: tuple[float, float] = (0.85, 1.15)
    rotation: float = 0.3
    shear: tuple[float, float] = (-0.15, 0.15)
    styles: tuple[str, ...] = STYLES
    chalk: bool = False
    blur: float = 0.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass
class Scene:
    """Everything random about B pictures; indices point into COLOURS, TEXTURES and STYLES."""

    mask: Tensor  # (B,)
    theta: Tensor  # (B, 2, 3) picture coordinates -> mask coordinates
    elastic: Tensor  # (B, 2, 4, 4) displacement of the mask coordinates
    stroke: Tensor  # (B,) threshold on the softened mask: low is bold, high is thin
    foreground: Tensor  # (B,)
    background: Tensor  # (B,)
    tone: Tensor  # (B, 2, 3) deviation from the named foreground and background colour
    texture: Tensor  # (B,)
    phase: Tensor  # (B, 2) of the texture, and period (B,)
    period: Tensor
    style: Tensor  # (B,)
    light: Tensor  # (B, 2) slope of the brightness across the picture
    noise: Tensor  # (B, 3, SIZE, SIZE) already scaled

    def __len__(self) -> int:
        return len(self.mask)


class _Dice:
    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        unit = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * unit

    def choice(self, n: int, size: int) -> Tensor:
        return torch.randint(n, (size,), generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def palette() -> Tensor:
    """RGB of the named colours, (12, 3) float64."""
    return torch.tensor(list(COLOURS.values()), dtype=torch.float64)


def _affine(dice: _Dice, size: int, shift: Shift, jitter: float) -> Tensor:
    """Inverse maps (B, 2, 3); ``jitter`` in [0, 1] scales the deviations from the range's mean."""

    def around(low: float, high: float) -> Tensor:
        middle, half = (low + high) / 2, jitter * (high - low) / 2
        return dice.uniform(middle - half, middle + half, size)

    angle = around(-shift.rotation, shift.rotation)
    scale, aspect = around(*shift.scale), around(*shift.aspect).sqrt()
    shear, offset = around(*shift.shear), torch.stack([around(-0.15, 0.15), around(-0.15, 0.15)], 1)
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros(size).double(), torch.ones(size).double()

    def matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)

    stretch = matrix(one / (scale * aspect), zero, zero, aspect / scale)
    linear = stretch @ matrix(cos, sin, -sin, cos) @ matrix(one, shear, zero, one)
    return torch.cat([linear, -(linear @ offset[:, :, None])], dim=2)


def draw(
    labels: Tensor,
    generator: torch.Generator,
    shift: Shift | None = None,
    jitter: float = 1.0,
    foreground: Tensor | None = None,
) -> Scene:
    """Pick one picture for each of ``labels (B,)``.

    The same generator state gives the same picks. ``jitter`` in [0, 1] scales the deformations;
    ``foreground (B,)`` fixes the colours.
    """
    shift, masks, dice, size = shift or Shift(), load_masks(), _Dice(generator), len(labels)
    counts = torch.bincount(masks.owner, minlength=len(masks.names))
    first = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)[:-1]])
    pick = (dice.uniform(0, 1, size) * counts[labels]).long()
    if foreground is None:
        foreground = dice.choice(len(COLOURS), size)
    distance = torch.cdist(palette(), palette())
    readable = (distance > 0.55).double()  # a thing must stand out from its background
    background = torch.multinomial(readable[foreground], 1, generator=generator)[:, 0]
    styles = torch.tensor([STYLES.index(style) for style in shift.styles])
    level = dice.uniform(0, 0.06, size, 1, 1, 1)
    return Scene(
        mask=first[labels] + pick,
        theta=_affine(dice, size, shift, jitter),
        elastic=dice.normal(size, 2, 4, 4) * 0.04 * jitter,
        stroke=0.52 + dice.uniform(-0.13, 0.13, size) * jitter,
        foreground=foreground,
        background=background,
        tone=dice.uniform(-0.08, 0.08, size, 2, 3),
        texture=dice.choice(len(TEXTURES), size),
        phase=dice.uniform(0, 8, size, 2),
        period=dice.uniform(4, 7, size),
        style=styles[dice.choice(len(styles), size)],
        light=dice.uniform(-0.15, 0.15, size, 2),
        noise=level * dice.normal(size, 3, SIZE, SIZE),
    )
