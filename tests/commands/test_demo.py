"""The demo: its command line, its commands, one real run of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from varprompt.commands import demo
from varprompt.commands.demo_runs import DATASETS, LEARNERS, SEEDS, all_runs
from varprompt.common.console import run_tool
from varprompt.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_runs_of_the_demo_and_where_they_lie(tmp_path):
    runs = all_runs(DATASETS, SEEDS, tmp_path / "data", tmp_path)
    assert len(runs) == 4 * (7 * 3 + 1)  # zero-shot has no seed
    (mixture, _) = runs["VPT embedded_mixture zoom seed 1"]
    assert mixture[mixture.index("--config-file") + 1].endswith("VPT/embedded_mixture.yaml")
    (train, test) = runs["VPT embedded_map chalk seed 2"]
    tail = "chalk/shots_16/VPT/embedded_map/seed2"
    assert train[train.index("--output-dir") + 1] == f"{tmp_path}/base2new/train_base/{tail}"
    assert test[test.index("--output-dir") + 1] == f"{tmp_path}/base2new/test_new/{tail}"
    assert test[test.index("--model-dir") + 1] == train[train.index("--output-dir") + 1]
    assert train[-4:] == ["TRAINER.VPT.POSTERIOR", "delta", "DATASET.SUBSAMPLE_CLASSES", "base"]
    files = [word for argvs in runs.values() for argv in argvs for word in argv if ".yaml" in word]
    assert all(Path(file).is_file() for file in files)


def test_all_prompt_learners_in_front_of_one_clip(tmp_path):
    runs = all_runs(DATASETS, (1, 2), tmp_path / "data", tmp_path, LEARNERS)
    assert len(runs) == 4 * (10 * 2 + 1)
    for name, (train, _) in runs.items():
        assert train[train.index("MODEL.BACKBONE.NAME") + 1] == "embedded_vit"
        assert Path(train[train.index("--config-file") + 1]).is_file(), name


def test_quick_look_has_several_seeds(tmp_path, monkeypatch):
    """One seed of digits can show VPT at the words, where it starts."""
    seen = {}
    monkeypatch.setattr(demo, "execute", lambda runs, jobs: seen.update(runs) or list(runs))
    assert demo.main(["--quick", "--output", f"{tmp_path}/o", "--data", f"{tmp_path}/d"]) == 1
    assert {name.split()[2] for name in seen} == {"digits"} and len(seen) == 22


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as error:
        demo.main(["--datasets", "digit", "chalk", "--seeds", "-1", "--jobs", "0"])
    texts = ["--datasets is 'digit'; choose from", "--seeds is -1;", "--jobs is 0; it must be at"]
    assert all(text in p for text, p in zip(texts, error.value.problems, strict=True))
    assert "did you mean 'digits'?" in str(error.value)


@pytest.mark.parametrize("flag", ["--output", "--data"])
def test_place_that_cannot_be_written(flag, tmp_path, capsys):
    (tmp_path / "file").touch()
    other = ["--data" if flag == "--output" else "--output", str(tmp_path / "other")]
    assert run_tool("varprompt.commands.demo", [flag, str(tmp_path / "file/x"), *other]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert str(tmp_path / "file/x") in shown.err


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="nothing can be written into .*/o; see --output"):
        demo.main(["--output", f"{tmp_path}/o", "--data", f"{tmp_path}/d"])


def test_table_of_one_real_run_and_a_failure(tmp_path, monkeypatch, capsys):
    broken = ("ZeroshotCLIP", "broken", ("OPTIM.LR", "fast"))
    monkeypatch.setattr(demo, "METHODS", (demo.METHODS[0], broken))
    words = ["--datasets", "digits", "--seeds", "1", "--jobs", "1", "--output", f"{tmp_path}/o"]
    assert demo.main([*words, "--data", str(tmp_path / "data")]) == 1
    shown = capsys.readouterr()
    assert "ZeroshotCLIP" in shown.out and "82.29" in shown.out
    assert shown.out.lstrip().startswith("Highest H: ZeroshotCLIP, 79.5")
    assert "failed: ZeroshotCLIP broken digits seed 1: error: " in shown.err
    rows = json.loads((tmp_path / "o/runs.json").read_text())
    assert [(row["classes"], row["dataset"]) for row in rows] == [("base", "digits")] + [
        ("new", "digits")
    ]


@pytest.mark.parametrize(("tell", "number"), [(os.kill, signal.SIGINT), (os.killpg, signal.SIGHUP)])
def test_interrupt_stops_the_workers(tell, number, tmp_path):
    """Whether only the parent is told or, as by a terminal, all are; without a traceback."""
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--datasets", "digits", "--jobs", "1"]
    command += ["--output", str(tmp_path / "o"), "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True)
    while not (tmp_path / "o/base2new").exists() and process.poll() is None:  # the first run
        time.sleep(0.1)
    tell(process.pid, number)
    _, errors = process.communicate(timeout=60)  # until nobody has standard error open any more
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here\n" in errors
    assert "Traceback" not in errors
