"""The embedded data sets: their layout, their determinism, and what an interruption leaves."""

import json
import os
import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from varprompt.embedded import make_dataset, sets
from varprompt.errors import DataError

RENDERED = ["Chalk", "Stretch", "Zoom", "Tint", "Squash", "Shear", "Coloured"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("Digits", "Chalk"):
        make_dataset(name, root / name.lower())
    return root


@pytest.fixture
def small(monkeypatch):
    """Two pictures of two classes: enough for everything around the rendering."""
    black = np.zeros((32, 32, 3), np.uint8)

    class Tiny:
        fails_after = None

        def __len__(self):
            return 2

        def pictures(self):
            yield sets.Picture("train", 0, "yin yang", black)
            if self.fails_after:
                raise self.fails_after
            yield sets.Picture("test", 1, "sun", black + 9)

    monkeypatch.setitem(sets.SETS, "Zoom", Tiny())
    return sets.SETS["Zoom"]


def load_split(folder, name):
    return json.loads((folder / f"split_zhou_{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "n_classes", "counts"),
    [
        ("Chalk", 40, {"train": [32], "val": [8], "test": [100]}),
        ("Digits", 10, {"train": range(87, 93), "val": range(35, 38), "test": range(52, 56)}),
    ],
)
def test_layout_is_that_of_the_protocol(root, name, n_classes, counts):
    folder = root / name.lower()
    split = load_split(folder, name)
    listed = [path for part in ("train", "val", "test") for path, _, _ in split[part]]
    on_disk = [p.relative_to(folder / "images").as_posix() for p in folder.rglob("*.png")]
    assert sorted(listed) == sorted(on_disk), "each image is in one part, once"
    names = {}
    for part, allowed in counts.items():
        per_label = Counter(label for _, label, _ in split[part])
        assert sorted(per_label) == list(range(n_classes))
        assert set(per_label.values()) <= set(allowed)
        for path, label, classname in split[part]:
            assert names.setdefault(label, classname) == classname
            assert path.startswith(classname.replace(" ", "_") + "/")
    assert len(set(names.values())) == n_classes
    with Image.open(folder / "images" / listed[0]) as image:
        assert image.size == (32, 32) and image.convert("RGB").getextrema() != ((0, 0),) * 3


def test_digits_are_all_of_scikit_learns_scans(root):
    split = load_split(root / "digits", "Digits")
    assert sum(map(len, split.values())) == 1797
    assert [name for _, name in sorted({(r[1], r[2]) for r in split["test"]})] == list(sets.DIGITS)


def test_the_second_use_makes_nothing(root):
    before = (root / "chalk").stat().st_mtime_ns
    make_dataset("Chalk", root / "chalk")
    assert (root / "chalk").stat().st_mtime_ns == before
    assert not list(root.glob(".*.partial"))


@pytest.mark.parametrize("name", RENDERED)
def test_rendering_is_deterministic_and_parts_are_independent(name):
    one, two = (list(sets.SETS[name].pictures(("val",))) for _ in range(2))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, two, strict=True))
    assert len(one) == 320 and len({p.pixels.tobytes() for p in one}) == 320
    first_of_test = next(sets.SETS[name].pictures(("test",)))
    assert first_of_test.classname == one[0].classname
    assert not np.array_equal(first_of_test.pixels, one[0].pixels)


@pytest.mark.parametrize("name", RENDERED)
def test_class_order_is_mixed(name):
    classes = [classname for classname, _, _ in sets.SETS[name].classes()]
    assert len(set(classes)) == 40 and classes != sorted(classes)
    if sets.SETS[name].coloured:
        for position in (0, 1):  # every colour, every shape in both halves, so new is no new world
            halves = [{c.split()[position] for c in half} for half in (classes[:20], classes[20:])]
            assert halves[0] == halves[1]


def test_no_training_picture_of_the_tiny_clip_is_drawn_again():
    seeds = [s.seed + offset for s in sets.SETS.values() for offset in range(3)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 1_000_000


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("power")])
def test_an_interruption_leaves_no_data_set(tmp_path, small, failure):
    small.fails_after = failure
    with pytest.raises(type(failure)):
        make_dataset("Zoom", tmp_path / "zoom")
    assert [p.name for p in tmp_path.iterdir()] in ([], [".Zoom.lock"])
    small.fails_after = None
    make_dataset("Zoom", tmp_path / "zoom")
    assert load_split(tmp_path / "zoom", "Zoom") == {
        "train": [["yin_yang/train_0000.png", 0, "yin yang"]],
        "val": [],
        "test": [["sun/test_0000.png", 1, "sun"]],
    }


def test_what_a_killed_run_left_is_cleared(tmp_path, small):
    (tmp_path / ".Zoom.partial" / "images" / "old").mkdir(parents=True)
    make_dataset("Zoom", tmp_path / "zoom")
    assert sorted(p.name for p in (tmp_path / "zoom" / "images").iterdir()) == ["sun", "yin_yang"]
    assert not (tmp_path / ".Zoom.partial").exists()


def test_two_at_once_make_it_once(tmp_path, small):
    made = []
    original = small.pictures
    small.pictures = lambda: made.append(1) or original()
    threads = [
        threading.Thread(target=make_dataset, args=("Zoom", tmp_path / "zoom")) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1] and (tmp_path / "zoom" / "split_zhou_Zoom.json").is_file()


def test_a_missing_root_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"does not exist; create .*mkdir -p .*nowhere"):
        make_dataset("Zoom", tmp_path / "nowhere" / "zoom")


def test_a_read_only_root_is_explained(tmp_path, monkeypatch):
    # the tests may run as root, whom permissions do not stop: ask os.access as another would see
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DataError, match="is read-only; create a writable folder"):
        make_dataset("Zoom", tmp_path / "zoom")


def test_a_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "zoom").mkdir()
    (tmp_path / "zoom" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="no split_zhou_Zoom.json"):
        make_dataset("Zoom", tmp_path / "zoom")
    assert (tmp_path / "zoom" / "holiday.jpg").read_bytes() == b"mine"
