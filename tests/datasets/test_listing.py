"""ImageNet's listings: in which order, and remembered for how long."""

import json
import os
import shutil

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY

from datasets.listing import ListingCache
from varprompt.errors import DataError


def load(root, make_cfg, **keys):
    return DATASET_REGISTRY.get("ImageNet")(make_cfg(root, **keys))


def names(dataset, synset):
    paths = [item.impath for item in dataset.train_x]
    return [os.path.basename(path) for path in paths if f"/{synset}/" in path]


@pytest.mark.parametrize("remembered", [False, True])
def test_order(remembered, tmp_path, make_cfg):
    """Row C6: sorted by default; "os" is what CoOp takes."""
    top = layouts.make("ImageNet", tmp_path)
    if remembered:
        load(tmp_path, make_cfg)
        assert (top / "listing.json").is_file()
    for synset in layouts.SYNSETS:
        listed = os.listdir(top / "images" / "train" / synset)
        assert names(load(tmp_path, make_cfg), synset) == sorted(listed)
        assert names(load(tmp_path, make_cfg, LISTING="os"), synset) == listed


def test_folders_are_listed_once(tmp_path):
    layouts.touch(tmp_path / "a" / "1.jpg")
    listed = []

    def scan(folder):
        listed.append(folder)
        return os.listdir(folder)

    for _ in range(2):
        cache = ListingCache(str(tmp_path / "listing.json"), str(tmp_path))
        for _ in range(2):
            assert cache.names(str(tmp_path / "a"), scan) == ["1.jpg"]
        cache.save()
    assert listed == [str(tmp_path / "a")]


def test_changed_folders_are_listed_again(tmp_path, make_cfg):
    top = layouts.make("ImageNet", tmp_path)
    before = len(load(tmp_path, make_cfg).train_x)
    layouts.touch(top / "images" / "train" / "n01740131" / "new.JPEG")
    (top / "images" / "train" / "n01440764" / "n01440764_0.JPEG").unlink()
    after = load(tmp_path, make_cfg)
    assert len(after.train_x) == before
    assert "new.JPEG" in names(after, "n01740131")
    assert "n01440764_0.JPEG" not in names(after, "n01440764")


def test_moved_data_keep_their_listing(tmp_path, make_cfg, monkeypatch):
    layouts.make("ImageNet", tmp_path / "old")
    before = load(tmp_path / "old", make_cfg)
    shutil.move(tmp_path / "old", tmp_path / "new")
    written = (tmp_path / "new" / "imagenet" / "listing.json").stat().st_mtime_ns
    after = load(tmp_path / "new", make_cfg)
    assert names(after, "n15075141") == names(before, "n15075141")
    assert (tmp_path / "new" / "imagenet" / "listing.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"images/train/n01440764": 3}', b'{"x": [1, [2]]}', b"\xff\xfe",
     b'{"x": [1]}', b"[" * 100_000],
)  # fmt: skip
def test_damaged_listing_is_replaced(content, tmp_path, make_cfg):
    top = layouts.make("ImageNet", tmp_path)
    expected = [item.impath for item in load(tmp_path, make_cfg).train_x]
    (top / "listing.json").write_bytes(content)
    assert [item.impath for item in load(tmp_path, make_cfg).train_x] == expected
    assert len(json.loads((top / "listing.json").read_bytes())) == 8


def test_listing_is_not_written_halfway(tmp_path, make_cfg, monkeypatch):
    top = layouts.make("ImageNet", tmp_path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert load(tmp_path, make_cfg).train_x
    assert sorted(os.listdir(top)) == ["classnames.txt", "images"]


def test_listing_cannot_name_files_outside(tmp_path, make_cfg):
    top = layouts.make("ImageNet", tmp_path)
    load(tmp_path, make_cfg)
    known = json.loads((top / "listing.json").read_text())
    known["images/train/n01440764"][1].append("../../../../secret.jpg")
    (top / "listing.json").write_text(json.dumps(known))
    with pytest.raises(DataError, match="paths that leave the data folder: 1"):
        load(tmp_path, make_cfg)
