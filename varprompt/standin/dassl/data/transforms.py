"""Image transforms by name, in Dassl's order."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision.transforms as T
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode

from varprompt.errors import ConfigError

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class Cutout:
    """Sets `n_holes` squares of side `length`, cut off at the border, to zero."""

    def __init__(self, n_holes: int, length: int):
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img: Tensor) -> Tensor:
        """Image (3, H, W) with holes."""
        img = img.clone()
        half = self.length // 2
        for _ in range(self.n_holes):
            y, x = (int(torch.randint(size, ())) for size in img.shape[1:])
            img[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return img


class GaussianNoise:
    """Adds noise of the given mean and standard deviation with probability 0.5."""

    def __init__(self, mean: float, std: float):
        self.mean = mean
        self.std = std

    def __call__(self, img: Tensor) -> Tensor:
        """Image of any shape, with or without noise."""
        if torch.rand(()) < 0.5:
            return img
        return img + torch.randn_like(img) * self.std + self.mean


class InstanceNormalization:
    """Zero mean and unit standard deviation per image and channel."""

    def __call__(self, img: Tensor) -> Tensor:
        """Normalised image (3, H, W)."""
        std, mean = torch.std_mean(img, dim=(1, 2), keepdim=True)
        return (img - mean) / (std + 1e-8)


Step = tuple[str, Callable[[Any], Any]]  # what the log says, what is done


def _translation(size: tuple[int, int]) -> Callable[[Any], Any]:
    larger = [round(side * 1.125) for side in size]
    moved = T.Compose([T.Resize(larger), T.RandomCrop(size)])
    return T.RandomChoice([T.Resize(size), moved])


def _augmentations(inp: Any) -> dict[str, Step]:
    """Steps on PIL images behind the resize, in order."""
    size, scale, mode = inp.SIZE, inp.RRCROP_SCALE, INTERPOLATION_MODES[inp.INTERPOLATION]
    n, m = inp.RANDAUGMENT_N, inp.RANDAUGMENT_M
    b, c, s, h = inp.COLORJITTER_B, inp.COLORJITTER_C, inp.COLORJITTER_S, inp.COLORJITTER_H
    return {
        "random_translation": ("random translation", _translation(size)),
        "random_crop": (
            f"random crop (padding = {inp.CROP_PADDING})",
            T.RandomCrop(size, padding=inp.CROP_PADDING),
        ),
        "random_resized_crop": (
            f"random resized crop (size={size}, scale={scale})",
            T.RandomResizedCrop(size, scale=scale, interpolation=mode),
        ),
        "random_flip": ("random flip", T.RandomHorizontalFlip()),
        "imagenet_policy": ("imagenet policy", T.AutoAugment(AutoAugmentPolicy.IMAGENET)),
        "cifar10_policy": ("cifar10 policy", T.AutoAugment(AutoAugmentPolicy.CIFAR10)),
        "svhn_policy": ("svhn policy", T.AutoAugment(AutoAugmentPolicy.SVHN)),
        "randaugment": (f"randaugment (n={n}, m={m})", T.RandAugment(n, m)),
        "colorjitter": (
            f"color jitter (brightness={b}, contrast={c}, saturation={s}, hue={h})",
            T.ColorJitter(b, c, s, h),
        ),
        "randomgrayscale": ("random gray scale", T.RandomGrayscale(inp.RGS_P)),
        "gaussian_blur": (
            f"gaussian blur (kernel={inp.GB_K})",
            T.RandomApply([T.GaussianBlur(inp.GB_K)], p=inp.GB_P),
        ),
    }


def _tensor_steps(inp: Any) -> dict[str, Step]:
    """Steps on tensors, in order."""
    mean, std = inp.PIXEL_MEAN, inp.PIXEL_STD
    return {
        "cutout": (
            f"cutout (n_holes={inp.CUTOUT_N}, length={inp.CUTOUT_LEN})",
            Cutout(inp.CUTOUT_N, inp.CUTOUT_LEN),
        ),
        "normalize": (f"normalization (mean={mean}, std={std})", T.Normalize(mean, std)),
        "gaussian_noise": (
            f"gaussian noise (mean={inp.GN_MEAN}, std={inp.GN_STD})",
            GaussianNoise(inp.GN_MEAN, inp.GN_STD),
        ),
        "instance_norm": ("instance normalization", InstanceNormalization()),
    }


def build_transform(
    cfg: Any, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Any], Any]:
    """The transform for training or for testing.

    Args:
        cfg: the whole config.
        is_train: augment; otherwise resize, centre crop and normalise only.
        choices: names to use instead of INPUT.TRANSFORMS; their order is of no account.

    Raises:
        ConfigError: a name or INPUT.INTERPOLATION is unknown.
    """
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    _check(cfg.INPUT, choices)
    build = _train_steps if is_train else _test_steps
    print(f"Building transform_{'train' if is_train else 'test'}")
    steps = build(cfg.INPUT, choices)
    for line, _ in steps:
        print(f"+ {line}")
    return T.Compose([step for _, step in steps])


def _train_steps(inp: Any, choices: Sequence[str]) -> list[Step]:
    height, width = inp.SIZE
    steps = []
    if not {"random_crop", "random_resized_crop"} & set(choices):
        resize = T.Resize(inp.SIZE, interpolation=INTERPOLATION_MODES[inp.INTERPOLATION])
        steps.append((f"resize to {height}x{width}", resize))
    steps += [step for name, step in _augmentations(inp).items() if name in choices]
    steps.append(_TO_TENSOR)
    return steps + [step for name, step in _tensor_steps(inp).items() if name in choices]


def _test_steps(inp: Any, choices: Sequence[str]) -> list[Step]:
    height, width = inp.SIZE
    mode = INTERPOLATION_MODES[inp.INTERPOLATION]
    tensor_steps = _tensor_steps(inp)
    return [
        (
            f"resize the smaller edge to {max(inp.SIZE)}",
            T.Resize(max(inp.SIZE), interpolation=mode),
        ),
        (f"{height}x{width} center crop", T.CenterCrop(inp.SIZE)),
        _TO_TENSOR,
        *(tensor_steps[name] for name in ("normalize", "instance_norm") if name in choices),
    ]


_TO_TENSOR: Step = ("to torch tensor of range [0, 1]", T.ToTensor())


def _check(inp: Any, choices: Sequence[str]) -> None:
    problems = []
    if inp.INTERPOLATION not in INTERPOLATION_MODES:
        problems.append(
            f"interpolation {inp.INTERPOLATION!r} is unknown; "
            f"choose from {list(INTERPOLATION_MODES)} (INPUT.INTERPOLATION)"
        )
    else:
        # "center_crop" is accepted and changes nothing: testing crops anyway, training never
        known = [*_augmentations(inp), *_tensor_steps(inp), "center_crop"]
        problems += [
            f"transform {name!r} is unknown; choose from {known} (INPUT.TRANSFORMS)"
            for name in choices
            if name not in known
        ]
    if problems:
        raise ConfigError(problems)
