"""CoOp's pickles: read where they help, refused where they could harm."""

import io
import pickle
import pickletools
import random
import shutil
from pathlib import Path

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY, Datum
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasets.caches import read_coop_pickle
from varprompt.errors import DataError

ANCHOR = "oxford_pets/images"


def record(path, label=0, name="pug"):
    datum = Datum.__new__(Datum)
    datum.__dict__.update(_impath=path, _label=label, _domain=0, _classname=name)
    return datum


def rows(items):
    return [(item.impath, item.label, item.classname) for item in items]


@pytest.fixture
def pets(tmp_path):
    top = layouts.make("OxfordPets", tmp_path)
    return top, layouts.write_split("OxfordPets", top)


def last_two(rows):
    """Two images of each class, but not those that would be drawn."""
    return [row for i, row in enumerate(rows) if sum(r[1] == row[1] for r in rows[i:]) <= 2]


def chosen(parts):
    return {part: last_two(rows) for part, rows in parts.items()}


def store(top, parts, prefix=None, name="shot_2-seed_1.pkl", protocol=5):
    """Write a few-shot cache as CoOp does."""
    prefix = prefix or top / "images"
    content = {
        part: [record(f"{prefix}/{path}", label, text) for path, label, text in parts[part]]
        for part in ("train", "val")
    }
    (top / "split_fewshot").mkdir(exist_ok=True)
    path = top / "split_fewshot" / name
    path.write_bytes(pickle.dumps(content, protocol))
    return path, content


def load(top, make_cfg, **keys):
    return DATASET_REGISTRY.get("OxfordPets")(make_cfg(top.parent, NUM_SHOTS=2, **keys))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_cache_wins_over_a_new_choice(protocol, pets, make_cfg, capsys):
    top, parts = pets
    path, content = store(top, chosen(parts), protocol=protocol)
    assert b"dassl.data.datasets.base_dataset" in path.read_bytes()
    random.seed(1)
    dataset = load(top, make_cfg)
    assert rows(dataset.train_x) == rows(content["train"])
    assert rows(dataset.val) == rows(content["val"])
    assert len(dataset.test) == len(parts["test"])
    assert f"Loading preprocessed few-shot data from {path}" in capsys.readouterr().out


def test_cache_of_another_machine_is_rooted_here(pets, make_cfg):
    top, parts = pets
    store(top, chosen(parts), "/home/somebody/oxford_pets/images/data/oxford_pets/images")
    found = rows(load(top, make_cfg).train_x)
    assert found == [
        (f"{top}/images/{path}", label, n) for path, label, n in last_two(parts["train"])
    ]


def test_cache_is_of_one_seed_and_one_number_of_shots(pets, make_cfg):
    top, parts = pets
    store(top, chosen(parts), name="shot_1-seed_1.pkl")
    store(top, chosen(parts), name="shot_2-seed_2.pkl")
    assert len(load(top, make_cfg).train_x) == 2 * 5


def test_halves_are_taken_from_the_cached_choice(pets, make_cfg):
    top, parts = pets
    store(top, chosen(parts))
    base = load(top, make_cfg, SUBSAMPLE_CLASSES="base").train_x
    assert rows(base) == [
        (f"{top}/images/{path}", label, n)
        for path, label, n in last_two(parts["train"])
        if label < 3
    ]


@pytest.mark.parametrize("damage", ["foreign", "label", "name", "test"])
def test_cache_of_another_split_is_refused(damage, pets, make_cfg):
    """Row C4: a cache must not survive a changed split."""
    top, parts = pets
    path, label, name = parts["train"][0]
    wrong = {
        "foreign": ["pug_999.jpg", label, name],
        "label": [path, label + 1, name],
        "name": [path, label, "beagle"],
        "test": parts["test"][0],
    }[damage]
    content = chosen(parts)
    content["train"].append(wrong)
    store(top, content)
    expected = r"shot_2-seed_1.pkl: not chosen from .*\n *train images that are not in the split: 1"
    with pytest.raises(DataError, match=expected):
        load(top, make_cfg)


def test_cache_that_lacks_images_of_a_class_is_refused(pets, make_cfg):
    top, parts = pets
    content = chosen(parts)
    content["train"] = [row for row in content["train"] if row[1] != 3]
    content["val"].append(content["val"][0])
    store(top, content)
    expected = r"not chosen from .*\n *classes with another number of train images: 1\n *3: 0 inst"
    with pytest.raises(DataError, match=expected):
        load(top, make_cfg)


@pytest.mark.parametrize(
    "where", ["/elsewhere/pets/a.jpg", f"/x/{ANCHOR}/../../secret", f"/x/{ANCHOR}//etc/passwd", ""]
)
def test_paths_outside_the_image_folder_are_refused(where, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"train": [record(where), record(f"/x/{ANCHOR}/good.jpg")]}))
    with pytest.raises(DataError, match=f"not under {ANCHOR}: 1"):
        read_coop_pickle(str(path), ANCHOR)


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Call(eval, "1/0"), r"builtins\.eval"),
        (Call(open, "made", "w"), r"(io|_io)\.open"),
        (Call(__import__("os").system, "touch made"), r"(posix|nt)\.system"),
        (Call(shutil.rmtree, "precious"), r"shutil\.rmtree"),
        ({"train": [Call(getattr, 1, "real")]}, r"builtins\.getattr"),
        ({"train": [Path("x")]}, r"pathlib(\._local)?\.PosixPath"),
        (random.Random, r"random\.Random"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_files_that_want_to_run_code_are_refused_by_name(
    content, name, protocol, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    expected = rf"evil\.pkl: refused, because it wants to load (__builtin__|{name})"
    with pytest.raises(DataError, match=expected):
        read_coop_pickle(str(path), ANCHOR)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pkl", "precious"]


def test_a_nested_name_of_datum_is_refused(tmp_path):
    """STACK_GLOBAL may ask for "Datum.__init__.__globals__"."""
    path = tmp_path / "evil.pkl"
    name = b"Datum.__init__"
    module = b"dassl.data.datasets.base_dataset"
    path.write_bytes(
        b"\x80\x04\x8c" + bytes([len(module)]) + module
        + b"\x8c" + bytes([len(name)]) + name + b"\x93."
    )  # fmt: skip
    pickletools.dis(path.read_bytes(), io.StringIO())
    with pytest.raises(DataError, match=r"wants to load .*Datum\.__init__"):
        read_coop_pickle(str(path), ANCHOR)


def test_one_file_cannot_change_how_the_next_is_read(tmp_path):
    """BUILD may set attributes of the class itself; the class must not outlive the file."""
    evil, good = tmp_path / "evil.pkl", tmp_path / "good.pkl"
    evil.write_bytes(b"cdassl.data.datasets.base_dataset\nDatum\n(N}S'_impath'\nS'x'\nstb.")
    with pytest.raises(DataError):
        read_coop_pickle(str(evil), ANCHOR)
    good.write_bytes(pickle.dumps({"train": [record(f"/x/{ANCHOR}/a.jpg", 3, "pug")]}))
    assert read_coop_pickle(str(good), ANCHOR) == {"train": [("a.jpg", 3, "pug")]}


@pytest.mark.parametrize(
    "content",
    [None, [], {"train": 3}, {"train": ["a.jpg"]}, {"train": [{"_impath": "a"}]},
     {"train": [record(3)], "val": []}, {"train": [record(f"/x/{ANCHOR}/a", "0")]},
     {"train": [record(f"/x/{ANCHOR}/a", 0, None)]}],
)  # fmt: skip
def test_other_contents_are_refused(content, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"a\.pkl"):
        read_coop_pickle(str(path), ANCHOR)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x80\x05")
def test_any_bytes_are_refused_with_one_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "a.pkl"
    path.write_bytes(data)
    try:
        assert read_coop_pickle(str(path), ANCHOR) == {}
    except DataError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_caches_are_read_or_refused(tmp_path_factory, data):
    """A true cache with one byte changed or its end cut."""
    path = tmp_path_factory.mktemp("fuzz") / "a.pkl"
    good = pickle.dumps({"train": [record(f"/x/{ANCHOR}/{i}.jpg", i) for i in range(3)]})
    position = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(-1, 255))
    path.write_bytes(good[:position] + (bytes([byte]) + good[position + 1 :] if byte >= 0 else b""))
    try:
        read_coop_pickle(str(path), ANCHOR)
    except DataError:
        pass


def test_imagenet_lists_of_coop_decide(tmp_path, make_cfg):
    top = layouts.make("ImageNet", tmp_path)
    kind = DATASET_REGISTRY.get("ImageNet")
    plain = kind(make_cfg(tmp_path))
    train, test = rows(plain.train_x), rows(plain.test)
    random.Random(4).shuffle(train)
    shuffled = [(path.replace(str(tmp_path), "/other"), *rest) for path, *rest in train]
    content = {
        "train": [record(*row) for row in shuffled],
        "test": [record(*row) for row in test],
    }
    (top / "preprocessed.pkl").write_bytes(pickle.dumps(content, 4))
    assert rows(kind(make_cfg(tmp_path)).train_x) == train
    (top / "split_fewshot").mkdir()
    content = {"train": [record(*row) for row in last_two(train)]}
    (top / "split_fewshot" / "shot_2-seed_1.pkl").write_bytes(pickle.dumps(content))
    few = kind(make_cfg(tmp_path, NUM_SHOTS=2))
    assert rows(few.train_x) == last_two(train)
    assert rows(few.val) == rows(few.test) == test


def test_imagenet_lists_that_name_missing_files_are_reported(tmp_path, make_cfg):
    top = layouts.make("ImageNet", tmp_path)
    kind = DATASET_REGISTRY.get("ImageNet")
    plain = kind(make_cfg(tmp_path))
    content = {"train": plain.train_x, "test": plain.test}
    (top / "preprocessed.pkl").write_bytes(pickle.dumps(content, 4))
    shutil.rmtree(top / "images" / "val" / "n01740131")
    with pytest.raises(DataError, match=r"test images that do not exist: 3\n *'val/n01740131/"):
        kind(make_cfg(tmp_path))
