"""Unlucky and hostile folders of results: named and left out, and never a traceback."""

import json
import os
import shutil

import pytest
from outputs import BASE, NEW, says
from payloads import NAMES, NUMBERS, TEXTS, VALUES, called, strange_files

import parse_test_res
import report

GOOD = says(part="base", shots=16) | {"accuracy": 90.0, "nll": 0.4, "ece": 3.0, "n_total": 50}
RUN = f"{BASE.format('digits')}/VPT/c"
KEYS = (*GOOD, "per_class", "identity", "weights_sha256", "checkpoint_sha256", "split", "macro_f1")
MATTER = ("accuracy", "nll", "ece", "macro_f1", "trainer", "dataset", "shots", "seed", "n_total")


@pytest.mark.parametrize("place", [f"{RUN}/seed1", "elsewhere"])
@pytest.mark.parametrize("name", TEXTS)
def test_results_that_are_none(name, place, output, capsys):
    output.json(place, 50.0, **says())
    (output.root / place / "results.json").write_bytes(TEXTS[name])
    code, out, err = called(report.main, [output.root], capsys)
    assert (code, out) == (2, "")
    assert f"{place}/results.json: left out, " in err
    assert "1 of 1 results left out" in err and "error: no results for a table" in err
    assert len(err) < 2000


@pytest.mark.parametrize("key", KEYS)
def test_values_that_are_none(key, output, capsys):
    """Each value in a run of its own, beside a good one."""
    output.json(f"{RUN}/seed0", 50.0)
    for i, value in enumerate(VALUES.values(), 1):
        folder = output.root / RUN / f"seed{i}"
        folder.mkdir()
        content = GOOD | {"seed": i, key: value}
        (folder / "results.json").write_text(json.dumps(content))
    code, out, err = called(report.main, [output.root], capsys)
    assert code == 0 and "VPT" in out
    named = sum(f"seed{i}/results.json: left out" in err for i in range(len(VALUES) + 1))
    if key in MATTER:
        numbers = {"negative", "above"} if key == "nll" else {"above"} if key == "n_total" else {}
        assert named >= len(VALUES) - len(numbers) - 1, err
    assert named == err.count(": left out, ")


@pytest.mark.parametrize("text", NUMBERS, ids=ascii)
def test_log_lines_that_are_no_result(text, output, capsys):
    folder = output.root / RUN / "seed1"
    output.log(f"{RUN}/seed1", 50.0, "Finish training")
    with open(folder / "log.txt", "a") as log:
        log.write(f"* accuracy: {text}%\n")
    code, out, err = called(report.main, [output.root], capsys)
    assert code == 2 and "is no result" in err and not out
    code, out, err = called(parse_test_res.main, [folder.parent], capsys)
    assert code == 2 and "is no result" in err and not out
    output.log(f"{RUN}/seed2", 60.0, "Finish training")
    code, out, err = called(parse_test_res.main, [folder.parent], capsys)
    assert code == 0 and "* accuracy: 60.00% +- 0.00%" in out and "seed1/log.txt: its acc" in err


@pytest.mark.parametrize("name", TEXTS)
def test_logs_of_anything(name, output, capsys):
    output.log(f"{RUN}/seed1", 50.0)
    (output.root / RUN / "seed1/log.txt").write_bytes(TEXTS[name])
    assert called(report.main, [output.root], capsys)[0] == 2
    assert called(parse_test_res.main, [output.root / RUN], capsys)[0] == 2


def test_strange_files_beside_and_instead(output, tmp_path, capsys):
    output.json(f"{RUN}/seed1", 50.0)
    strange_files(output.root / RUN)
    for i, path in enumerate(strange_files(tmp_path).values(), 2):
        for file in ("results.json", "log.txt"):
            folder = output.root / RUN / f"seed{i}{'0' * (file[0] == 'l')}"
            folder.mkdir()
            (folder / file).symlink_to(path)
    code, out, err = called(report.main, [output.root], capsys)
    assert code == 0 and "50.00" in out
    assert f"{RUN}/loop: left out, not readable (Too many levels of symbolic links)" in err
    code, out, err = called(parse_test_res.main, [output.root / RUN], capsys)
    assert code == 0 and "1.00%" in out and "loop is not readable" in err


def test_links_to_folders_are_followed_once(output, tmp_path, capsys):
    shutil.rmtree(output.root, ignore_errors=True)
    elsewhere = type(output)(tmp_path / "disk")
    elsewhere.json(f"{RUN}/seed1", 50.0)
    output.root.mkdir()
    (output.root / "base2new").symlink_to(tmp_path / "disk/base2new")
    (output.root / "again").symlink_to(output.root)
    (output.root / "all").symlink_to("/")
    (tmp_path / "disk/base2new/up").symlink_to(tmp_path / "disk/base2new")
    code, out, err = called(report.main, [output.root], capsys)
    assert code == 0 and "50.00" in out and err == ""


def test_very_deep_folders(output, capsys):
    output.json(f"{RUN}/seed1", 50.0)
    folders = [os.open(output.root, os.O_RDONLY)]
    for _ in range(50):
        os.mkdir("deep" * 25, dir_fd=folders[-1])
        folders.append(os.open("deep" * 25, os.O_RDONLY, dir_fd=folders[-1]))
    code, out, err = called(report.main, [output.root], capsys)
    assert code == 0 and "not readable (File name too long)" in err
    for folder in reversed(folders[:-1]):  # pytest could not remove it
        os.rmdir("deep" * 25, dir_fd=folder)
    for folder in folders:
        os.close(folder)


def test_names_of_folders(output, tmp_path, capsys):
    """As trainer, configuration and data set; also in figures and LaTeX."""
    places = [f"{BASE.format('digits')}/X{i}/%s/seed1" for i in range(len(NAMES))]
    places += [place.replace("train_base", "test_new") for place in places]
    places += [f"{half.format('%s')}/%s/c/seed1" for half in (BASE, NEW) for _ in NAMES[:8]]
    for i, place in enumerate(places):
        name = NAMES[i % len(NAMES)] if i < 2 * len(NAMES) else NAMES[(i - 2 * len(NAMES)) % 8]
        folder = os.fsencode(output.root / place).replace(b"%s", name)
        os.makedirs(folder)
        with open(os.path.join(folder, b"log.txt"), "w") as log:
            log.write("Finish training\n=> result\n* accuracy: 50.0%\n")
    code, out, err = called(report.main, [output.root, "--write", tmp_path / "tables"], capsys)
    assert code == 0 and r"\xff\xfe" in out and r"a\nb" in out and "[bold]" in out
    assert not {"\x1b", "\t"} & set(out + err)
    assert {p.suffix for p in (tmp_path / "tables").iterdir()} == {".md", ".csv", ".tex", ".png"}
    for text in ("markdown", "csv", "latex"):
        assert called(report.main, [output.root, "--format", text], capsys)[0] == 0


@pytest.mark.parametrize(
    "folder",
    [
        "[red]",
        "[]",
        "$",
        "_",
        "x" * 5000,
        "dtd",
        "a: b",
        "猫",
        '"',
        '"a": ' + "[" * 2000 + '"',
        '"a": [&a [x, x], &b [*a, *a], *b, "',
    ],
)
def test_folders_of_data_sets(folder, output, tmp_path, capsys):
    for seed in (1, 2):
        config = f"DATASET:\n  NAME: Folder\n  PATH: {folder}\nOPTIM:\n  LR: 1\n"
        run = says("Folder", seed=seed) | {"config": config}
        output.json(f"run{seed}", 50.0, **run)
    code, out, err = called(report.main, [output.root, "--write", tmp_path / "tables"], capsys)
    assert code == 0 and err.count("left out") == 0
    assert folder[:20] in out and "DTD" not in out


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_seed_folders(name, output, capsys):
    folder = os.path.join(os.fsencode(output.root), name)
    os.makedirs(folder)
    with open(os.path.join(folder, b"log.txt"), "w") as log:
        log.write("Finish training\n=> result\n* accuracy: 50.0%\n")
    for flags in ([], ["--json"], ["--keyword", os.fsdecode(name)]):
        code, out, _ = called(parse_test_res.main, [output.root, *flags], capsys)
        assert code == (2 if "--keyword" in flags else 0)
        assert "\x1b" not in out
    assert called(parse_test_res.main, [output.root.parent, "--multi-exp"], capsys)[0] == 0


TARGETS = {
    "a file": lambda folder: folder / "file",
    "below a file": lambda folder: folder / "file" / "tables",
    "read-only": lambda folder: "/proc/tables",
    "loop": lambda folder: folder / "loop",
    "too long": lambda folder: folder / ("x" * 300),
}


@pytest.mark.parametrize("target", TARGETS)
def test_where_nothing_can_be_written(target, output, tmp_path, capsys):
    output.json(f"{RUN}/seed1", 50.0)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    arguments = [output.root, "--write", TARGETS[target](tmp_path)]
    code, out, err = called(report.main, arguments, capsys)
    assert code == 2 and err.splitlines()[-1].startswith("error: [Errno")


@pytest.mark.parametrize("tool", [report, parse_test_res], ids=["report", "parse_test_res"])
@pytest.mark.parametrize("directory", ["", "not there", "file", "\udcff", "loop", "x" * 5000])
def test_folders_that_are_none(tool, directory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    code, out, err = called(tool.main, [directory], capsys)
    assert code == 2 and not out and "is not a folder" in err
