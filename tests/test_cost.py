"""What a training costs: the command, its memory rule, the measured rows."""

import csv
import sys

import pytest

from benchmarks import cost as benchmark
from varprompt import cost
from varprompt.console import run_tool
from varprompt.cost import CLASSES, TRAINERS, Tower, work_of
from varprompt.settings.recipes import recipes


@pytest.fixture(scope="module")
def tower():
    return Tower("ViT-B/16", "fp16")


def run(*words):
    return run_tool("varprompt.cost", list(words))


@pytest.mark.parametrize("dataset", CLASSES)
def test_trainings_are_the_official_ones(dataset):
    work, recipe = work_of(dataset, "VPT"), recipes()["vpt"][dataset]
    assert (work.samples, work.batch) == (recipe["L"], 1)
    assert work.classes == -(-CLASSES[dataset] // 2)
    assert work.steps == recipe["epochs"] * work.classes * 16
    coop = work_of(dataset, "CoOp")
    epochs = 50 if dataset == "imagenet" else 200
    assert (coop.samples, coop.steps) == (1, epochs * (work.classes * 16 // 32))


def test_data_sets_are_those_of_the_recipes():
    assert set(CLASSES) == set(recipes()["datasets"])


def test_a_tower_takes_its_weights_and_no_memory(tower):
    assert tower.weights == pytest.approx(149.6e6 * 2, rel=0.01)  # 149.6 million parameters
    assert all(p.is_meta for p in tower.clip.parameters())


def test_memory_grows_with_samples_and_pieces_with_less_memory(tower):
    tokens = tower.tokens(work_of("imagenet", "VPT"))
    whole = [tower.whole(tokens, n) for n in (1, 5, 10, 20)]
    assert [b / a for a, b in zip(whole[1:], whole[2:], strict=False)] == pytest.approx(
        [2, 2], rel=0.01
    )
    assert tower.pieces(tokens, 10, whole[2]) == 1 < tower.pieces(tokens, 10, whole[2] - 1)
    pieces = [tower.pieces(tokens, 10, whole[2] // n) for n in (1, 2, 4, 8)]
    assert pieces == sorted(pieces) and pieces[-1] >= 8


def test_command(capsys, monkeypatch, tmp_path):
    row = dict.fromkeys(benchmark.FIELDS, "1") | {
        "dataset": "imagenet", "trainer": "VPT", "L": 10, "device": "a machine", "s_step": "36.0",
    }  # fmt: skip
    benchmark.add(tmp_path / "cost.csv", row)
    monkeypatch.setattr(cost, "MEASURED", tmp_path / "cost.csv")
    assert run("--dataset", "imagenet", "--trainer", "VPT", "--gpu-memory", "80") == 0
    said = capsys.readouterr().out
    assert "500 base classes, L = 10, batch 1, 80,000 steps" in said
    assert "80 GB: fits, in one piece" in said
    assert "a machine, 1 thread(s): 36.00 s a step, 800.0 h in all" in said
    assert run("--gpu-memory", "4") == 0 and "4 GB: fits, in " in capsys.readouterr().out
    assert run("--gpu-memory", "0.2") == 1 and "does not fit" in capsys.readouterr().out
    assert run("--dataset", "dtd") == 0 and "time: not measured" in capsys.readouterr().out


def test_what_is_wrong_is_said_at_once(capsys):
    assert run("--dataset", "dtdd", "--trainer", "vpt", "--gpu-memory", "0") == 2
    said = capsys.readouterr().err
    assert "did you mean 'dtd'?" in said and "--trainer is 'vpt'" in said
    assert said.count("\n") == 3


def test_a_row_is_measured_and_replaces_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "new.csv"
    words = f"cost.py --datasets eurosat --trainers CoCoOp VPT --backbone tiny --output {file}"
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*words.split(), "--repeats", "1"])
        benchmark.main()
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["trainer"] for row in rows] == ["VPT", "CoCoOp"] and set(TRAINERS) > {"VPT"}
    assert all(float(row["s_step"]) > 0 and row["classes"] == "5" for row in rows)
    monkeypatch.setattr(sys, "argv", [*words.split(), "--limit", "0"])
    benchmark.main()
    assert (
        list(csv.DictReader(file.read_text().splitlines())) == rows
    )  # what takes too long is left out
