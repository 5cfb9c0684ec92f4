"""Images in every form that people hold them in become the same pixels."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from varprompt.errors import DataError
from varprompt.images.inputs import GivenImages, as_rgb, check_images, pixels_transform
from varprompt.images.tree import suffixes, summary

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 17, 23, 3), dtype=np.uint8)


def tensors(images):
    items = GivenImages(check_images(images), pixels_transform(11, MEAN, STD))
    return torch.stack([items[i]["img"] for i in range(len(items))])


def test_all_forms_are_the_same_pixels(tmp_path):
    pictures = [Image.fromarray(pixels) for pixels in PIXELS]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    block = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    wanted = tensors(PIXELS)
    assert wanted.shape == (3, 3, 11, 11)
    for form in (
        pictures, paths, list(map(str, paths)), np.array(list(map(str, paths))), list(PIXELS),
        block, block.float() / 255, block.double() / 255, list(block),
    ):  # fmt: skip
        assert torch.equal(tensors(form), wanted)
    assert torch.equal(tensors(str(paths[1])), wanted[1:2])
    assert torch.equal(tensors(pictures[2]), wanted[2:])


def test_the_transform_is_the_one_of_clip():
    """Shorter side to the size, the middle cut out, normalised: written out."""
    image = Image.fromarray(PIXELS[0])
    small = np.asarray(image.resize((14, 11), Image.Resampling.BICUBIC), np.float64) / 255
    middle = small[:, 2:13]  # of 14 columns; torchvision rounds 1.5 to 2
    wanted = (middle - MEAN) / STD
    got = tensors([image])[0].permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(PIXELS[0])
    stored.save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as opened:
        for image in (opened, tmp_path / "phone.png"):
            assert np.array_equal(as_rgb(image), np.rot90(PIXELS[0], -1))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 5), np.uint8), np.zeros((2, 3, 8, 8), np.uint8), PIXELS.astype(float),
        torch.zeros(2, 8, 8, 3), torch.zeros(3, 8, 8), 7, b"x.png", None, {1: 2}.get,
        torch.zeros(2, 3, 0, 5), {"a.png": 1}, {"a.png"},
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(DataError, match="give paths, PIL images"):
        check_images(bad)


@pytest.mark.parametrize("bad", [torch.full((3, 4, 4), -1.0), torch.full((3, 4, 4), 1.5)])
def test_normalised_tensors_are_refused(bad):
    with pytest.raises(DataError, match="before any normalisation"):
        as_rgb(bad)


def test_a_single_bad_image_is_named(tmp_path):
    with pytest.raises(DataError, match="an image is 7"):
        as_rgb(7)
    with pytest.raises(DataError, match=r"none\.png"):
        as_rgb(tmp_path / "none.png")
    with pytest.raises(DataError, match="without a defined range"):
        as_rgb(Image.new("F", (4, 4)))


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".mpo"])
def test_photos_of_phones(suffix, tmp_path):
    assert suffix in suffixes()
    smooth = np.linspace(30, 220, 64, dtype=np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2)
    Image.fromarray(smooth).save(tmp_path / f"x{suffix}", quality=95)
    difference = np.asarray(as_rgb(tmp_path / f"x{suffix}"), int) - smooth
    assert difference.shape == (48, 64, 3) and abs(difference).max() <= 8


def test_what_cannot_be_read_without_a_package_is_counted_with_advice():
    assert summary(Counter({".heic": 2})).endswith("pillow-heif is installed: varprompt[heic])")
    assert "pillow-heif" not in summary(Counter({".txt": 2}))


def test_opened_files_that_decoders_stumble_over(tmp_path, monkeypatch):
    """They raise anything: SyntaxError of a broken PNG, EOFError, errors of struct."""
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")

    def stumble(self):
        raise SyntaxError("broken PNG file")

    with Image.open(tmp_path / "x.png") as opened:
        monkeypatch.setattr(type(opened), "load", stumble)
        with pytest.raises(DataError, match=r"cannot be read \(SyntaxError: broken PNG file\)"):
            as_rgb(opened)


def test_a_shape_that_cannot_be_transformed_is_named():
    with pytest.raises(DataError, match="image number 1: an image of 0 x 5 pixels cannot be"):
        tensors([Image.fromarray(PIXELS[0]), Image.new("RGB", (0, 5))])
