"""Data folders of anything: one row and its gaps, and never a traceback."""

import json
import os
import shutil

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY
from payloads import NAMES, TEXTS, VALUES, called, strange_files

from datasets import COOP_DATASETS
from datasets.check import main

NOT_IMAGES = (".json", ".txt", ".mat", ".pkl", ".csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data root with all sets, to be copied."""
    root = tmp_path_factory.mktemp("all")
    for kind in COOP_DATASETS:
        layouts.make(kind.__name__, root)
    return root


@pytest.mark.parametrize("text", ["nothing", "list", "binary", "deep-list", "number", "utf-16"])
@pytest.mark.parametrize("kind", COOP_DATASETS, ids=lambda kind: kind.__name__)
def test_annotations_of_anything(kind, text, made, tmp_path, capsys):
    """Each annotation file in turn, with the split file and without."""
    source, top = made / kind.dataset_dir, tmp_path / kind.dataset_dir
    shutil.copytree(source, top, symlinks=True)
    files = sorted(p for p in top.rglob("*") if p.suffix in NOT_IMAGES and p.is_file())
    for file in files:
        before = file.read_bytes()
        file.write_bytes(TEXTS[text])
        code, out, err = called(main, [tmp_path, kind.__name__], capsys)
        assert code in (0, 1) and kind.__name__ in out, err
        file.write_bytes(before)


@pytest.mark.parametrize("name", TEXTS)
def test_split_files_of_anything(name, tmp_path, capsys):
    (tmp_path / "split.json").write_bytes(TEXTS[name])
    code, out, err = called(main, [tmp_path / "split.json", "custom"], capsys)
    assert code == 1 and "damaged" in out and len(out) < 3000


@pytest.mark.parametrize("position", ["train", "entry", "path", "label", "name"])
@pytest.mark.parametrize("name", VALUES)
def test_entries_of_a_split(name, position, tmp_path, capsys):
    value = VALUES[name]
    entry = {"path": [value, 0, "n"], "label": ["a.jpg", value, "n"], "name": ["a.jpg", 0, value]}
    train = value if position == "train" else [entry.get(position, value)]
    content = {"train": train, "val": [], "test": [["a.jpg", 0, "n"]]}
    layouts.touch(tmp_path / "a.jpg")
    (tmp_path / "split.json").write_text(json.dumps(content))
    code, out, err = called(main, [tmp_path / "split.json", "custom"], capsys)
    assert code in (0, 1) and len(out) < 3000
    assert not {"\x1b", "\udcff", "\0"} & set(out)


def test_paths_of_windows_get_a_hint(tmp_path, capsys):
    layouts.touch(tmp_path / "a" / "b.jpg")
    split = [["a\\b.jpg", 0, "n"]]
    (tmp_path / "split.json").write_text(json.dumps({"train": split, "val": [], "test": split}))
    code, out, _ = called(main, [tmp_path / "split.json", "custom"], capsys)
    assert code == 1 and "written with \\ as on Windows: write / instead" in out


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_class_folders_of_any_name(name, tmp_path, capsys):
    for part in ("train", "test"):
        folder = os.path.join(os.fsencode(tmp_path / part), name)
        os.makedirs(folder)
        with open(os.path.join(folder, b"0.jpg"), "wb") as file:
            file.write(layouts.JPEG)
    code, out, err = called(main, [tmp_path, "custom", "--images"], capsys)
    assert code in (0, 1) and not {"\x1b", "\t"} & set(out)


@pytest.mark.parametrize("place", ["", "train", "train/cat", "test", "val"])
def test_strange_files_among_the_images(place, tmp_path, capsys):
    for part in ("train", "test"):
        layouts.touch(tmp_path / part / "cat" / "0.jpg")
    (tmp_path / place).mkdir(exist_ok=True)
    for path in strange_files(tmp_path / place).values():
        path.rename(path.with_suffix(".jpg"))
    code, out, err = called(main, [tmp_path, "folder", "--images"], capsys)
    assert code in (0, 1)


@pytest.mark.parametrize("part", ["train", "test", "val"])
@pytest.mark.parametrize("kind", ["loop", "nowhere", "endless", "pipe"])
def test_parts_that_are_no_folders(part, kind, tmp_path, capsys):
    for name in {"train", "test"} - {part}:
        layouts.touch(tmp_path / name / "cat" / "0.jpg")
    (tmp_path / "strange").mkdir()
    strange_files(tmp_path / "strange")[kind].rename(tmp_path / part)
    code, out, err = called(main, [tmp_path, "folder"], capsys)
    assert code in (0, 1)


@pytest.mark.parametrize("data", ["", "not there", "file", "loop", "\udcff", "x" * 5000])
def test_data_that_is_none(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    code, out, err = called(main, [data, "dtd"], capsys)
    assert code == 2 and not out


def test_folders_of_the_sets_that_are_none(tmp_path, capsys):
    strange = list(strange_files(tmp_path).values())
    kinds = {kind.dataset_dir: kind for kind in COOP_DATASETS}
    for path, name in zip(strange * 3, kinds, strict=True):
        (tmp_path / name).symlink_to(path)
    code, out, err = called(main, [tmp_path], capsys)
    assert code == 1 and all(kind.__name__ in out for kind in COOP_DATASETS)
    assert DATASET_REGISTRY.get("OxfordPets").__name__ in out
