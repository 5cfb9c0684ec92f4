"""How rows are written: read back by other programs they are the same."""

import csv
import io
import json

import pytest

from varprompt.predict.rows import Row, make_writer

ROWS = [
    Row('a "b", c.png', (("king, of hearts", 0.75), ("dög", 0.125)), (1.5, 1.0, 0.5), True),
    Row("x" * 60 + "/y\n.png", (("sun", 2 / 3), ("x", 0.25)), (0.25, 0.25, 0.0), False),
    Row("z.png", (("sun", 1.0), ("x", 1e-30)), (0.0, 0.0, 0.0), None),
]


def written(kind):
    file = io.StringIO(newline="")
    writer = make_writer(kind, file, 2, ["king, of hearts", "dög", "sun", "x"])
    writer.write(ROWS[:1])
    writer.write(ROWS[1:])
    return file.getvalue()


def test_csv():
    head, *lines = csv.reader(io.StringIO(written("csv"), newline=""))
    assert head == ["file", "class_1", "probability_1", "class_2", "probability_2", "total",
                    "aleatoric", "epistemic", "unsure"]  # fmt: skip
    for line, row in zip(lines, ROWS, strict=True):
        assert line[0] == row.path and line[1:4:2] == [name for name, _ in row.top]
        numbers = [*(p for _, p in row.top), *row.uncertainty]
        assert [float(line[i]) for i in (2, 4, 5, 6, 7)] == pytest.approx(numbers, rel=1e-5)
    assert [line[-1] for line in lines] == ["yes", "no", ""]


def test_json_lines():
    found = [json.loads(line) for line in written("jsonl").splitlines()]
    for said, row in zip(found, ROWS, strict=True):
        assert said["file"] == row.path and said["unsure"] is row.unsure
        assert [(t["class"], t["probability"]) for t in said["top"]] == list(row.top)
        assert tuple(said["uncertainty"].values()) == row.uncertainty


def test_table_is_aligned_and_shows_no_control_characters():
    head, *lines = written("table").splitlines()
    assert len(lines) == 3
    assert {line.index("%") for line in lines} == {head.index("prob") + 3}
    assert lines[0].endswith("  unsure") and not lines[1].endswith("unsure")
    assert lines[1].startswith("...xxx") and "\\n.png" in lines[1]
