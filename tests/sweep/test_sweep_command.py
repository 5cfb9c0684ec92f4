"""The command line: what it runs, what it says, how it ends."""

import csv
import re

import pytest

import sweep


@pytest.fixture
def run(fake, tmp_path, monkeypatch, capsys):
    """Call it on the stand-in for train.py; returns exit code, output and messages."""
    for name in ("OUTPUT", "TRAINER", "CFG", "SEEDS", "DATASETS", "SHOTS", "L", "EPOCHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setattr("varprompt.commands.train.is_finished", lambda argv: True)

    def call(*words):
        code = sweep.main([words[0], "--output", str(tmp_path / "out"), *words[1:]])
        return code, *capsys.readouterr()

    return call


FEW = ("base2new", "--datasets", "dtd", "--seeds", "1", "2", "--jobs", "2")


def test_a_table(run, tmp_path):
    code, _, said = run(*FEW, "--trainers", "VPT", "CoOp")
    assert (code, "8 of 8 runs are complete" in said) == (0, True), said
    table = list(csv.DictReader((tmp_path / "out/sweep.csv").read_text().splitlines()))
    assert len(table) == 8 and {row["state"] for row in table} == {"done"}
    code, _, said = run(*FEW, "--trainers", "VPT", "CoOp")
    assert code == 0 and "8 runs, 8 of them finished before" in said
    assert all(f.read_text().count("\n") == 1 for f in (tmp_path / "out").rglob("calls"))


def test_failures_are_listed_and_the_exit_code_tells(run, monkeypatch):
    monkeypatch.setenv("FAKE_seed2", "2")
    code, _, said = run(*FEW)
    assert code == 1 and "2 of 4 runs are complete" in said
    assert said.endswith(
        "Failed or not run (2):\n"
        "    VPT base2new_train.sh dtd 2: it is bad\n"
        "    VPT base2new_test.sh dtd 2: not run: its training failed\n"
    )


def test_a_grid(run, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("datasets: dtd\nseeds: [1]\ngrid: {TRAINER.VPT.L: [1, 5]}")
    code, printed, _ = run(str(file), "OPTIM.LR", "0.1")
    assert code == 0
    assert re.search(r"L-1 +2 +50\.00 *\n", printed) and re.search(r"L-5 +2 .*\+0\.00", printed)
    calls = [f.read_text() for f in (tmp_path / "out").rglob("calls")]
    assert len(calls) == 4 and all('"OPTIM.LR", "0.1", "TRAINER.VPT.L"' in call for call in calls)


def test_states_are_listed(run, monkeypatch):
    code, printed, _ = run(*FEW, "--list")
    assert code == 1 and printed.count("not begun") == 4
    monkeypatch.setenv("FAKE_seed2", "2")
    run(*FEW)
    code, printed, _ = run(*FEW, "--list")
    assert code == 1 and printed.endswith("2 of 4 runs are finished\n")
    assert "VPT base2new_train.sh dtd 2  unfinished: it is bad\n" in printed


WRONG = """
base3new | choose from base2new, cross, fewshot, zeroshot, did you mean 'base2new'?; or give a .yaml
no.yaml | configuration file no.yaml does not exist
base2new --datasets dtdd | did you mean 'dtd'?
base2new --trainers vpt | TRAINER is 'vpt'; choose from
base2new --seeds x | SEED is 'x'
base2new --jobs -1 | --jobs is -1
base2new --retries 1001 | --retries is 1001
base2new --slurm partition | give NAME=VALUE
base2new --launcher slurm | needs SLURM's sbatch
base2new OPTIM.LR | there is no VALUE behind the last KEY
"""


@pytest.mark.parametrize("case", WRONG.strip().splitlines())
def test_what_is_wrong_is_one_line(case, run, monkeypatch):
    monkeypatch.setenv("DATASETS", "dtd")
    words, _, message = case.partition(" | ")
    first, *rest = words.split()
    code, printed, said = run(first, "--jobs", "1", *rest)
    assert (code, printed) == (2, "") and said.count("\n") == 1
    assert said.startswith("error: ") and message in said


def test_wrong_flags(run, capsys):
    with pytest.raises(SystemExit) as end:
        sweep.main(["base2new", "--trainer", "VPT"])
    assert end.value.code == 2 and "did you mean --trainers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sweep.main(["base2new", "--seeds", "1", "OPTIM.LR", "0.1"])
    assert "put another flag between" in capsys.readouterr().err


def test_options_that_no_run_would_take_are_said_before_any_begins(run, tmp_path):
    code, _, said = run(*FEW, "TRAINER.VPT.LL", "3", "OPTIM.LR", "fast")
    assert code == 2 and not (tmp_path / "out").exists()
    assert "did you mean TRAINER.VPT.L?" in said and "OPTIM.LR is 'fast'" in said
    code, _, said = run("base2ne", "--datasets", "dtd")
    assert code == 2 and "did you mean 'base2new'?" in said
