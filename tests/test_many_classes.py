"""The benchmark of very many classes, and what a test with them keeps."""

import json
import sys

import pytest
import torch

from benchmarks import many_classes as benchmark
from varprompt.run.tally import Tally

NOUNS = """  1 a licence, whose lines begin with spaces
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | abstract
01314663 05 n 02 dog 0 domestic_dog 0 001 @ 1 n 0000 | an animal
01314781 05 n 01 big_cat 0 001 @ 1 n 0000 | an animal
02958343 06 n 01 car 0 001 @ 1 n 0000 | an artefact
01314999 05 n 01 Dog 1 001 @ 1 n 0000 | the same word again
07555863 13 n 01 soup 0 001 @ 1 n 0000 | food
"""


def test_names_are_those_of_visible_things():
    assert benchmark.nouns(NOUNS, 4) == ["dog", "big_cat", "car", "soup"]
    assert benchmark.nouns(NOUNS, 2) == ["dog", "car"]
    with pytest.raises(ValueError, match="the file has 4"):
        benchmark.nouns(NOUNS, 5)


def measured(monkeypatch, folder, words):
    argv = f"many_classes.py --backbone tiny --output {folder}/out.json {words}".split()
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    return json.loads((folder / "out.json").read_text())


def test_rows_are_collected(tmp_path, monkeypatch):
    (tmp_path / "data.noun").write_text(NOUNS)
    words = f"--names {tmp_path}/data.noun --classes 3 -L 2"
    measured(monkeypatch, tmp_path, words)
    measured(monkeypatch, tmp_path, f"{words} --trainer CoOp --profile")
    measured(monkeypatch, tmp_path, f"{words} --class-words 0.5")
    rows = measured(monkeypatch, tmp_path, "--test-images 7 --classes 1100 -L 2 --batch-size 3")
    one, parts, own, test = rows.values()
    assert list(rows)[2] == "step, VPT, L = 2, C = 3, words 0.5"
    assert own["slots"] >= one["slots"] + 3 * 4  # of contexts that no class shares
    assert list(rows)[0] == "step, VPT, L = 2, C = 3" and one["step_s"] > 0 < one["slots"]
    assert sum(parts["share"].values()) == pytest.approx(1)
    assert parts["seconds"]["matrix products"] > 0 < parts["seconds"]["attention"]
    assert test["nll"] > 0 and test["distributions_kept"] and test["classes"] == 1100
    assert str(tmp_path) not in one["environment"]["command"].split("--names")[1]


def test_without_a_file_there_are_enough_names(monkeypatch):
    args = benchmark.parser().parse_args(["--classes", "2500"])
    names = benchmark.names_of(args)
    assert len(set(names)) == len(names) == 2500


def test_classes_without_images_are_in_no_row():
    tally = Tally()
    log_prob = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    tally.update(log_prob[None], torch.tensor([7, 2, 7, 7, 2]))
    found = tally.summary([f"c{i}" for i in range(9)])["per_class"]
    assert [(label, row["name"], row["total"]) for label, row in found.items()] == [
        ("2", "c2", 2), ("7", "c7", 3),
    ]  # fmt: skip
