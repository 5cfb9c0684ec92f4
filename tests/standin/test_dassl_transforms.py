"""Which transforms, in which order, and what the log says about them."""

import numpy as np
import pytest
import torch
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from PIL import Image
from torchvision.transforms import InterpolationMode

from varprompt.errors import ConfigError

ALL = (  # in the order of the pipeline; class names of the stand-in / of Dassl where they differ
    ("random_translation", "RandomChoice/Random2DTranslation", "random translation"),
    ("random_crop", "RandomCrop", "random crop (padding = 4)"),
    (
        "random_resized_crop",
        "RandomResizedCrop",
        "random resized crop (size=(7, 5), scale=(0.08, 1.0))",
    ),
    ("random_flip", "RandomHorizontalFlip", "random flip"),
    ("imagenet_policy", "AutoAugment/ImageNetPolicy", "imagenet policy"),
    ("cifar10_policy", "AutoAugment/CIFAR10Policy", "cifar10 policy"),
    ("svhn_policy", "AutoAugment/SVHNPolicy", "svhn policy"),
    ("randaugment", "RandAugment", "randaugment (n=2, m=10)"),
    (
        "colorjitter",
        "ColorJitter",
        "color jitter (brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)",
    ),
    ("randomgrayscale", "RandomGrayscale", "random gray scale"),
    ("gaussian_blur", "RandomApply", "gaussian blur (kernel=3)"),
    (None, "ToTensor", "to torch tensor of range [0, 1]"),
    ("cutout", "Cutout", "cutout (n_holes=1, length=16)"),
    (
        "normalize",
        "Normalize",
        "normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
    ),
    ("gaussian_noise", "GaussianNoise", "gaussian noise (mean=0.0, std=0.15)"),
    ("instance_norm", "InstanceNormalization", "instance normalization"),
)


NO_POLICIES = "the real Dassl's policies need numpy.int, which NumPy 1.24 removed"


def names(transform):
    return [type(step).__name__ for step in transform.transforms]


def check_pipeline(transform, output, rows, title):
    assert output.splitlines() == [title, *(f"+ {line}" for _, _, line in rows)]
    for found, (_, allowed, _) in zip(names(transform), rows, strict=True):
        assert found in allowed.split("/")


@pytest.mark.parametrize("order", [1, -1], ids=["given in order", "given reversed"])
def test_every_choice_has_its_place(cfg, capsys, order, stand_in):
    rows = [row for row in ALL if stand_in or "policy" not in row[2]]  # see NO_POLICIES
    choices = [name for name, _, _ in rows if name][::order]
    transform = build_transform(cfg, is_train=True, choices=choices)
    check_pipeline(transform, capsys.readouterr().out, rows, "Building transform_train")


@pytest.mark.parametrize("choice", [name for name, _, _ in ALL if name])
def test_every_choice_alone(cfg, capsys, choice, stand_in):
    if not stand_in and "policy" in choice:
        pytest.skip(NO_POLICIES)
    rows = [row for row in ALL if row[0] in (choice, None)]
    if choice not in ("random_crop", "random_resized_crop"):
        rows.insert(0, (None, "Resize", "resize to 7x5"))
    transform = build_transform(cfg, is_train=True, choices=[choice])
    check_pipeline(transform, capsys.readouterr().out, rows, "Building transform_train")
    noise = np.random.RandomState(0).randint(0, 255, (21, 30, 3), dtype=np.uint8)
    result = transform(Image.fromarray(noise))
    assert result.shape == (3, 7, 5) and result.dtype == torch.float32
    assert torch.isfinite(result).all()


def test_coop_training_pipeline(cfg, capsys):
    transform = build_transform(cfg, is_train=True)
    assert names(transform) == [
        "RandomResizedCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"
    ]  # fmt: skip
    crop, flip, _, normalize = transform.transforms
    assert tuple(crop.size) == (7, 5) and tuple(crop.scale) == (0.08, 1.0)
    assert tuple(crop.ratio) == (3 / 4, 4 / 3)
    assert crop.interpolation == InterpolationMode.BICUBIC == INTERPOLATION_MODES["bicubic"]
    assert flip.p == 0.5
    assert list(normalize.mean) == cfg.INPUT.PIXEL_MEAN
    assert list(normalize.std) == cfg.INPUT.PIXEL_STD


def test_test_pipeline_pixel_by_pixel(cfg, capsys):
    cfg.INPUT.TRANSFORMS = [name for name, _, _ in ALL if name] + ["center_crop"]
    cfg.INPUT.SIZE = (4, 4)
    transform = build_transform(cfg, is_train=False)
    assert capsys.readouterr().out.splitlines() == [
        "Building transform_test",
        "+ resize the smaller edge to 4",
        "+ 4x4 center crop",
        "+ to torch tensor of range [0, 1]",
        f"+ {ALL[-3][2]}",
        "+ instance normalization",
    ]
    noise = np.random.RandomState(0).randint(0, 255, (10, 15, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    resized = np.asarray(image.resize((6, 4), Image.Resampling.BICUBIC), np.float64)[:, 1:5] / 255
    normal = (resized - cfg.INPUT.PIXEL_MEAN) / cfg.INPUT.PIXEL_STD
    normal = (normal - normal.mean((0, 1))) / normal.std((0, 1), ddof=1)
    np.testing.assert_allclose(transform(image), normal.transpose(2, 0, 1), atol=1e-5)


def test_unknown_names_are_all_reported(cfg, stand_in):
    with pytest.raises((ConfigError, AssertionError)) as caught:
        build_transform(cfg, choices=["random_flip", "random_flop", "normalise"])
    if stand_in:
        assert len(caught.value.problems) == 2
        for part in ("'random_flop'", "'normalise'", "'normalize'", "INPUT.TRANSFORMS"):
            assert part in str(caught.value)


def test_unknown_interpolation(cfg, repaired):
    cfg.INPUT.INTERPOLATION = "lanczos"
    with pytest.raises(ConfigError, match="'lanczos'.*bicubic.*INPUT.INTERPOLATION"):
        build_transform(cfg)


def test_cutout_and_noise(cfg, capsys):
    torch.manual_seed(1)
    cfg.INPUT.SIZE = (30, 30)
    white = Image.new("RGB", (30, 30), "white")
    holes = {
        int((build_transform(cfg, choices=["cutout"])(white) == 0).sum()) // 3 for _ in range(60)
    }
    assert max(holes) == 16 * 16 and min(holes) >= 8 * 8 and len(holes) > 10
    noise = build_transform(cfg, choices=["gaussian_noise"])
    spreads = [float(noise(white).std()) for _ in range(40)]
    touched = [spread for spread in spreads if spread > 0]
    assert 5 < len(touched) < 35
    assert all(0.12 < spread < 0.18 for spread in touched)
