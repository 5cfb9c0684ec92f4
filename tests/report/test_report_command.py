"""The command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from outputs import full_table

import report

ROOT = Path(__file__).resolve().parents[2]


def test_command_line(output, tmp_path, capsys):
    full_table(output)
    output.log("scratch", 45.0)
    folder = tmp_path / "tables"
    assert report.main([str(output.root), "--format", "csv", "--write", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("section,method,source,Base") and "scratch: left out" in err
    assert sorted(path.name for path in folder.iterdir()) == [
        "base2new.csv", "base2new.png", "base2new.tex", "base2new_by_data_set.png", "report.md",
    ]  # fmt: skip
    assert (folder / "base2new.csv").read_text() == out[:-1]
    assert report.main([str(output.root), "--no-published", "--tables", "base2new"]) == 0
    text = capsys.readouterr().out
    assert "Average over 11 data sets" in text and "published" not in text


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], [".", "--tables", "domain"]])
def test_nothing_to_report(output, monkeypatch, capsys, arguments):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    if arguments == ["."]:
        output.root = output.root / "empty"
        output.root.mkdir()
    monkeypatch.chdir(output.root)
    assert report.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and ("is not a folder" in err or "no results for" in err)


def test_tables_asked_for_are_named_when_there_are_none(output, capsys):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    assert report.main([str(output.root), "--tables", "cross_dataset", "domain"]) == 2
    said = f"the tables asked for (cross_dataset, domain) in {output.root}; there are results for"
    assert capsys.readouterr().err == f"error: no results for {said} base2new\n"


def test_reader_that_stops_early_is_no_error(output):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    command = f"exec 3>&1; {{ {sys.executable} report.py {output.root}; echo $? >&3; }} | true"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("1\n", "")


def test_needs_neither_torch_nor_a_display(output):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    code = (
        "import sys, report\n"
        f"code = report.main([{str(output.root)!r}, '--write', {str(output.root / 'out')!r}])\n"
        "print(code, sorted({'torch', 'dassl', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stderr=subprocess.DEVNULL
    )
    assert out.splitlines()[-1] == "0 []"
