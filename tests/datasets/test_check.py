"""The command that says what is there and what is missing."""

import functools
import subprocess
import sys
from pathlib import Path

import layouts
import pytest
from dassl.data.datasets import DATASET_REGISTRY

from datasets import COOP_DATASETS, inspection
from datasets.check import main

ROOT = Path(__file__).parents[2]


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


def gaps_of(text):
    return [line for line in text.splitlines() if line.startswith("- ")]


def test_nothing_there(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    for kind in COOP_DATASETS:
        assert row_of(kind.__name__, out).endswith("missing")
    assert len(out.splitlines()) < 24 and "python -m datasets.check DATA dtd" in out


def test_steps_for_what_is_named(tmp_path, capsys):
    (tmp_path / "imagenet").mkdir()  # is not what is meant by imagenetv2
    for kind in COOP_DATASETS[1:]:
        assert main([str(tmp_path), kind.__name__]) == 1
        out = capsys.readouterr().out
        assert row_of(kind.__name__, out).endswith("missing")
        assert gaps_of(out) == [
            f"- get {name} from {source} into {tmp_path}/{kind.dataset_dir}"
            for name, source in kind.sources.items()
            if name not in kind.only_without_split
        ]


def test_a_misspelt_folder_is_named(tmp_path, capsys):
    (tmp_path / "Oxford-Pets").mkdir()
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert row_of("OxfordPets", out).endswith("see below")
    assert gaps_of(out)[0].endswith(f"does not exist; is {tmp_path}/Oxford-Pets meant?")


@pytest.mark.parametrize(
    ("name", "parts"),
    [("OxfordPets", ["annotations"]), ("UCF101", ["ucfTrainTestlist"]),
     ("StanfordCars", ["devkit", "cars_test_annos_withlabels.mat"]),
     ("OxfordFlowers", ["imagelabels.mat", "cat_to_name.json"]),
     ("SUN397", ["ClassName.txt", "Training_01.txt", "Testing_01.txt"])],
)  # fmt: skip
def test_only_the_split_is_asked_for_where_it_is_missing(name, parts, tmp_path, capsys):
    top = layouts.make(name, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for part in parts:
        (top / part).rename(tmp_path / "elsewhere" / part)
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    kind = DATASET_REGISTRY.get(name)
    source = kind.sources[kind.split_file]
    assert gaps_of(out) == [f"- get {kind.split_file} from {source} into {top}"]
    assert row_of(name, out).endswith("see below")


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "not a readable JSON file"), ('{"train": [], "test": []}', "no list 'val'")],
)
def test_broken_split_file_is_damaged(content, reason, tmp_path, as_published, capsys):
    split = as_published("EuroSAT", tmp_path) / "split_zhou_EuroSAT.json"
    split.write_text(content)
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert row_of("EuroSAT", out).endswith("damaged")
    (gap,) = gaps_of(out)
    assert gap.startswith(f"- {split}: ") and reason in gap


def test_data_that_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name, problem in (("nope", "does not exist"), ("file", "is a file")):
        with pytest.raises(SystemExit, match="2"):
            main([str(tmp_path / name)])
        out, err = capsys.readouterr()
        assert not out and f"error: {tmp_path / name} {problem}; give the folder" in err
        usage, _, error = err.partition("python -m datasets.check: ")
        assert len(err.splitlines()) == 1


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


def test_images_are_decoded_on_request(tmp_path, as_published, capsys, monkeypatch):
    shown = functools.partial(inspection.tqdm, disable=False)  # also with TQDM_DISABLE
    monkeypatch.setattr(inspection, "tqdm", shown)
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


def test_what_is_ignored_is_listed(tmp_path, capsys):
    for part in ("train", "test"):
        layouts.touch(tmp_path / part / "cat" / "0.jpg")
    for i in range(3):
        layouts.touch(tmp_path / "train" / "cat" / f"{i}.docx")
    assert main([str(tmp_path), "custom"]) == 0
    out = capsys.readouterr().out
    assert row_of("Folder", out).endswith("complete")
    assert f"- Ignored in {tmp_path}: 3 entries: 3 x .docx" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [("flowers", "did you mean 'oxford_flowers'?"), ("OxfordPet", "did you mean 'oxford_pets'?"),
     ("digits", "digits is made on first use: there is nothing to check")],
)  # fmt: skip
def test_unknown_names_are_refused(name, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), name, "cifar10"])
    err = capsys.readouterr().err
    assert message in err
    assert "data set is 'cifar10'; choose from imagenet, caltech101, oxford_pets, stan" in err
    assert "stanfordcars" not in err


def test_without_arguments_only_data_is_missed(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "required: data (--help" in capsys.readouterr().err


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
