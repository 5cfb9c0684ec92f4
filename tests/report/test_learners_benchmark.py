"""Learners with a posterior against those without: what is paired, and what is left out."""

import sys

import pytest
from outputs import Output

from benchmarks import learners


@pytest.fixture
def folder(tmp_path):
    """Two data sets, three seeds: a posterior adds 1 + seed to new classes, at `base` 80."""
    output = Output(tmp_path / "demo")
    for dataset in ("digits", "chalk"):
        for number, name in enumerate(learners.LEARNERS):
            trainer = "VPT" if name == "VPT_CoOp" else name
            for seed in (1, 2, 3):
                new = 60 + number + (1 + seed if name.startswith("VPT") else 0)
                tail = f"{trainer}/embedded_vit/seed{seed}"
                output.halves(dataset, tail, 80.0, new, ece=10.0 - seed)
    return output


def run(folder, *words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["learners.py", str(folder), *words])
    code = learners.main()
    return code, *capsys.readouterr()


def test_table_is_paired_by_seed(folder, monkeypatch, capsys):
    code, out, err = run(folder.root, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith("chalk, digits; 3 seeds\n")
    # a learner and its posterior are one number apart, and 2, 3, 4 by seed: 4 on average
    line = next(line for line in out.splitlines() if line.startswith("| MaPLe | +"))
    _, _, new, h, ece, up, p, _ = (cell.strip() for cell in line.split("|"))
    assert new == "+4.00 ± 2.48" and ece.startswith("+0.00") and up == "2/2"
    assert h.startswith("+") and 0 < float(p) <= 1


def test_seeds_that_a_learner_lacks_are_left_out_of_all(folder, monkeypatch, capsys, tmp_path):
    place = folder.root / "base2new/test_new/digits/shots_16/PromptSRC/embedded_vit/seed2"
    (place / "results.json").unlink()
    (place / "log.txt").unlink()
    code, out, err = run(folder.root, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and "seeds 2" in err and "2 seeds" in out
    code, out, err = run(tmp_path / "nothing", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and out == "" and "no seed" in err
