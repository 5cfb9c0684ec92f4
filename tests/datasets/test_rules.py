"""Splits that have to be drawn, and what must not depend on who drew them."""

import os
import random

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY
from hypothesis import given
from hypothesis import strategies as st

from datasets.rules import one_of, split_50_20_30, split_80_20, subsample_classes
from datasets.splits import Item, Split
from varprompt.errors import ConfigError, DataError

PARTS = ("train_x", "val", "test")


def lists(dataset):
    return [
        [(i.impath, i.label, i.classname) for i in getattr(dataset, part) or []] for part in PARTS
    ]


def items_of(sizes):
    return [Item(f"{c}/{i}", c, f"class {c}") for c, n in enumerate(sizes) for i in range(n)]


@given(st.lists(st.integers(4, 60), min_size=1, max_size=5))
def test_50_20_30_counts_per_class(sizes):
    items = items_of(sizes)
    split = split_50_20_30(items, "here")
    for label, n in enumerate(sizes):
        got = [sum(item.label == label for item in part) for part in split]
        assert got == [round(n * 0.5), round(n * 0.2), n - round(n * 0.5) - round(n * 0.2)]
    assert sorted(split.train + split.val + split.test) == sorted(items)


@given(st.lists(st.integers(3, 60), min_size=1, max_size=5))
def test_80_20_counts_per_class(sizes):
    items = items_of(sizes)
    test = [Item("t", 0, "class 0")]
    split = split_80_20(items, test, "here")
    for label, n in enumerate(sizes):
        assert sum(item.label == label for item in split.val) == round(n * 0.2)
    assert sorted(split.train + split.val) == sorted(items)
    assert split.test == test


def test_classes_that_are_too_small_are_reported_together():
    with pytest.raises(DataError, match=r"classes too small: 2\n.*class 0.*2.*\n.*class 2.*1"):
        split_50_20_30(items_of([2, 9, 1]), "here")
    with pytest.raises(DataError, match=r"classes too small: 1\n.*class 1.*2"):
        split_80_20(items_of([9, 2]), [], "here")


@given(st.integers(2, 40))
def test_halves_cover_the_classes_and_base_is_the_larger(n_classes):
    items = items_of([2] * n_classes)
    base, new = (
        subsample_classes(Split(items, [], items), subset).train for subset in ("base", "new")
    )
    names = [item.classname for item in base + new]
    assert names == [item.classname for item in items]
    for half, n in ((base, (n_classes + 1) // 2), (new, n_classes // 2)):
        assert sorted({item.label for item in half}) == list(range(n))


def test_half_without_classes_is_an_error():
    with pytest.raises(ConfigError, match="'new' selects none of 1 classes"):
        subsample_classes(Split(items_of([3]), [], []), "new")


def test_unknown_half_is_an_error(tmp_path, make_cfg):
    layouts.make("EuroSAT", tmp_path)
    with pytest.raises(ConfigError, match="SUBSAMPLE_CLASSES is 'old'; choose from all, base, new"):
        DATASET_REGISTRY.get("EuroSAT")(make_cfg(tmp_path, SUBSAMPLE_CLASSES="old"))
    with pytest.raises(ConfigError, match="DATASET.LISTING is 'random'"):
        one_of("random", ("sorted", "os"), "DATASET.LISTING")


@pytest.mark.parametrize("name", ["EuroSAT", "OxfordPets", "OxfordFlowers", "StanfordCars"])
def test_drawn_split_is_announced_stored_nowhere_and_always_the_same(
    name, tmp_path, make_cfg, capsys
):
    """Row C5."""
    top = layouts.make(name, tmp_path)
    before = sorted(top.rglob("*"))
    random.seed(7)
    state = random.getstate()
    first = lists(DATASET_REGISTRY.get(name)(make_cfg(tmp_path, seed=7)))
    assert random.getstate() == state
    text = capsys.readouterr().out
    assert f"split_zhou_{name}.json is missing" in text
    assert "NOT the official one" in text and "drive.google.com" in text
    assert sorted(top.rglob("*")) == before
    random.seed(8)
    assert lists(DATASET_REGISTRY.get(name)(make_cfg(tmp_path, seed=8))) == first


def test_drawn_split_and_the_same_split_in_a_file_give_one_few_shot_choice(tmp_path, make_cfg):
    top = layouts.make("DescribableTextures", tmp_path)
    kind = DATASET_REGISTRY.get("DescribableTextures")
    full = kind(make_cfg(tmp_path))
    random.seed(3)
    drawn = lists(kind(make_cfg(tmp_path, 3, NUM_SHOTS=2)))
    parts = {
        key: [[os.path.relpath(i.impath, full.image_dir), i.label, i.classname] for i in part]
        for key, part in (("train", full.train_x), ("val", full.val), ("test", full.test))
    }
    layouts.write_json(top / "split_zhou_DescribableTextures.json", parts)
    random.seed(3)
    assert lists(kind(make_cfg(tmp_path, 3, NUM_SHOTS=2))) == drawn


@pytest.mark.parametrize("name", ["EuroSAT", "ImageNet", "ImageNetA"])
def test_lists_do_not_depend_on_the_order_of_the_file_system(name, tmp_path, make_cfg, monkeypatch):
    layouts.make(name, tmp_path)
    kind = DATASET_REGISTRY.get(name)
    expected = lists(kind(make_cfg(tmp_path)))
    (tmp_path / "imagenet" / "listing.json").unlink(missing_ok=True)
    original = os.scandir

    class Reversed:
        def __init__(self, path):
            with original(path) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *exc):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert lists(kind(make_cfg(tmp_path))) == expected


def test_no_seed_never_shares_a_subset(tmp_path, make_cfg, capsys):
    """Row C4: without a seed, two runs differ, and a cache named seed_-1 is not read."""
    top = layouts.make("UCF101", tmp_path)
    layouts.write_split("UCF101", top)
    (top / "split_fewshot").mkdir()
    (top / "split_fewshot" / "shot_1-seed_-1.pkl").write_bytes(b"not even a pickle")
    kind = DATASET_REGISTRY.get("UCF101")
    random.seed(1)
    one, two = (lists(kind(make_cfg(tmp_path, -1, NUM_SHOTS=1)))[0] for _ in range(2))
    assert one != two
    assert "SEED is not set" in capsys.readouterr().out


def test_minus_one_shots_means_all_images(tmp_path, make_cfg):
    parts = layouts.write_split("Food101", layouts.make("Food101", tmp_path))
    dataset = DATASET_REGISTRY.get("Food101")(make_cfg(tmp_path, NUM_SHOTS=-1))
    assert [len(part) for part in lists(dataset)] == [len(rows) for rows in parts.values()]


def test_read_only_root_works(tmp_path, make_cfg, monkeypatch):
    """Row D8. Being root, a test cannot rely on permissions: writing fails by force."""
    for name in ("Caltech101", "ImageNet"):
        layouts.make(name, tmp_path)

    def refuse(*args, **kwargs):
        raise PermissionError(30, "Read-only file system")

    for function in ("mkdir", "makedirs", "replace", "open"):
        monkeypatch.setattr(os, function, refuse)
    before = sorted(tmp_path.rglob("*"))
    for name in ("Caltech101", "ImageNet"):
        assert DATASET_REGISTRY.get(name)(make_cfg(tmp_path, NUM_SHOTS=2)).train_x
    assert sorted(tmp_path.rglob("*")) == before
