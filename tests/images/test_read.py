"""Images as CoOp sees them, and images that no one should have to see."""

import io
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from PIL import Image

from varprompt.errors import DataError
from varprompt.images.read import ImageItems, read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
IMAGE = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *((mode, "png") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *((mode, "jpg") for mode in ("RGB", "L", "1", "CMYK", "YCbCr")),
        # without YCbCr: Pillow 12.3 cannot read the TIFF of it that it has written
        *((mode, "tif") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "LAB")),
        *((mode, "gif") for mode in ("RGB", "RGBA", "L", "P", "1")),
        *((mode, "webp") for mode in ("RGB", "RGBA", "L")),
    ],
)
def test_modes_are_converted_as_pillow_does(mode, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    image = Image.new("LAB", (5, 7), (100, 3, 250)) if mode == "LAB" else IMAGE.convert(mode)
    image.save(path)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB"))
    read = read_rgb(str(path))
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Dassl 0.6.3 leaves the files open
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_items_are_those_of_dassl(mode, tmp_path):
    """With Dassl's own reader: the same tensor, label, domain, path and index."""
    cfg, path = get_cfg_default(), str(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (5, 4), ("normalize",)
    IMAGE.convert(mode).save(path)
    arguments = cfg, [Datum(path, 3, 1, "x")] * 2, build_transform(cfg, is_train=False)
    ours, theirs = ImageItems(*arguments), DatasetWrapper(*arguments)
    assert len(ours) == len(theirs) == 2
    ours, theirs = ours[1], theirs[1]
    assert torch.equal(ours.pop("img"), theirs.pop("img")) and ours == theirs


def test_rotation_in_exif_is_not_applied(tmp_path):
    exif = IMAGE.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    IMAGE.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_rgb(str(tmp_path / "a.png"))), PIXELS)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animations_give_their_first_frame(suffix, tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    red, _, blue = read_rgb(str(path)).getpixel((3, 2))
    assert red > 200 and blue < 50


def test_transparent_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([40, 128]))
    read = read_rgb(str(tmp_path / "a.png"))
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_not_clipped_to_white(suffix, tmp_path):
    values = np.array([[0, 255, 256, 0x1234, 0xFFFF]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    read = np.asarray(read_rgb(str(tmp_path / f"a.{suffix}")))
    assert (read == (values >> 8)[..., None]).all()


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_rgb(str(tmp_path / "a.png")).getpixel((0, 0)) == (1, 2, 3)


def test_large_images_under_pillows_limit_are_read(tmp_path):
    """As telephones make them; Pillow warns from 89 million pixels on: here that is an error."""
    Image.new("1", (12000, 9000)).save(tmp_path / "a.png")
    assert read_rgb(str(tmp_path / "a.png")).size == (12000, 9000)


def bomb():
    """20,000 x 20,000 pixels in a PNG of 220 KB."""
    rows = zlib.compress(b"\0" * (2501 * 20_000), 1)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = b""
    for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        crc = zlib.crc32(kind + content)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return b"\x89PNG\r\n\x1a\n" + chunks


def encoded(suffix, **keys):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS.repeat(9, 0).repeat(9, 1)).save(buffer, suffix, **keys)
    return buffer.getvalue()


def floats():
    buffer = io.BytesIO()
    Image.fromarray(np.ones((3, 3), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


BROKEN = {
    "empty": b"",
    "text": b"<html>404 not found</html>",
    "zeros": bytes(5000),
    "jpeg header only": encoded("JPEG")[:3],
    "truncated jpeg": encoded("JPEG")[:-300],
    "truncated png": encoded("PNG")[:-300],
    "truncated gif": encoded("GIF")[:300],
    "truncated webp": encoded("WEBP", lossless=True)[:-300],
    "damaged png": encoded("PNG").replace(b"IDAT", b"JDAT"),
    "damaged zlib": encoded("PNG")[:60] + b"\xff" * 400,
    "bomb": bomb(),
    "floats": floats(),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_images_are_refused_by_name(content, tmp_path):
    path = tmp_path / "broken image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken image\.jpg: not a readable image \(\w.+"):
        read_rgb(str(path))


@pytest.mark.parametrize("make", ["nothing", "folder"])
def test_no_file(make, tmp_path):
    if make == "folder":
        (tmp_path / "a.jpg").mkdir()
    with pytest.raises(DataError, match=r"a\.jpg: not a readable image"):
        read_rgb(str(tmp_path / "a.jpg"))


def test_a_full_memory_is_no_fault_of_an_image(tmp_path, monkeypatch):
    """Nor is Ctrl-C: whoever reads on after either would name image after image."""
    path = tmp_path / "good.png"
    path.write_bytes(encoded("PNG"))
    item = SimpleNamespace(impath=str(path), label=0, domain=0)

    def raises(error):
        def transform(image):
            raise error

        return transform

    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    for error, kind in ((MemoryError(), MemoryError), (full, MemoryError)):
        with pytest.raises(kind, match="out of memory while transforming .*good.png"):
            ImageItems(None, [item], raises(error))[0]
    for error in (MemoryError(), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            patch.setattr("PIL.Image.Image.convert", lambda *_, e=error: raises(e)(None))
            with pytest.raises(type(error)):
                read_rgb(str(path))
        with monkeypatch.context() as patch:
            patch.setattr("PIL.Image.Image.getexif", lambda *_, e=error: raises(e)(None))
            with pytest.raises(type(error)):
                read_rgb(str(path), upright=True)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "it is empty"), (b"no", "damaged, or no format")]
)
def test_what_is_no_image_is_said_in_words(content, said, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a.jpg: not a readable image \({said}"):
        read_rgb(str(path))
