"""The command that says what is there and what is missing."""

import subprocess
import sys
from pathlib import Path

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY

from datasets import COOP_DATASETS
from datasets.check import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def as_published(monkeypatch):
    """Return a function: makes a fixture and takes its sizes for the published ones."""

    def make(name, root):
        top = layouts.make(name, root)
        kind = DATASET_REGISTRY.get(name)
        sizes = (None, None, None)
        if name in layouts.WITH_SPLIT_FILE:
            sizes = tuple(len(rows) for rows in layouts.write_split(name, top).values())
        monkeypatch.setattr(kind, "sizes", sizes)
        monkeypatch.setattr(kind, "n_classes", len(layouts.CLASSNAMES[name]))
        return top

    return make


def row_of(name, text):
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))


def test_everything_complete(tmp_path, as_published, capsys):
    for kind in COOP_DATASETS:
        as_published(kind.__name__, tmp_path)
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for kind in COOP_DATASETS:
        assert row_of(kind.__name__, out).endswith("complete")
    assert "see below" not in out and "ATTENTION" not in out


def test_nothing_there(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    for kind in COOP_DATASETS:
        assert row_of(kind.__name__, out).endswith("missing")
        for name, source in kind.sources.items():
            assert f"- get {name} from {source} into {tmp_path}/{kind.dataset_dir}" in out


def test_only_what_was_asked_for_counts(tmp_path, as_published, capsys):
    as_published("OxfordPets", tmp_path)
    as_published("DescribableTextures", tmp_path)
    assert main([str(tmp_path), "oxford_pets", "DescribableTextures"]) == 0
    out = capsys.readouterr().out
    assert "EuroSAT" not in out
    assert main([str(tmp_path), "dtd", "eurosat"]) == 1


def test_missing_split_file_is_a_gap_with_its_address(tmp_path, as_published, capsys):
    top = as_published("UCF101", tmp_path)
    (top / "split_zhou_UCF101.json").unlink()
    assert main([str(tmp_path), "ucf101"]) == 1
    out = capsys.readouterr().out
    assert row_of("UCF101", out).endswith("see below")
    assert "https://drive.google.com/file/d/1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y" in out


def test_unneeded_annotations_are_no_gap(tmp_path, as_published):
    import shutil

    top = as_published("OxfordPets", tmp_path)
    shutil.rmtree(top / "annotations")
    assert main([str(tmp_path), "oxford_pets"]) == 0


def test_sizes_are_compared_with_the_published_ones(tmp_path, capsys):
    top = layouts.make("Food101", tmp_path)
    parts = layouts.write_split("Food101", top)
    assert main([str(tmp_path), "food101"]) == 1
    row = row_of("Food101", capsys.readouterr().out)
    assert "4 of 101" in row and f"{len(parts['train'])} of 50,500" in row


def test_missing_images_are_listed(tmp_path, as_published, capsys):
    top = as_published("EuroSAT", tmp_path)
    (top / "2750" / "River" / "River_3.jpg").unlink()
    assert main([str(tmp_path), "eurosat"]) == 1
    out = capsys.readouterr().out
    assert "images that do not exist: 1" in out and "'River/River_3.jpg'" in out


def test_images_are_decoded_on_request(tmp_path, as_published, capsys):
    top = as_published("SUN397", tmp_path)
    broken = top / "SUN397" / "a" / "abbey"
    for name in ("sun_testing_01_4.jpg", "sun_training_01_2.jpg"):
        (broken / name).write_bytes(layouts.JPEG[:-40])
    assert main([str(tmp_path), "sun397"]) == 0
    assert main([str(tmp_path), "sun397", "--images"]) == 1
    captured = capsys.readouterr()
    assert "2 unreadable images; get again the first: " in captured.out
    assert f"{broken}/sun_testing_01_4.jpg: not a readable image" in captured.out
    assert "SUN397: 100%" in captured.err


def test_own_folder(tmp_path, capsys):
    for part in ("train", "test"):
        layouts.touch(tmp_path / part / "one class" / "0.jpg")
    assert main([str(tmp_path), "folder", "--images"]) == 0
    (tmp_path / "test" / "one class" / "0.jpg").unlink()
    assert main([str(tmp_path), "Folder"]) == 1
    assert "no images: 1\n    test" in capsys.readouterr().out


def test_unknown_names_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "cifar10"])
    assert "unknown data sets ['cifar10']; choose from ['caltech101'" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert "--images" in out and "imagenet_sketch" in out and "Exit code" in out


def test_the_command_exits_with_the_code(tmp_path):
    command = [sys.executable, "-m", "datasets.check", tmp_path, "dtd"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "DescribableTextures" in result.stdout and not result.stderr
