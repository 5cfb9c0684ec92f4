"""CoOp's helper functions, as data-set files of other people call them."""

import json
import pickle
import random

import pytest
from dassl.data.datasets import Datum

from datasets.dtd import DescribableTextures
from datasets.imagenet import ImageNet
from datasets.oxford_pets import OxfordPets
from varprompt.errors import ConfigError, DataError

COUNTS = {"ant": 10, "bee": 4, "cat": 7, "BACKGROUND": 3}


@pytest.fixture
def pictures(tmp_path):
    for name, count in COUNTS.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "pictures" / name / f"{i}.jpg").touch()
    (tmp_path / "pictures/.hidden").mkdir()
    (tmp_path / "pictures/ant/.DS_Store").touch()
    return tmp_path / "pictures"


def divide(pictures, **options):
    return DescribableTextures.read_and_split_data(
        str(pictures), ignored=["BACKGROUND"], new_cnames={"bee": "honey bee"}, **options
    )


def rows(items):
    return [(d.impath, d.label, d.domain, d.classname) for d in items]


def test_division_of_folders(pictures):
    before = random.getstate()
    parts = divide(pictures)
    assert random.getstate() == before  # the few-shot choice does not depend on it
    sizes = [[sum(d.label == label for d in part) for label in range(3)] for part in parts]
    assert sizes == [[5, 2, 4], [2, 1, 1], [3, 1, 2]]
    everything = [d for part in parts for d in part]
    assert {(d.label, d.classname) for d in everything} == {
        (0, "ant"), (1, "honey bee"), (2, "cat"),
    }  # fmt: skip
    assert len({d.impath for d in everything}) == 21
    assert [rows(part) for part in divide(pictures)] == [rows(part) for part in parts]
    other = divide(pictures, p_trn=0.25, p_val=0.5)
    assert [len(part) for part in other] == [2 + 1 + 2, 5 + 2 + 4, 3 + 1 + 1]
    with pytest.raises(DataError, match="divided into 10 % train, 10 % val, 80 % test"):
        divide(pictures, p_trn=0.1, p_val=0.1)


def test_a_split_file_there_and_back(pictures, tmp_path):
    parts = divide(pictures)
    file = str(tmp_path / "split.json")
    OxfordPets.save_split(*parts, file, str(pictures))
    content = json.loads((tmp_path / "split.json").read_text())
    path, label, name = content["train"][0]
    assert (path.split("/")[0], label, name) == ("ant", 0, "ant")
    assert (tmp_path / "split.json").read_text() == json.dumps(
        content, indent=4, separators=(",", ": ")
    )
    got = OxfordPets.read_split(file, str(pictures))
    assert [rows(part) for part in got] == [rows(part) for part in parts]
    restored = pickle.loads(pickle.dumps({"train": got[0]}))["train"]
    assert rows(restored) == rows(got[0]) and isinstance(restored[0], Datum)
    (pictures / path).unlink()
    with pytest.raises(DataError, match=f"train images that do not exist: 1\n *'{path}'"):
        OxfordPets.read_split(file, str(pictures))


def test_validation_images(pictures):
    train, _, _ = divide(pictures)
    kept, val = OxfordPets.split_trainval(train, p_val=0.4)
    assert [len(kept), len(val)] == [3 + 1 + 2, 2 + 1 + 2]
    assert sorted(rows(kept) + rows(val)) == sorted(rows(train))
    with pytest.raises(DataError, match="80 % train and 20 % val"):
        OxfordPets.split_trainval(train)


def test_halves_of_the_classes(pictures, capsys):
    train, val, test = divide(pictures)
    assert OxfordPets.subsample_classes(train, val, subsample="all") == (train, val)
    base = OxfordPets.subsample_classes(train, val, test, subsample="base")
    assert [{(d.label, d.classname) for d in part} for part in base] == [
        {(0, "ant"), (1, "honey bee")}
    ] * 3
    (new,) = OxfordPets.subsample_classes(train, subsample="new")
    assert {(d.label, d.classname) for d in new} == {(0, "cat")}
    assert "SUBSAMPLE NEW CLASSES!" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="choose from all, base, new"):
        OxfordPets.subsample_classes(train, subsample="old")


def test_names_of_imagenet(tmp_path):
    file = tmp_path / "classnames.txt"
    file.write_text("n02 great white shark\nn01 tench\n")
    assert list(ImageNet.read_classnames(str(file)).items()) == [
        ("n02", "great white shark"), ("n01", "tench"),
    ]  # fmt: skip
