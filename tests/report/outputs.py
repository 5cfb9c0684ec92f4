"""Folders of results for the tests of the report."""

import json
from pathlib import Path

from varprompt.report.cells import Cell
from varprompt.report.published import ELEVEN
from varprompt.report.runs import find_runs
from varprompt.report.tables import Row, Table, all_tables

BASE = "base2new/train_base/{}/shots_16"
NEW = "base2new/test_new/{}/shots_16"


class Output:
    """A folder of results, written run by run."""

    def __init__(self, root: Path):
        self.root = root

    def log(self, path: str, accuracy: float, end: str = "", name: str = "log.txt") -> None:
        """A log in Dassl's wording; `end` closes the training before the test."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        result = f"=> result\n* total: 1,692\n* accuracy: {accuracy:.1f}%\n* error: 9.9%\n"
        (folder / name).write_text(f"epoch [1/1]\n{end}\n{result}")

    def json(self, path: str, accuracy: float, **more) -> None:
        """A results.json of this project, beside a log that says something else."""
        self.log(path, 1.0, "Finish training")
        content = {"accuracy": accuracy, "macro_f1": accuracy, "nll": 1.0} | more
        (self.root / path / "results.json").write_text(json.dumps(content))

    def halves(self, dataset: str, tail: str, base: float, new: float, **more) -> None:
        self.json(f"{BASE.format(dataset)}/{tail}", base, **more)
        self.json(f"{NEW.format(dataset)}/{tail}", new, **more)

    def tables(self, **options) -> dict[str, Table]:
        found = find_runs(self.root)
        assert found.problems == []
        return {table.name: table for table in all_tables(found.runs, **options)}


def cells(table: Table, section: str, method: str) -> dict[str, Cell]:
    """The cells of one row by column."""
    rows = [row for row in table.rows if (row.section, row.method) == (section, method)]
    assert len(rows) == 1, [(row.section, row.method) for row in table.rows]
    return dict(zip(table.columns, rows[0].cells, strict=True))


def says(dataset="Digits", seed=1, lr=0.06, trainer="VPT", path="''", **more) -> dict:
    """What results.json says of its run."""
    config = (
        f"DATASET:\n  NAME: {dataset}\n  PATH: {path}\n  SOURCE_DOMAINS: []\nOPTIM:\n  LR: {lr}\n"
        f"  STEPSIZE:\n  - -1\nOUTPUT_DIR: out{seed}\nRESUME: ''\nSEED: {seed}\nVERSION: 1\n"
    )
    run = {"trainer": trainer, "dataset": dataset, "subsample_classes": "all", "shots": 1}
    return run | {"seed": seed, "config": config} | more


def full_table(output, leave_out=()):
    """VPT on all eleven sets and three seeds; the accuracy tells set and seed."""
    for i, dataset in enumerate(ELEVEN):
        for seed in (1, 2, 3):
            if (dataset, seed) not in leave_out:
                output.halves(dataset, f"VPT/c/seed{seed}", 60.0 + i + seed, 40.0 + 2 * i - seed)
    return output.tables()["base2new"]


SAMPLE = Table(
    "base2new",
    "A & B",
    ["Base", "100 % | new"],
    [
        Row("Set_1", "VPT", [Cell(80.123, 1.5, 3), Cell(70.0, None, 1, "1 of 3 seeds")]),
        Row("Set_1", "CoOp (published)", [Cell(82.0), Cell(note="-")], published=True),
        Row("Set_2", "VPT", [Cell(note="missing"), Cell(60.0, 0.25, 3)]),
    ],
    ["note ± one"],
)
