"""The tables as text, Markdown and CSV."""

import csv
import io
from pathlib import Path

from outputs import SAMPLE

from varprompt.report.render import to_csv, to_markdown, to_text

ROOT = Path(__file__).resolve().parents[2]


def test_markdown():
    lines = to_markdown(SAMPLE).splitlines()
    assert lines[0] == "## A & B"
    assert lines[4] == "| Set_1 | VPT | 80.12 ±1.50 | 70.00 (1 of 3 seeds) |"
    assert lines[5] == "| *Set_1* | *CoOp (published)* | *82.00* | *-* |"
    assert lines[6] == "| Set_2 | VPT | missing | 60.00 ±0.25 |"
    assert lines[-1] == "- note ± one"


def test_csv_is_for_machines():
    rows = list(csv.DictReader(io.StringIO(to_csv(SAMPLE))))
    assert [row["source"] for row in rows] == ["measured", "published", "measured"]
    first = rows[0]
    assert (first["Base"], first["Base ci95"], first["Base seeds"]) == ("80.1230", "1.5000", "3")
    assert rows[1]["Base seeds"] == ""
    assert (rows[2]["Base"], rows[2]["Base note"]) == ("", "missing")


def test_text_fits_its_terminal():
    wide = to_text(SAMPLE)
    assert "80.12 ±1.50" in wide and "note ± one" in wide and "\x1b" not in wide
    narrow = to_text(SAMPLE, width=40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "\x1b[" in to_text(SAMPLE, width=80, color=True)
