"""Sweeps as YAML files, and differences pair by pair."""

import json

import numpy as np
import pytest
from scipy import stats

from varprompt.errors import ConfigError
from varprompt.sweep.cells import Cell
from varprompt.sweep.grid import paired, read_grid, rows

GRID = """
table: base2new
trainers: VPT
datasets: [dtd, eurosat]
seeds: [1, 2, 3]
options: {OPTIM.MAX_EPOCH: 10}
grid:
  TRAINER.VPT.L: [1, 5, 5]
  TRAINER.VPT.LEARN_CONTEXT: [True, False]
"""


def write(tmp_path, text):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    return file


def test_file(tmp_path):
    found = read_grid(write(tmp_path, GRID))
    assert found["trainers"] == ["VPT"] and found["seeds"] == ["1", "2", "3"]
    assert found["options"] == {"OPTIM.MAX_EPOCH": "10"}
    assert found["grid"] == {
        "TRAINER.VPT.L": ["1", "5"], "TRAINER.VPT.LEARN_CONTEXT": ["True", "False"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [("seed: 1", "did you mean 'seeds'?"), ("table: base", "did you mean 'base2new'?"),
     ("grid: [1]", "grid in "), ("grid: {A: {B: 1}}", "A in "), ("seeds: []", "seeds in "),
     ("- a", "holds no KEY: VALUE"), ("a: [", "is not valid YAML")],
)  # fmt: skip
def test_what_is_wrong_is_said(text, said, tmp_path):
    with pytest.raises(ConfigError) as error:
        read_grid(write(tmp_path, text))
    assert said in str(error.value) and len(error.value.problems) == 1


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_grid(write(tmp_path, "seed: 1\ntable: x\ngrid: 3"))
    assert len(error.value.problems) == 3


@pytest.fixture
def results(tmp_path):
    """Cells of two points and four seeds with random accuracies; one has none."""
    draw = np.random.default_rng(0)
    cells, accuracy = [], {}
    for value in ("1", "5"):
        for seed in range(4):
            name = f"VPT x {seed} TRAINER.VPT.L={value}"
            cell = Cell(name, ("--output-dir", str(tmp_path / name)), "", {"TRAINER.VPT.L": value})
            cells.append(cell)
            if (value, seed) == ("5", 3):
                continue
            cell.folder.mkdir()
            accuracy[value, seed] = 100 * draw.random()
            text = json.dumps({"accuracy": accuracy[value, seed], "nll": seed / 8})
            (cell.folder / "results.json").write_text(text)
    return cells, accuracy


def test_differences_are_taken_pair_by_pair(results):
    cells, accuracy = results
    table = paired(cells)
    gains = [accuracy["5", seed] - accuracy["1", seed] for seed in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(gains), stats.sem(gains))
    assert table[0][:2] == ["L-1", "4"] and table[0][3:] == ["", ""]
    mean = np.mean([accuracy["5", seed] for seed in range(3)])
    half = (high - low) / 2
    assert table[1] == ["L-5", "3", f"{mean:.2f}", f"{np.mean(gains):+.2f} ± {half:.2f}", "+0.0000"]
    assert paired(cells[-1:]) == []


def test_rows_name_what_failed(results):
    cells, _ = results
    table = rows(cells, {cells[0].name: "it is bad"})
    assert [row["state"] for row in table] == ["failed", *["done"] * 6, "unfinished"]
    assert table[0]["reason"] == "it is bad" and table[0]["accuracy"] == ""
    assert {row["TRAINER.VPT.L"] for row in table} == {"1", "5"}
