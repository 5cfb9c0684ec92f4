"""Whatever is wrong with the files is said at once, before training, by name and number."""

import json
import os
import shutil

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.splits import Item, Split, check_split, read_split
from varprompt.errors import ConfigError, DataError


@pytest.fixture
def dtd(tmp_path):
    top = layouts.make("DescribableTextures", tmp_path)
    return top, layouts.write_split("DescribableTextures", top)


def save(top, parts):
    layouts.write_json(top / "split_zhou_DescribableTextures.json", parts)


def report(make_cfg, root, name="DescribableTextures", **keys):
    with pytest.raises(DataError) as caught:
        DATASET_REGISTRY.get(name)(make_cfg(root, **keys))
    return str(caught.value)


def test_missing_images_are_counted_and_ten_are_named(dtd, make_cfg):
    """Row D3: not a bare AssertionError at the first one."""
    top, parts = dtd
    for path, _, _ in parts["test"][:13]:
        (top / "images" / path).unlink()
    shutil.rmtree(top / "images" / "zigzagged")
    text = report(make_cfg, top.parent)
    gone = {"train": 0, "val": 0, "test": 0}
    for part, rows in parts.items():
        gone[part] = sum(not (top / "images" / row[0]).exists() for row in rows)
    for part, n in gone.items():
        assert f"{part} images that do not exist: {n}\n" in text
    assert f"... and {gone['test'] - 10} more" in text
    first = next(row[0] for row in parts["test"] if not (top / "images" / row[0]).exists())
    assert f"{first!r}\n" in text
    assert "split_zhou_DescribableTextures.json" in text


def test_a_folder_in_place_of_an_image_is_a_missing_image(dtd, make_cfg):
    top, parts = dtd
    path = top / "images" / parts["val"][0][0]
    path.unlink()
    path.mkdir()
    assert "val images that do not exist: 1\n" in report(make_cfg, top.parent)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../images/../../x.jpg",
        "banded/../../x.jpg",
        "..",
        "a\0b.jpg",
        "\\x.jpg",
    ],
)
def test_paths_cannot_leave_the_data_folder(path, dtd, make_cfg):
    top, parts = dtd
    parts["train"].append([path, 0, "banded"])
    save(top, parts)
    text = report(make_cfg, top.parent)
    assert f"train paths that leave the data folder: 1\n    {path!r}" in text


def test_different_problems_are_reported_together(dtd, make_cfg):
    top, parts = dtd
    parts["train"] += [
        ["../x.jpg", 0, "banded"],
        [parts["train"][0][0], 6, "gapped"],
        [parts["train"][0][0], 1, "honeycomb"],
        ["banded/none.jpg", 0, "banded"],
    ]
    parts["test"] = [row for row in parts["test"] if row[1] != 2]
    save(top, parts)
    text = report(make_cfg, top.parent)
    for line in (
        "train paths that leave the data folder: 1",
        "labels with more than one class name: 1\n    1: 'honeycomb', 'honeycombed'",
        "classes without test images: 2\n    2 ('polka-dotted')\n    6 ('gapped')",
        "gaps in the labels (must be 0, 1, 2, ...): 1\n    4 to 5",
        "train images that do not exist: 1\n    'banded/none.jpg'",
    ):
        assert line in text


def test_class_without_training_images(dtd, make_cfg):
    top, parts = dtd
    parts["train"] = [row for row in parts["train"] if row[1] != 1]
    save(top, parts)
    assert "classes without train images: 1\n    1 ('honeycombed')" in report(make_cfg, top.parent)


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_lists(part, dtd, make_cfg):
    top, parts = dtd
    save(top, {**parts, part: []})
    assert f"no images: 1\n    {part}" in report(make_cfg, top.parent)


def test_empty_val_is_no_problem(dtd, make_cfg):
    top, parts = dtd
    save(top, {**parts, "val": []})
    cfg = make_cfg(top.parent, NUM_SHOTS=1)
    assert not DATASET_REGISTRY.get("DescribableTextures")(cfg).val


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", '{"train": []}', '{"train": 1, "val": [], "test": []}',
                "[" * 100_000, "\udcff\udcfe"],
)  # fmt: skip
def test_files_that_are_no_split(content, dtd, make_cfg):
    top, _ = dtd
    path = top / "split_zhou_DescribableTextures.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert str(path) in report(make_cfg, top.parent)


@pytest.mark.parametrize(
    "entry",
    [["a.jpg", 0], ["a.jpg", 0, "x", 1], "a.jpg", None, {}, [3, 0, "x"], ["a.jpg", "one", "x"],
     ["a.jpg", 1.5, "x"], ["a.jpg", -1, "x"], ["a.jpg", None, "x"], ["a.jpg", 0, ""],
     ["", 0, "x"], ["a.jpg", 0, ["x"]], ["a.jpg", 0, 7], ["a.jpg", float("inf"), "x"]],
)  # fmt: skip
def test_entries_of_another_form_are_named(entry, dtd, make_cfg):
    top, parts = dtd
    parts["val"].insert(2, entry)
    parts["test"].insert(0, entry)
    save(top, parts)
    text = report(make_cfg, top.parent)
    assert "val: 1\n    entry 2: " in text
    assert "test: 1\n    entry 0: " in text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
entries = st.lists(
    st.tuples(st.text(max_size=8), st.integers(-1, 4), st.sampled_from("ab")) | json_values
)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"train": entries, "val": entries, "test": entries}) | json_values)
def test_any_json_is_a_checked_split_or_one_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "split.json"
    path.write_text(json.dumps(content))
    try:
        split = read_split(str(path))
        check_split(split, "here", lambda name: os.listdir(folder / name))
    except DataError as error:
        str(error).encode("utf-8")
    except FileNotFoundError:
        pass
    else:
        labels = {item.label for item in split.train}
        assert labels == set(range(len(labels))) == {item.label for item in split.test}


def test_huge_labels_do_not_exhaust_the_memory():
    items = [Item("a", 0, "x"), Item("a", 10**15, "y")]
    with pytest.raises(DataError, match=r"gaps in the labels .*: 1\n    1 to 999999999999999"):
        check_split(Split(items, [], items), "here", lambda _: ["a"])


def test_missing_data_folder_shows_the_layout_and_what_looks_like_it(tmp_path, make_cfg):
    (tmp_path / "Oxford-Pets").mkdir()
    text = report(make_cfg, tmp_path, "OxfordPets")
    assert f"OxfordPets: {tmp_path}/oxford_pets" in text
    assert f"is {tmp_path}/Oxford-Pets meant?" in text
    for part in ("DATASETS.md", "images/", "annotations/", "split_zhou_OxfordPets.json", "--root",
                 "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz"):  # fmt: skip
        assert part in text
    marked = [line for line in text.splitlines() if "(only needed without the split file)" in line]
    assert [line.split()[0] for line in marked] == ["annotations/"]


def test_missing_root(tmp_path, make_cfg):
    text = report(make_cfg, tmp_path / "nowhere", "EuroSAT")
    assert "eurosat" in text and f"now {tmp_path}/nowhere" in text


def test_missing_image_folder(tmp_path, make_cfg):
    top = layouts.make("Food101", tmp_path)
    (top / "images").rename(top / "image")
    assert f"{top}/images does not exist; is {top}/image meant?" in report(
        make_cfg, tmp_path, "Food101"
    )


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("OxfordPets", "annotations/trainval.txt"),
        ("StanfordCars", "devkit/cars_train_annos.mat"),
        ("StanfordCars", "devkit/cars_meta.mat"),
        ("OxfordFlowers", "imagelabels.mat"),
        ("OxfordFlowers", "cat_to_name.json"),
        ("FGVCAircraft", "variants.txt"),
        ("FGVCAircraft", "images_variant_val.txt"),
        ("SUN397", "ClassName.txt"),
        ("SUN397", "Testing_01.txt"),
        ("UCF101", "ucfTrainTestlist/classInd.txt"),
        ("ImageNet", "classnames.txt"),
        ("ImageNet", "images/val"),
        ("ImageNetA", "classnames.txt"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_missing_or_damaged_annotations_are_named(name, needed, damage, tmp_path, make_cfg):
    top = layouts.make(name, tmp_path)
    path = top / needed
    if damage == "missing" or path.is_dir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_bytes(b"x\xff" * 300)
    text = report(make_cfg, tmp_path, name)
    assert str(path) in text


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("OxfordPets", "annotations/test.txt", "pug_1 five 1 1"),
        ("OxfordPets", "annotations/test.txt", "pug_1"),
        ("FGVCAircraft", "images_variant_test.txt", "1025800 Concorde"),
        ("SUN397", "Training_01.txt", "/q/quarry/sun_1.jpg"),
        ("UCF101", "ucfTrainTestlist/testlist01.txt", "Knitting/v_Knitting_g01_c01.avi"),
        ("UCF101", "ucfTrainTestlist/classInd.txt", "Knitting"),
        ("ImageNet", "classnames.txt", "n99999999"),
    ],
)
def test_bad_lines_are_numbered(name, file, line, tmp_path, make_cfg):
    top = layouts.make(name, tmp_path)
    path = top / file
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], line, "", *rows[2:], line]))
    text = report(make_cfg, tmp_path, name)
    assert f"{path}\n  lines of another form: 2\n    line 3: {line!r}\n" in text


@pytest.mark.parametrize(("name", "folder"), [
    ("ImageNet", "images/train/n01740131"), ("ImageNet", "images/val/n01740131"),
    ("ImageNetSketch", "images/n01740131"),
    ("ImageNetV2", "imagenetv2-matched-frequency-format-val/2"),
])  # fmt: skip
def test_missing_class_folder_does_not_shift_the_labels(name, folder, tmp_path, make_cfg):
    top = layouts.make(name, tmp_path)
    shutil.rmtree(top / folder)
    text = report(make_cfg, tmp_path, name)
    assert f"class folders that are missing: 1\n    {os.path.basename(folder)}" in text
    assert "shorten classnames.txt" in text


@pytest.mark.parametrize("name", ["ImageNet", "ImageNetSketch"])
def test_empty_class_folder_is_a_missing_class(name, tmp_path, make_cfg):
    top = layouts.make(name, tmp_path)
    folder = top / "images" / ("train" if name == "ImageNet" else "") / "n01740131"
    for file in folder.iterdir():
        file.unlink()
    text = report(make_cfg, tmp_path, name)
    assert ("classes without train images: 1\n    2 ('night snake')" in text) or (
        "gaps in the labels (must be 0, 1, 2, ...): 1\n    2" in text
    )


def test_class_folder_without_a_name(tmp_path, make_cfg):
    top = layouts.make("ImageNetR", tmp_path)
    (top / "imagenet-r" / "n00000001").mkdir()
    text = report(make_cfg, tmp_path, "ImageNetR")
    assert "folders that classnames.txt does not name: 1\n    n00000001" in text


def test_imagenetv2_needs_sorted_classnames(tmp_path, make_cfg):
    top = layouts.make("ImageNetV2", tmp_path)
    rows = (top / "classnames.txt").read_text().splitlines()
    (top / "classnames.txt").write_text("\n".join(rows[::-1]))
    assert "must be sorted" in report(make_cfg, tmp_path, "ImageNetV2")


def test_annotated_label_zero_is_not_the_last_class(tmp_path, make_cfg):
    """Labels count from 1 in the files; 0 must not become the last name."""
    from scipy.io import savemat

    top = layouts.make("OxfordFlowers", tmp_path)
    labels = [0] * 5 + [1] * 5 + [2] * (len(list((top / "jpg").iterdir())) - 10)
    savemat(top / "imagelabels.mat", {"labels": [labels]})
    assert "no name for a label" in report(make_cfg, tmp_path, "OxfordFlowers")


def test_checking_needs_no_stat_per_image(dtd, make_cfg, monkeypatch):
    """Row E5."""
    top, parts = dtd
    seen = []
    for function in ("stat", "lstat"):
        original = getattr(os, function)
        monkeypatch.setattr(
            os, function,
            lambda path, *args, _original=original, **keys: (
                seen.append(str(path)), _original(path, *args, **keys))[1],
        )  # fmt: skip
    DATASET_REGISTRY.get("DescribableTextures")(make_cfg(top.parent))
    assert not [path for path in seen if path.endswith(".jpg")]
    assert len(seen) < 20 < sum(len(rows) for rows in parts.values())


def test_sizes_other_than_published_are_said(dtd, make_cfg, capsys):
    top, parts = dtd
    DATASET_REGISTRY.get("DescribableTextures")(make_cfg(top.parent))
    sizes = [len(rows) for rows in parts.values()]
    expected = (
        f"ATTENTION: DescribableTextures has {sizes} train, val, test images of 4 classes; "
        "published figures are for [2820, 1128, 1692] of 47\n"
    )
    assert expected in capsys.readouterr().out


def test_own_folder_without_path(tmp_path, make_cfg):
    with pytest.raises(ConfigError, match="DATASET.PATH is empty"):
        DATASET_REGISTRY.get("Folder")(make_cfg(tmp_path))
