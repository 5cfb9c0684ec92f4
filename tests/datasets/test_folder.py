"""A data set of one's own: folders or a split file, no code."""

import random
from pathlib import Path

import layouts
import pytest
import yaml
from dassl.data.datasets import DATASET_REGISTRY

from varprompt.errors import DataError

ROOT = Path(__file__).parents[2]
NAMES = ["Grand piano", "bass_guitar", "zz top", "ütüdür"]


@pytest.fixture
def top(tmp_path):
    top = tmp_path / "my images"
    for part, n in (("train", 5), ("val", 3), ("test", 2)):
        for name in NAMES:
            for i in range(n):
                layouts.touch(top / part / name / f"{i}.{('jpg', 'JPEG', 'png')[i % 3]}")
    layouts.lines(top / "train" / "zz top" / "notes.txt", ["not an image"])
    layouts.touch(top / "train" / ".hidden" / "0.jpg")
    layouts.touch(top / "train" / "zz top" / "._0.jpg")
    return top


def load(path, make_cfg, root="/", **keys):
    return DATASET_REGISTRY.get("Folder")(make_cfg(root, PATH=str(path), **keys))


def test_folders(top, make_cfg):
    dataset = load(top, make_cfg)
    assert dataset.classnames == NAMES
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [20, 12, 8]
    assert [Path(i.impath).relative_to(top).as_posix() for i in dataset.test[2:4]] == [
        "test/bass_guitar/0.jpg",
        "test/bass_guitar/1.JPEG",
    ]


def test_few_shots_and_halves(top, make_cfg):
    random.seed(1)
    dataset = load(top, make_cfg, NUM_SHOTS=2, SUBSAMPLE_CLASSES="new")
    assert dataset.classnames == NAMES[2:]
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [4, 4, 4]


def test_path_may_be_under_the_root(top, make_cfg):
    assert load("my images", make_cfg, top.parent).classnames == NAMES


def test_val_may_be_left_out(top, make_cfg):
    (top / "val").rename(top.parent / "elsewhere")
    assert not load(top, make_cfg, NUM_SHOTS=1).val


@pytest.mark.parametrize("part", ["train", "test"])
def test_train_and_test_may_not(part, top, make_cfg):
    (top / part).rename(top / f"{part}s")
    with pytest.raises(DataError, match=rf"/{part} does not exist; is .*/{part}s meant"):
        load(top, make_cfg)


def test_classes_must_be_the_same_in_train_and_test(top, make_cfg):
    (top / "test" / "bass_guitar").rename(top / "test" / "bass guitar")
    with pytest.raises(DataError) as caught:
        load(top, make_cfg)
    assert "classes without test images: 1\n    1 ('bass_guitar')" in str(caught.value)
    assert "classes without train images: 1\n    4 ('bass guitar')" in str(caught.value)


def test_split_file(top, make_cfg):
    rows = [[f"train/{name}/0.jpg", label, f"a {name}"] for label, name in enumerate(NAMES)]
    layouts.write_json(top / "mine.json", {"train": rows, "val": [], "test": rows})
    dataset = load(top / "mine.json", make_cfg)
    assert dataset.classnames == [f"a {name}" for name in NAMES]
    assert [item.impath for item in dataset.train_x] == [f"{top}/{row[0]}" for row in rows]


def test_missing_split_file(top, make_cfg):
    layouts.write_json(top / "splits.json", {})
    with pytest.raises(DataError, match=r"split\.json does not exist; is .*splits\.json meant"):
        load(top / "split.json", make_cfg)


def test_missing_folder(top, make_cfg):
    with pytest.raises(DataError, match=r"my_image does not exist; is .*my images meant"):
        load(top.parent / "my_image", make_cfg)


def test_class_folders_without_images_are_named(top, make_cfg):
    for part in ("train", "val", "test"):
        for name in ("Grand piano", "zz top"):
            for file in (top / part / name).glob("[0-9]*"):
                file.unlink()
    with pytest.raises(DataError) as caught:
        load(top, make_cfg)
    text = "class folders without images: 2\n    train/Grand piano\n    train/zz top"
    assert text in str(caught.value) and f"{top}: " in str(caught.value)


def origin(path, make_cfg, root):
    with pytest.raises(DataError) as caught:
        load(path, make_cfg, root)
    return str(caught.value).splitlines()[-1]


def test_the_error_says_what_the_path_counts_from(top, make_cfg, monkeypatch):
    monkeypatch.chdir(top.parent)
    (top.parent / "data").mkdir()
    told = "It comes from DATASET.PATH, now"
    assert origin(top / "none", make_cfg, "data") == f"{told} {top}/none"
    assert origin("none", make_cfg, "") == (
        f"{told} none, relative to the working directory {top.parent}"
    )
    under = f"relative to DATASET.ROOT (--root), now {top.parent}/data"
    assert origin("none", make_cfg, "data") == f"{told} none, {under}"
    assert origin("my images", make_cfg, "data") == (
        f"{told} my images, {under}; {top} exists: if it is meant, give it in full"
    )


@pytest.mark.parametrize("absent", [["val"], ["train", "test"]])
def test_split_file_without_a_list(absent, top, make_cfg):
    layouts.write_json(
        top / "mine.json", {p: [] for p in ("train", "val", "test") if p not in absent}
    )
    with pytest.raises(DataError) as caught:
        load(top / "mine.json", make_cfg)
    assert f"no list {', '.join(map(repr, absent))}; expected" in str(caught.value)


def test_config_file():
    text = (ROOT / "configs" / "datasets" / "custom.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"DATASET": {"NAME": "Folder"}}
    assert "DATASET.PATH" in text
