"""A data set of one's own: folders or a split file, no code."""

import os
import random
from pathlib import Path

import layouts
import numpy as np
import pytest
import yaml
from dassl.data.datasets import DATASET_REGISTRY
from PIL import Image

from varprompt.errors import ConfigError, DataError
from varprompt.images.read import ImageItems

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
    under = f"relative to DATASET.ROOT (--root, DATA of the scripts), now {top.parent}/data"
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


def test_everything_that_pillow_reads_is_an_image(top, make_cfg):
    for suffix in ("jfif", "JPE", "tga", "jp2", "avif", "webp"):
        layouts.touch(top / "train" / "zz top" / f"new.{suffix}")
    names = {Path(item.impath).name for item in load(top, make_cfg).train_x}
    assert {"new.jfif", "new.JPE", "new.tga", "new.jp2", "new.avif", "new.webp"} <= names


def test_folders_inside_a_class_belong_to_it(top, make_cfg):
    layouts.touch(top / "train" / "zz top" / "beards" / "long" / "0.jpg")
    os.symlink(top / "train" / "zz top", top / "train" / "zz top" / "beards" / "again")
    found = [i for i in load(top, make_cfg).train_x if i.impath.endswith("beards/long/0.jpg")]
    assert [item.classname for item in found] == ["zz top"]


def test_what_is_ignored_is_counted_by_reason(top, make_cfg, capsys):
    os.symlink("0.png", top / "val" / "zz top" / "0.png")  # a link to itself
    os.symlink("nowhere", top / "val" / "zz top" / "4.png")
    layouts.touch(top / "train" / "0.jpg")
    os.mkfifo(top / "test" / "zz top" / "pipe.jpg")
    dataset = load(top, make_cfg)
    assert len(dataset.val) == 12  # a bad entry costs that entry only
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Ignored in")]
    assert line.startswith(f"Ignored in {top}: 7 entries: 2 x a link to nothing or to itself, such")
    assert "1 x .txt" in line and "2 x hidden" in line
    assert f"1 x neither file nor folder, such as {top}/test/zz top/pipe.jpg" in line
    assert "1 x in no class folder, such as train/0.jpg" in line


def test_images_are_turned_upright(top, make_cfg):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 255
    image = Image.fromarray(pixels)
    corners = [(0, 0), (0, 2), (1, 2), (1, 0), (0, 0), (0, 1), (2, 1), (2, 0)]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(top / "test" / "zz top" / f"turned-{orientation}.png", exif=exif)
    dataset = load(top, make_cfg)
    items = [i for i in dataset.test if Path(i.impath).name.startswith("turned")]
    images = [item["img"] for item in ImageItems(None, items, np.asarray)]
    assert [tuple(np.argwhere(i[..., 0] == 255)[0]) for i in images] == corners
    assert [i.shape for i in images] == [(2, 3, 3)] * 4 + [(3, 2, 3)] * 4


def test_a_names_file_renames_classes(top, make_cfg, capsys):
    for name in ("n01440764", "001.Black_footed_Albatross"):
        for part in ("train", "test"):
            layouts.touch(top / part / name / "0.jpg")
    load(top, make_cfg)
    assert "2 of 6 class folders look like codes or numbers" in capsys.readouterr().out
    text = "\ufeff# names\nn01440764 tench\n001.Black_footed_Albatross\tblack-footed albatross\n"
    (top / "classnames.txt").write_text(text + "zz top, ZZ Top\n", encoding="utf-8")
    names = load(top, make_cfg).classnames
    assert names == ["black-footed albatross", *NAMES[:2], "tench", "ZZ Top", NAMES[3]]
    assert "codes" not in capsys.readouterr().out


def test_a_names_file_must_fit(top, make_cfg):
    (top / "classnames.txt").write_text("zz top ZZ\nzz top Z\ntench fish\nbass_guitar\n")
    with pytest.raises(DataError) as caught:
        load(top, make_cfg)
    assert "its name: 3\n    2: zz top Z\n    3: tench fish\n    4: bass_guitar" in str(
        caught.value
    )


def test_names_that_make_the_same_prompt_are_said(top, make_cfg, capsys):
    for name in ("Bass guitar", "bass  guitar"):
        for part in ("train", "test"):
            layouts.touch(top / part / name / "0.jpg")
    load(top, make_cfg)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "same prompt" in x]
    assert "0 ('Bass guitar'), 2 ('bass  guitar'), 3 ('bass_guitar')" in line


def test_one_name_on_two_labels_of_a_split_file_is_said(top, make_cfg, capsys):
    rows = [["train/zz top/0.jpg", 0, "thing"], ["train/zz top/1.JPEG", 1, "thing"]]
    layouts.write_json(top / "mine.json", {"train": rows, "val": [], "test": rows})
    load(top / "mine.json", make_cfg)
    assert "classes 0 ('thing'), 1 ('thing') make the same prompt" in capsys.readouterr().out


def test_a_class_without_test_images_is_said(top, make_cfg, capsys):
    for file in (top / "test" / "zz top").iterdir():
        file.unlink()
    assert len(load(top, make_cfg).classnames) == 4
    assert "1 classes without test images, of which no figure tells: 2" in capsys.readouterr().out


def test_fewer_images_than_shots_are_said(top, make_cfg, capsys):
    layouts.touch(top / "train" / "zz top" / "more.jpg")
    load(top, make_cfg, NUM_SHOTS=6)
    told = "3 classes have fewer than 6 training images (the smallest 5); all of them are taken"
    assert told in capsys.readouterr().out
    with pytest.raises(ConfigError, match="NUM_SHOTS is 0; give"):
        load(top, make_cfg, NUM_SHOTS=0)


def test_names_that_are_no_utf8_are_refused(top, make_cfg):
    os.rename(top / "train" / "zz top", os.path.join(os.fsencode(top / "train"), b"caf\xe9"))
    with pytest.raises(DataError, match=r"not printable UTF-8: rename: 1\n +'caf.*xe9'"):
        load(top, make_cfg)


def test_backslashes_in_a_split_file_get_a_hint(top, make_cfg):
    rows = [[r"train\zz top\0.jpg", 0, "thing"]]
    layouts.write_json(top / "mine.json", {"train": rows, "val": [], "test": rows})
    with pytest.raises(DataError, match="written with .* as on Windows: write / instead"):
        load(top / "mine.json", make_cfg)


def ignored(capsys):
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Ignored in")]
    return line


def test_what_lies_beside_the_class_folders_is_counted(top, make_cfg, capsys):
    for name in ("train/fish", "train/loop"):
        os.symlink("loop", top / name)  # a link to nothing and one to itself
    layouts.touch(top / "validation" / "zz top" / "0.png")
    layouts.touch(top / "0.png")
    layouts.lines(top / "train" / "Thumbs.db", ["a list of Windows"])
    layouts.lines(top / "README.md", ["notes at the top are no images"])
    assert load(top, make_cfg).classnames == NAMES
    line = ignored(capsys)
    assert f"2 x a link to nothing or to itself, such as {top}/train/fish" in line
    assert "1 x a folder that is not read, such as validation" in line
    assert "1 x in no class folder, such as 0.png" in line
    assert "1 x .db" in line and ".md" not in line


def test_images_that_need_a_plug_in_are_counted(top, make_cfg, capsys):
    for name in ("0.jxl", "1.JXL", "2.PNG"):
        layouts.touch(top / "train" / "zz top" / name)
    assert len(load(top, make_cfg).train_x) == 21  # the suffix may have capitals
    assert "2 x .jxl" in ignored(capsys)


def test_a_class_folder_that_is_a_link(top, make_cfg):
    for part in ("train", "test"):
        (top / part / "zz top").rename(top.parent / part)
        os.symlink(top.parent / part, top / part / "zz top")
    assert len([i for i in load(top, make_cfg).train_x if i.classname == "zz top"]) == 5


def test_a_folder_without_permission_is_named(top, make_cfg, capsys, monkeypatch):
    closed, listdir = top / "train" / "zz top" / "beards", os.listdir
    closed.mkdir()

    def refuse(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    load(top, make_cfg)
    assert f"1 x unreadable folder {closed} (Permission denied)" in ignored(capsys)


def test_val_without_images_is_said(top, make_cfg, capsys):
    (top / "val").rename(top.parent / "elsewhere")
    (top / "val").mkdir()
    assert not load(top, make_cfg).val
    assert f"{top}/val holds no images: there is no validation" in capsys.readouterr().out


def test_a_class_that_only_val_has_is_named(top, make_cfg):
    layouts.touch(top / "val" / "horse" / "0.png")
    with pytest.raises(DataError, match=r"without train images: 1\n +4 \('horse'\)"):
        load(top, make_cfg)


def test_images_that_a_split_file_does_not_name_are_counted(top, make_cfg, capsys):
    rows = [["train/zz top/0.jpg", 0, "thing"]]
    layouts.write_json(top / "mine.json", {"train": rows, "val": [], "test": rows})
    load(top / "mine.json", make_cfg)
    told = "4 images beside these are in no list, such as train/zz top/1.JPEG"
    assert told in capsys.readouterr().out
    load(top, make_cfg)
    assert "in no list" not in capsys.readouterr().out


@pytest.mark.parametrize("shots", [0, -2])
def test_numbers_of_shots_that_mean_nothing(shots, top, make_cfg):
    with pytest.raises(ConfigError, match=f"NUM_SHOTS is {shots}; give .* or -1 for all of them"):
        load(top, make_cfg, NUM_SHOTS=shots)
