"""One's own images without train/ and test/: class folders alone, lists, test images alone."""

import json
import os
import shutil
from pathlib import Path

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY
from PIL import Image

from datasets import inspection
from trainers.data import check_trainable
from varprompt.errors import ConfigError, DataError
from varprompt.images.class_folders import labelled_images

COUNTS = {"cat": 10, "old dog": 20, "zebra": 4}


@pytest.fixture
def top(tmp_path):
    for name, count in COUNTS.items():
        for i in range(count):
            layouts.touch(tmp_path / "photos" / name / f"{i:02}.jpg")
    layouts.touch(tmp_path / "photos" / "lonely.png")
    return tmp_path / "photos"


def load(path, make_cfg, **keys):
    return DATASET_REGISTRY.get("Folder")(make_cfg("/", PATH=str(path), **keys))


def parts(data):
    return data.train_x, data.val, data.test


def test_a_class_folder_that_may_not_be_read_is_not_called_empty(tmp_path, monkeypatch):
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("closed"))
    with pytest.raises(DataError) as caught:
        labelled_images(tmp_path, print)
    assert "class folders without permission: 1\n    closed" in str(caught.value)
    assert "class folders without images: 1\n    open" in str(caught.value)


def test_class_folders_are_split_within_each_class(top, make_cfg, capsys):
    data = load(top, make_cfg)
    assert data.classnames == list(COUNTS)
    for label, shares in enumerate([(5, 2, 3), (10, 4, 6), (2, 1, 1)]):
        assert tuple(sum(i.label == label for i in part) for part in parts(data)) == shares
    paths = [{item.impath for item in part} for part in parts(data)]
    assert len(set.union(*paths)) == sum(COUNTS.values()) == sum(map(len, paths))
    said = capsys.readouterr().out
    assert "34 images without parts were split 50/20/30" in said
    assert "17 to train, 7 to validate, 10 to test" in said
    assert "1 x in no class folder, such as lonely.png" in said


def test_all_runs_test_the_same_images(top, make_cfg):
    one, two = (load(top, make_cfg, SEED=seed, NUM_SHOTS=1) for seed in (1, 2))
    assert [i.impath for i in one.test] == [i.impath for i in two.test]
    assert [i.impath for i in one.train_x] != [i.impath for i in two.train_x]


def test_a_class_too_small_is_named(top, make_cfg):
    layouts.touch(top / "yak" / "0.jpg")
    with pytest.raises(DataError, match=r"classes too small: 1\n    'yak': 1 images"):
        load(top, make_cfg)


def test_test_images_alone_are_tested_and_not_trained_on(top, make_cfg):
    (top.parent / "whole").mkdir()
    top.rename(top.parent / "whole" / "test")
    data = load(top.parent / "whole", make_cfg, NUM_SHOTS=1)
    assert len(data.test) == sum(COUNTS.values()) and data.classnames == list(COUNTS)
    with pytest.raises(ConfigError, match="has test images only: give training images"):
        check_trainable(data)
    (top.parent / "whole" / "test").rename(top.parent / "whole" / "train")
    with pytest.raises(DataError, match="/test does not exist"):
        load(top.parent / "whole", make_cfg)


def rows(top):
    return [(f"{p.parent.name}/{p.name}", p.parent.name) for p in sorted(top.glob("*/*.jpg"))]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lists(separator, top, make_cfg):
    lines = [separator.join(["Path", "note", "Label"])]
    lines += [separator.join([path, "x", label]) for path, label in rows(top)]
    layouts.lines(top / "all.csv", lines)
    whole = load(top / "all.csv", make_cfg)
    assert [len(part) for part in parts(whole)] == [17, 7, 10]
    assert whole.classnames == list(COUNTS)
    splits = ["train", "dev", "test", "Train"]
    content = [
        json.dumps({"path": str(top / path), "label": label, "split": splits[i % 4]})
        for i, (path, label) in enumerate(rows(top))
    ]
    layouts.lines(top / "parts.jsonl", [*content, ""])
    data = load(top / "parts.jsonl", make_cfg)
    assert [len(part) for part in parts(data)] == [17, 9, 8]
    wanted = [str(top / path) for path, _ in rows(top)][2::4]
    assert [Path(item.impath).as_posix() for item in data.test] == wanted


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("x.csv", ["cat/00.jpg,cat"], "the first line must name the columns"),
        ("x.csv", ["path,label"], "names no images"),
        ("x.csv", ["path,label", "cat/00.jpg,"], r"rows without a label: 1\n    line 2"),
        ("x.csv", ["path,label", ",cat"], "rows without a path: 1"),
        ("x.csv", ["path,label,split", "a,b,trial"], "rows of another split than train, val, test"),
        ("x.csv", ["path,label,split", "a,b,test", "c,d,"], "rows without a split, where others"),
        ("x.csv", ["path,label", "a,b", "./a,c"], "images that stand there twice: 1"),
        ("x.csv", ["path,label,split", "no.jpg,b,train", "no2.jpg,b,test"], "do not exist"),
        ("x.csv", ["path,label,Label", "a,b,c"], "has the column label twice"),
        ("x.csv", ["path,label", "cat\\00.jpg,cat"], r"separates nothing here: write /: 1"),
        ("x.jsonl", ["{"], "line 1: not JSON"),
        ("x.jsonl", ['{"path": "a", "label": "b", "label": "c"}'], "a key stands twice among"),
        ("x.jsonl", ["[1]"], "is no object with path and label"),
        ("x.jsonl", ['{"path": 7, "label": "b"}'], "rows without a path"),
    ],
)
def test_bad_lists(name, lines, message, top, make_cfg):
    layouts.lines(top / name, lines)
    with pytest.raises(DataError, match=message):
        load(top / name, make_cfg)


def test_a_list_that_is_not_there(top, make_cfg):
    with pytest.raises(DataError, match=r"all\.csv does not exist"):
        load(top / "all.csv", make_cfg)


def test_lines_end_where_the_line_ends(top, make_cfg):
    """Not at every character that Unicode counts as a break, as text from web pages has."""
    odd = top / "cat" / "x\u2028y.jpg"
    next(top.glob("cat/*.jpg")).rename(odd)
    listed = [(f"{p.parent.name}/{p.name}", p.parent.name) for p in sorted(top.glob("*/*.jpg"))]
    for name, lines in (
        ("a.jsonl", [json.dumps({"path": p, "label": c}, ensure_ascii=False) for p, c in listed]),
        ("a.csv", ["path,label", *(f'"{path}",{label}' for path, label in listed)]),
    ):
        (top / name).write_text("\n".join(lines), encoding="utf-8")
        data = load(top / name, make_cfg)
        assert str(odd) in {item.impath for part in parts(data) for item in part}


def test_folders_that_are_called_alike_are_one_class_and_said(top, make_cfg, capsys):
    names = sorted(p.name for p in top.iterdir() if p.is_dir())[:2]
    (top / "classnames.txt").write_text("".join(f"{name} pet\n" for name in names))
    assert "pet" in load(top, make_cfg).classnames
    assert f"The folders {', '.join(names)} are one class" in capsys.readouterr().out


def test_the_same_image_twice_is_said_by_the_check(top, capsys):
    said = "test images are among the training images, too, such as"
    for i, path in enumerate(sorted(top.glob("*/*.jpg"))):
        Image.new("RGB", (3, 2), (7 * i, 0, 0)).save(path)
    inspection.main([str(top), "folder", "--images"])
    assert said not in capsys.readouterr().out
    for i in range(8):
        shutil.copy(top / "cat" / "00.jpg", top / "cat" / f"x{i}.jpg")
    inspection.main([str(top), "folder", "--images"])
    assert said in capsys.readouterr().out
