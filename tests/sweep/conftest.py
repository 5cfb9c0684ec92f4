"""Cells that a stand-in for train.py runs."""

import sys

import pytest
from stand_in import FAKE

from varprompt.sweep import work
from varprompt.sweep.cells import Cell


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put the stand-in in train.py's place; returns the function that makes a cell for it."""
    file = tmp_path / "fake.py"
    file.write_text(FAKE)
    monkeypatch.setattr(work, "COMMAND", (sys.executable, "-S", "-E", str(file)))

    def cell(name, needs="", ends="", options=()):
        if ends:
            monkeypatch.setenv(f"FAKE_{name}", ends)
        folder = tmp_path / "out" / name
        return Cell(name, ("--seed", "1", "--output-dir", str(folder), *options), needs)

    return cell
