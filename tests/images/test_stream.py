"""Images batch by batch: the same as one by one; what cannot be read is named."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from varprompt.errors import DataError
from varprompt.images.read import read_rgb
from varprompt.images.stream import stream_images


def transform(image):
    """Upper left corner (3, 4, 4)."""
    pixels = np.asarray(image)[:4, :4]
    if pixels.shape != (4, 4, 3):
        raise ValueError("too small")
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@pytest.fixture
def paths(tmp_path):
    noise = np.random.default_rng(0)
    for i in range(7):
        pixels = noise.integers(0, 256, (6, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (2, 50)).save(tmp_path / "narrow.png")
    names = ["0", "gone", "1", "broken", "turned", "2", "narrow", "3", "4", "5", "6"]
    return [str(tmp_path / f"{name}.png") for name in names]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_all_that_can_be_read_in_order(paths, n_workers):
    before = torch.get_rng_state()
    batches = list(stream_images(iter(paths), transform, 4, n_workers, thumbnail=5))
    assert torch.equal(before, torch.get_rng_state())
    assert [len(batch.paths) for batch in batches] == [2, 3, 3]
    good = [path for batch in batches for path in batch.paths]
    assert good == [p for p in paths if not p.endswith(("gone.png", "broken.png", "narrow.png"))]
    images = torch.cat([batch.images for batch in batches])
    assert torch.equal(images, torch.stack([transform(read_rgb(p, upright=True)) for p in good]))
    said = [problem for batch in batches for problem in batch.unreadable]
    assert [p.partition(": ")[0] for p in said] == [paths[1], paths[3], paths[6]]
    assert said[2].endswith("ValueError: too small")
    sizes = [Image.open(io.BytesIO(t)).size for batch in batches for t in batch.thumbnails]
    assert sizes == [(5, 3), (5, 3), (3, 5), (5, 3), (5, 3), (5, 3), (5, 3), (5, 3)]


def test_nothing_that_can_be_read(paths):
    (batch,) = stream_images([paths[1]], transform, 4)
    assert (batch.paths, batch.images.numel(), len(batch.unreadable)) == ([], 0, 1)
    assert list(stream_images([], transform, 4)) == []


def test_a_list_without_an_end_is_read_only_as_far_as_needed(paths):
    taken = []

    def endless():
        for path in itertools.cycle(paths[:1]):
            taken.append(path)
            yield path

    first = next(iter(stream_images(endless(), transform, 3)))
    assert len(first.paths) == 3 and len(taken) <= 6


def test_a_full_memory_is_no_unreadable_image(paths):
    def greedy(image):
        raise MemoryError

    with pytest.raises(MemoryError):
        list(stream_images(paths[:1], greedy, 1))
    with pytest.raises(DataError):  # the reader's own error, which the stream turns into a line
        read_rgb(paths[1])


def test_there_are_no_more_workers_than_processors(paths, monkeypatch):
    """torch would warn of it in two lines of its own."""
    monkeypatch.setattr("varprompt.images.workers.n_cpus", lambda: 1)
    wanted = [batch.paths for batch in stream_images(paths, transform, 4)]
    assert [batch.paths for batch in stream_images(paths, transform, 4, n_workers=999)] == wanted
