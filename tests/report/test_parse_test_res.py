"""The result parser: CoOp's numbers and wording, and no crash where CoOp's crashes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parse_test_res import main
from varprompt.report.experiment import Experiment, Query

ROOT = Path(__file__).resolve().parents[2]


def block(accuracy: float, **more: float) -> str:
    """What Dassl's evaluator prints."""
    values = {"accuracy": accuracy, "error": 100 - accuracy} | more
    lines = "".join(f"* {name}: {value:.1f}%\n" for name, value in values.items())
    return f"Evaluate on the *test* set\n=> result\n* total: 1,692\n* correct: 812\n{lines}"


def write_log(folder: Path, text: str, name: str = "log.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def train_log(folder: Path, accuracy: float, end: str = "Finish training", **more: float) -> Path:
    """A run that was also tested before its end (TEST.FINAL_MODEL best_val): not a result."""
    return write_log(
        folder, f"epoch [1/1]\n{block(1.1)}{end}\n{block(accuracy, **more)}Elapsed: 9\n"
    )


@pytest.fixture
def run(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_report_to_the_letter(tmp_path, run):
    for seed, accuracy in ((1, 80.0), (2, 84.5), (10, 82.0)):
        train_log(tmp_path / f"seed{seed}", accuracy)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "results.csv").touch()
    expected = f"""Parsing files in {tmp_path}
file: {tmp_path}/seed1/log.txt. accuracy: 80.00%.\x20
file: {tmp_path}/seed10/log.txt. accuracy: 82.00%.\x20
file: {tmp_path}/seed2/log.txt. accuracy: 84.50%.\x20
===
Summary of directory: {tmp_path}
* accuracy: 82.17% +- 1.84%
===
"""
    assert run(tmp_path) == (0, expected, "")
    assert "* accuracy: 82.17% +- 2.08%\n" in run(tmp_path, "--ci95")[1]


def test_several_experiments(tmp_path, run):
    train_log(tmp_path / "b/seed1", 50.0)
    train_log(tmp_path / "a/seed1", 60.0)
    train_log(tmp_path / "a/seed2", 70.0)
    code, out, err = run(tmp_path, "--multi-exp")
    assert (code, err) == (0, "")
    assert out.index(f"Parsing files in {tmp_path}/a") < out.index(f"Parsing files in {tmp_path}/b")
    assert out.endswith("===\nAverage performance\n* accuracy: 57.50%\n")
    (tmp_path / "c/seed1").mkdir(parents=True)
    code, out, err = run(tmp_path, "--multi-exp")
    assert out.endswith("Average performance (2 of 3 experiments)\n* accuracy: 57.50%\n")
    assert f"Nothing found in {tmp_path}/c" in err


@pytest.mark.parametrize("wording", ["Finish training", "Finished training"])
def test_both_wordings_and_the_last_result_counts(tmp_path, run, wording):
    log = train_log(tmp_path / "seed1", 12.5, wording)
    log.write_text(log.read_text() + block(13.5))
    assert "* accuracy: 13.50% +- 0.00%" in run(tmp_path)[1]


def test_evaluation_logs_need_their_flag(tmp_path, run):
    write_log(tmp_path / "seed1", block(45.0, macro_f1=40.0))
    code, _, err = run(tmp_path)
    assert code == 2 and "Nothing found" in err and "--test-log" in err
    assert "* macro_f1: 40.00%" in run(tmp_path, "--test-log", "--keyword", "macro_f1")[1]


def test_keyword_is_text_not_a_pattern(tmp_path, run):
    train_log(tmp_path / "seed1", 45.0)
    assert run(tmp_path, "--keyword", "acc.*")[0] == 2
    write_log(tmp_path / "seed1", "Finish training\n* top(1): 7.5%\n")
    assert "* top(1): 7.50%" in run(tmp_path, "--keyword", "top(1)")[1]


def test_run_without_log_or_result_is_reported_and_left_out(tmp_path, run):
    train_log(tmp_path / "seed1", 45.0)
    (tmp_path / "seed2").mkdir()
    write_log(tmp_path / "seed3", "epoch [1/10]\nTraceback\n")
    code, out, err = run(tmp_path)
    assert code == 0 and "* accuracy: 45.00% +- 0.00%" in out and out.count("file: ") == 1
    assert f"skipped: no log.txt in {tmp_path}/seed2\n" in err
    assert f"skipped: no accuracy behind 'Finish training' in {tmp_path}/seed3/log.txt\n" in err


def test_later_log_counts_only_without_a_result_in_the_first(tmp_path, run):
    finished = f"Finish training\n{block(99.0)}"
    write_log(tmp_path / "seed1", "epoch [1/10]\n")
    write_log(tmp_path / "seed1", "epoch [3/10]\n", "log.txt-2026-11-02-10-00-00")
    later = write_log(tmp_path / "seed1", finished, "log.txt-2026-11-01-10-00-00")
    train_log(tmp_path / "seed2", 45.0)
    write_log(tmp_path / "seed2", finished, "log.txt-2026-11-01-10-00-00")
    out = run(tmp_path)[1]
    assert f"file: {later}. accuracy: 99.00%" in out
    assert f"file: {tmp_path}/seed2/log.txt. accuracy: 45.00%" in out


def test_json(tmp_path, run):
    train_log(tmp_path / "exp/seed1", 45.0)
    train_log(tmp_path / "exp/seed2", 46.0)
    (tmp_path / "exp/seed3").mkdir()
    record = json.loads(run(tmp_path / "exp", "--json")[1])
    assert [r["value"] for r in record["runs"]] == [45.0, 46.0]
    assert (record["mean"], record["spread"], record["spread_is"]) == (45.5, 0.5, "population_std")
    assert record["skipped"] == [f"no log.txt in {tmp_path}/exp/seed3"]
    both = json.loads(run(tmp_path, "--json", "--multi-exp", "--ci95")[1])
    assert both["mean"] == 45.5 and both["experiments"][0]["spread_is"] == "ci95"


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], [".", "--multi-exp"]])
def test_nothing_there(tmp_path, run, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2 and (f"Nothing found in {arguments[0]}" in err or "not a folder" in err)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.booleans())
def test_mean_and_spread(values, ci95):
    experiment = Experiment("d", Query(ci95=ci95), [("f", value) for value in values])
    spread = np.sqrt(np.mean((np.array(values) - np.mean(values)) ** 2))
    spread *= 1.96 / np.sqrt(len(values)) if ci95 else 1
    assert experiment.record()["mean"] == pytest.approx(sum(values) / len(values))
    assert experiment.record()["spread"] == pytest.approx(spread, abs=1e-9)


def test_started_as_a_script_from_elsewhere(tmp_path):
    train_log(tmp_path / "seed1", 45.0)
    command = [sys.executable, str(ROOT / "parse_test_res.py"), "."]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out.startswith("Parsing files in .\nfile: ./seed1/log.txt. accuracy: 45.00%. \n===\n")


def test_reader_that_stops_early_is_no_error(tmp_path):
    train_log(tmp_path / "seed1", 45.0)
    script = f"{sys.executable} {ROOT / 'parse_test_res.py'} {tmp_path}"
    command = f"exec 3>&1; {{ {script}; echo $? >&3; }} | true"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("1\n", "")
