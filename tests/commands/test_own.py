"""`varprompt demo FOLDER`: from a folder to a classifier and what it says."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from varprompt import load_classifier
from varprompt.commands import demo
from varprompt.common.console import run_tool

NAMES = ("red", "green", "blue")


@pytest.fixture
def photos(tmp_path):
    noise = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = noise.integers(0, 120, (40, 37, 3), dtype=np.uint8)
            pixels[..., label] += 130
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("flag", [[], ["--own"]])
def test_the_whole_way(flag, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert demo.main([*flag, str(photos), "--output", str(output)]) == 0
    shown = capsys.readouterr()
    assert "30 images without parts: 9 of them" in shown.err
    assert shown.out.startswith("9 images tested, ")
    with open(output / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    clf = load_classifier(output, device="cpu")  # the same as its folder "classifier"
    assert (output / "classifier" / "classifier.json").is_file()
    assert clf.class_names_ == sorted(NAMES) and len(rows) == 9
    assert [row["predicted"] for row in rows] == list(clf.predict([r["path"] for r in rows]))
    page = (output / "test.html").read_text()
    assert page.count("<img") == 9 and all(name in page for name in NAMES)
    wrong = {row["path"]: row["label"] for row in rows if row["predicted"] != row["label"]}
    marked = re.findall(r"<em class=.wrong.>wrong: it is (\w+)</em>.*?<code>(.*?)</code>", page)
    assert {path: name for name, path in marked} == wrong
    record = json.loads((output / "summary.json").read_text())
    right = np.mean([row["predicted"] == row["label"] for row in rows])
    assert record["accuracy"] == pytest.approx(100 * right)
    counts = clf.learned_.counts
    assert sum(counts["learned_from"].values()) + counts["held_out"] == 21


def fails(capsys, *words):
    assert run_tool("varprompt.commands.demo", list(map(str, words))) == 2
    error = capsys.readouterr().err.partition("error: ")[2]
    assert error.count("\n") == 1 and "unexpected" not in error
    return error


def test_the_output_is_no_class(photos, tmp_path, capsys):
    for output in (photos / "out", photos, photos / "a/b"):
        assert "lies in" in fails(capsys, photos, "--output", output)
    assert sorted(os.listdir(photos)) == sorted(NAMES)
    (tmp_path / "file").touch()
    assert "is no folder" in fails(capsys, photos, "--output", tmp_path / "file")


def test_what_cannot_be_tested(photos, tmp_path, capsys):
    few = tmp_path / "few"
    for name in NAMES:
        (few / name).mkdir(parents=True)
        (photos / name / "0.png").rename(few / name / "0.png")
    assert "too few images to test some of them" in fails(capsys, few, "--output", tmp_path / "o")
    for part, name in (("train", "red"), ("train", "green"), ("test", "blue")):
        shutil.copytree(photos / name, tmp_path / "parts" / part / name)
    said = fails(capsys, tmp_path / "parts", "--output", tmp_path / "o")
    assert "test images are of classes without training images: ['blue']" in said
    assert not (tmp_path / "o").exists()


def test_bad_input_is_one_line(tmp_path, capsys):
    for words in (["none"], ["--own", str(tmp_path)], [str(tmp_path), "--seed", "-1"]):
        assert run_tool("varprompt.commands.demo", [*words, "--output", str(tmp_path / "o")]) == 2
        assert capsys.readouterr().err.count("error: ") == 1


def test_flags_may_stand_before_the_folder(photos, tmp_path, capsys):
    """And ``--output=~/x``, whose ~ the shell leaves alone, is in the home folder."""
    words = ["--output", str(tmp_path / "o"), "--seed", "3", str(photos)]
    assert "seed is -1" in fails(capsys, *["-1" if w == "3" else w for w in words])
    for flag in ("--output", "--prompts", "--backbone"):
        assert demo_usage(capsys, str(photos), f"{flag}=").endswith("it is empty")


def demo_usage(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        run_tool("varprompt.commands.demo", list(words))
    return capsys.readouterr().err.partition(" (--help")[0]


def test_images_that_stand_there_twice_are_said(photos, tmp_path, capsys):
    for i in range(6):
        shutil.copy(photos / "red/0.png", photos / f"red/again{i}.png")
        shutil.copy(photos / "red/1.png", photos / f"green/from red{i}.png")
    assert demo.main([str(photos), "--output", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().err
    assert re.search(r"1 images are in several classes at once, such as .*/(red|green)/", said)
    assert re.search(r"\d of \d+ test images are among the training images, too, such as", said)


def test_folders_beside_train_are_said(photos, tmp_path, capsys):
    (photos / "train").mkdir()
    for name in NAMES[:2]:
        (photos / name).rename(photos / "train" / name)
    assert demo.main([str(photos), "--output", str(tmp_path / "o")]) == 0
    assert "1 x a folder that is not read, such as blue" in capsys.readouterr().err
