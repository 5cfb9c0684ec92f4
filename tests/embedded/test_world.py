"""The world's pictures are functions of their seed, and show what they say."""

import random

import pytest
import torch

from varprompt.embedded import captions
from varprompt.embedded.paint import blur, paint
from varprompt.embedded.world import COLOURS, SIZE, STYLES, TEXTURES, Shift, draw, load_masks

LABELS = torch.tensor([0, 105, 7, 96, 7])


def pictures(seed=3, shift=None, dtype=torch.float64, **kwargs):
    scene = draw(LABELS, torch.Generator().manual_seed(seed), shift, **kwargs)
    return paint(scene, shift, dtype)


def test_masks_are_106_named_things_with_the_digits_last():
    masks = load_masks()
    assert masks.pixels.shape[1:] == (40, 40)
    assert len(set(masks.names)) == 106
    assert masks.names[-10:] == (
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    )
    assert masks.owner.unique_consecutive().tolist() == list(range(106))
    assert 0 <= masks.pixels.min() and masks.pixels.amax((1, 2)).min() > 0.5


@pytest.mark.parametrize("shift", [None, Shift(chalk=True, blur=0.8), Shift(cast=(1, 0.5, 0.2))])
def test_the_seed_decides_the_picture(shift):
    images = pictures(shift=shift)
    assert images.shape == (5, 3, SIZE, SIZE)
    assert 0 <= images.min() and images.max() <= 1
    assert torch.equal(images, pictures(shift=shift))
    assert not torch.equal(images, pictures(seed=4, shift=shift))
    assert not torch.equal(images[2], images[4]), "the same thing twice is two pictures"


def test_float32_differs_from_float64_by_rounding_only():
    difference = pictures() - pictures(dtype=torch.float32).double()
    assert difference.abs().mean() < 1e-3


def test_a_picture_shows_its_colour_on_its_background():
    red, square = list(COLOURS).index("red"), load_masks().names.index("square")
    scene = draw(
        torch.full((64,), square),
        torch.Generator().manual_seed(0),
        jitter=0.0,
        foreground=torch.full((64,), red),
    )
    assert red not in scene.background
    scene.texture.zero_()
    scene.style.fill_(STYLES.index("photo"))
    centre = paint(scene)[:, :, 14:18, 14:18].mean((0, 2, 3))
    assert centre[0] > 0.7 and centre[1:].max() < 0.3


def test_zero_jitter_leaves_one_pose():
    masks = draw(LABELS, torch.Generator().manual_seed(1), jitter=0.0)
    assert torch.allclose(masks.theta, masks.theta[:1].expand_as(masks.theta))
    assert not masks.elastic.any()


def ink_of_squares(shift):
    """Where three white squares on black are (3, SIZE, SIZE), without jitter."""
    white, black = (torch.full((3,), list(COLOURS).index(name)) for name in ("white", "black"))
    squares = torch.full((3,), load_masks().names.index("square"))
    scene = draw(squares, torch.Generator().manual_seed(1), shift, jitter=0.0, foreground=white)
    scene.background.copy_(black)
    scene.texture.zero_()
    scene.style.fill_(STYLES.index("photo"))
    return paint(scene, shift)[:, 0] > 0.5


def test_aspect_stretches_the_width():
    ink = ink_of_squares(Shift(aspect=(3.0, 3.0), scale=(0.7, 0.7), rotation=0.0))
    width, height = ink.any(1).sum(1), ink.any(2).sum(1)
    assert (2.7 * height <= width).all() and (width <= 3.3 * height).all()


def test_shear_slants_to_one_side():
    for shear in (-0.6, 0.6):
        shift = Shift(shear=(shear, shear), scale=(0.5, 0.5), aspect=(1.0, 1.0), rotation=0.0)
        ink = ink_of_squares(shift).double()
        rows = ink.sum(2)
        centre = (ink * torch.arange(32)).sum(2) / rows
        full = rows > 0.8 * rows.amax(1, keepdim=True)
        for line, kept in zip(centre, full, strict=True):
            slope = line[kept].diff().mean()
            assert slope == pytest.approx(-shear, abs=0.1)


def test_blur_keeps_the_mean_of_a_constant_and_spreads_a_point():
    assert torch.allclose(blur(torch.full((1, 2, 9, 7), 0.3), 1.1), torch.tensor(0.3))
    point = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    point[..., 10, 10] = 1
    soft = blur(point, 1.5)[0, 0]
    variance = (soft.sum(0) * (torch.arange(21) - 10) ** 2).sum()
    assert soft.sum() == pytest.approx(1) and variance == pytest.approx(1.5**2, rel=0.05)


def test_captions_are_true_and_tell_every_attribute_sometimes():
    generator, names = torch.Generator().manual_seed(5), load_masks().names
    labels = torch.randint(106, (400,), generator=generator)
    scene = draw(labels, generator)
    texts = captions.captions(scene, [names[i] for i in labels], random.Random(0))
    assert texts == captions.captions(scene, [names[i] for i in labels], random.Random(0))
    coloured = 0
    for row, text in enumerate(texts):
        assert names[labels[row]] in text
        words = text.rstrip(".").split()
        told = [c for c in COLOURS if f"{c} background" not in text and c in words]
        if STYLES[scene.style[row]] not in ("sketch", "gray") and told:
            coloured += 1
            assert told == [list(COLOURS)[scene.foreground[row]]], text
        for texture in set(TEXTURES) & set(words):
            assert texture == TEXTURES[scene.texture[row]], text
    assert 100 < coloured < 300
