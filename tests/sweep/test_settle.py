"""What is settled: which runs, what is said before and after them."""

import json

import pytest

import sweep
from varprompt.errors import ConfigError
from varprompt.report.layout import Method
from varprompt.report.runs import Run
from varprompt.sweep import settle as settling
from varprompt.sweep.settle import METHODS, OURS, differences, settle


@pytest.fixture
def run(fake, tmp_path, monkeypatch, capsys):
    """Call it on the stand-in for train.py; returns exit code, output and messages."""
    for name in ("TRAINER", "CFG", "SEEDS", "DATASETS", "SHOTS", "L", "EPOCHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setattr("varprompt.commands.train.is_finished", lambda argv: True)
    shown = []
    monkeypatch.setattr(settling, "show", shown.append)

    def call(*words):
        code = sweep.main(["settle", "--datasets", "dtd", "eurosat", "--seeds", "1", "2", *words])
        return code, *capsys.readouterr(), shown

    return call


def test_the_smallest_first_then_everything_once(run, tmp_path):
    code, _, said, shown = run()
    assert code == 0 and shown == [tmp_path / "out"]
    n_runs = 2 * 2 + 5 * (2 * 2 * 2)  # zero-shot has neither seeds nor training
    assert f"settle: {n_runs} runs of 6 methods into {tmp_path}/out, 0 finished before" in said
    assert "settle: the other runs will take" in said and "Ctrl-C loses nothing" in said
    files = list((tmp_path / "out").rglob("calls"))
    assert len(files) == n_runs and all(f.read_text().count("\n") == 1 for f in files)
    first = said.split("settle: the other runs")[0]
    assert first.count("2 of 2 runs are complete") == 6  # eurosat, which has fewer classes
    code, _, said, _ = run()
    assert code == 0 and f"{n_runs} finished before" in said and "will take" not in said


def test_a_failed_method_does_not_hide_the_others(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_seed2", "2")  # not of the first runs, which are of seed 1
    code, _, said, shown = run()
    assert code == 1 and shown and said.count("Failed or not run") == 5
    # what a run took is known by the next call, too
    (tmp_path / "out/sweep.csv").unlink()
    times = tmp_path / "out/settle_seconds.json"
    known = json.loads(times.read_text())
    assert len(known) == 6 and known["CoOp vit_b16_ep50_ctxv1"] > 0
    known.pop("CoOp vit_b16_ep50_ctxv1")
    times.write_text(json.dumps({name: 3600.0 for name in known}))
    monkeypatch.delenv("FAKE_seed2")
    code, _, said, _ = run()
    assert code == 0 and "CoOp vit_b16_ep50_ctxv1 was begun by another call: no forecast of" in said
    # 16 runs are left of four methods with seed 2: two of each data set, dtd has more classes
    assert "will take 16.0 h if the images decide, and up to" in said
    times.write_text("{")
    assert settling._read_times(times) == {}


@pytest.mark.parametrize(
    "words", [["--trainers", "CoOp"], ["--cfg", "embedded"], ["--launcher", "slurm"]]
)
def test_what_is_its_own(words):
    with pytest.raises(ConfigError, match="settle has methods of its own"):
        settle(words)


def test_states_are_listed(run):
    code, printed, _, shown = run("--list")
    assert code == 1 and printed.count("not begun") == 44 and not shown


def runs_of(entry, dataset, seed, base, new, ece):
    method = Method(entry.trainer, entry.config or "own", shots=16)
    return [
        Run(method, dataset, dataset, part, seed, {"accuracy": accuracy, "ece": ece}, "file")
        for part, accuracy in (("base", base), ("new", new))
    ]


def test_differences_are_paired_by_data_set_and_seed():
    zero_shot, coop, ours = METHODS[0], METHODS[1], METHODS[4]
    found = [
        *runs_of(zero_shot, "dtd", None, 50, 50, 9),
        *runs_of(zero_shot, "eurosat", None, 40, 40, 5),
    ]
    for seed, gain in ((1, 1.0), (2, 3.0)):
        for dataset, more in (("dtd", 0.0), ("eurosat", 2.0)):
            found += runs_of(coop, dataset, seed, 60 + seed, 60 + seed, 8)
            found += runs_of(ours, dataset, seed, *[60 + seed + gain + more] * 2, 6)
    found += runs_of(coop, "ucf101", 1, 10, 10, 8)  # without its pair
    text = differences(found)
    assert f"{OURS[0]} minus" in text and OURS[1] not in text
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "+3.00 ± 12.71 (2 sets)" in lines["CoOp vit_b16_ep50_ctxv1"]
    assert "-2.00 ± 0.00 (2 sets)" in lines["CoOp vit_b16_ep50_ctxv1"]
    assert "+19.50" in lines["ZeroshotCLIP own"]
    found += runs_of(METHODS[5], "dtd", 1, 70, 70, 6)
    first, second = differences(found).split(f"{OURS[1]} minus")
    assert f"{OURS[1]} " in first and f"{OURS[0]} " in second and "+8.00 (1 sets)" in second


def test_an_interruption_ends_all(run, monkeypatch, tmp_path):
    started = []

    def interrupted(words):
        started.append(words[words.index("--trainers") + 1])
        return 75 if len(started) == 8 else 0  # after the six trials the second method's runs

    monkeypatch.setattr(settling, "sweep", interrupted)
    code, _, _, shown = run()
    assert (code, len(started), shown) == (75, 8, [])
    assert started[6:] == ["ZeroshotCLIP", "CoOp"]


def test_at_the_end_tables_beside_the_published_rows_and_differences(tmp_path, capsys):
    for dataset, gain in (("dtd", 1.0), ("eurosat", 3.0)):
        for entry, base in ((METHODS[1], 70.0), (METHODS[4], 70.0 + gain)):
            for part, folder in (("train_base", base), ("test_new", base - 10)):
                place = tmp_path / "base2new" / part / dataset / "shots_16" / entry.trainer
                place = place / entry.config / "seed1"
                place.mkdir(parents=True)
                content = {"accuracy": folder, "nll": 1.0, "ece": 5.0 + gain, "macro_f1": folder}
                (place / "results.json").write_text(json.dumps(content))
                log = f"Finish training\n=> result\n* total: 9\n* accuracy: {folder:.1f}%\n"
                (place / "log.txt").write_text(log)
    settling.show(tmp_path)
    printed = capsys.readouterr().out
    for word in (
        "VPT (published)",
        "ECE new",
        " H ",
        f"{OURS[0]} minus",
        "CoOp vit_b16_ep50_ctxv1",
    ):
        assert word in printed, word
    assert "+2.01 ± 12.78 (2 sets)" in printed and "± half of the 95 % interval" in printed
    assert (tmp_path / "settled/base2new.csv").is_file()
