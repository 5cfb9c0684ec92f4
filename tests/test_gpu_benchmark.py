"""The command that measures on a GPU: its rehearsal, its limits, what it leaves behind."""

import json
import shlex
import sys

from benchmarks import gpu
from benchmarks.gpu import PARTS, Part, run, run_part
from varprompt.commands.official import TRAINERS


def test_the_limits_leave_time_for_what_comes_first():
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names) and names[0] == "tests"
    assert sum(part.limit for part in PARTS[:4]) < gpu.LIMIT
    for part in PARTS:
        kind = "TABLE" if part.name == "cost" else "FILE"
        assert kind in part.words.split() and kind in part.rehearsed.split()
        assert "cuda" in part.words and "cuda" not in part.rehearsed
        assert shlex.split(part.words)[0] == shlex.split(part.rehearsed)[0]


def test_a_part_that_is_rehearsed_leaves_its_json(tmp_path):
    assert run(tmp_path, True, ["fused"]) == 0
    assert json.loads((tmp_path / "fused.json").read_text())["rows"]
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["rehearsal"] and [row["ended"] for row in report["parts"]] == ["well"]


def test_costs_are_rows_of_a_table(tmp_path):
    assert run(tmp_path, True, ["cost"]) == 0
    assert len((tmp_path / "cost.csv").read_text().splitlines()) == 1 + len(TRAINERS)


def test_how_a_part_may_end(tmp_path, capsys, monkeypatch):
    slow, bad = (tmp_path / name for name in ("slow.py", "bad.py"))
    monkeypatch.setattr(gpu, "_PATIENCE", 1)
    slow.write_text("import time; print('begun', flush=True); time.sleep(60)")
    bad.write_text("raise SystemExit('it is bad')")
    parts = Part("slow", 1, "", f"{slow} FILE"), Part("bad", 9, "", f"{bad} FILE")
    rows = [run_part(part, tmp_path, True, 100) for part in parts]
    assert [row["ended"] for row in rows] == ["cut off", "exit 1"]
    assert [row["last_words"] for row in rows] == ["begun\n", "it is bad\n"]
    assert run_part(parts[0], tmp_path, True, 0.5)["ended"] == "not begun"
    monkeypatch.setattr(gpu, "PARTS", parts[1:])
    assert run(tmp_path, True, ["bad"]) == 1 and "it is bad" in capsys.readouterr().out


def test_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2 and "torch sees no CUDA device" in capsys.readouterr().err
