"""The report: which runs are found, what is averaged, what is called missing, how it is written."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

import report
from varprompt.report.cells import Cell
from varprompt.report.figures import write_figures
from varprompt.report.published import ELEVEN, VARIANTS, published
from varprompt.report.render import escape, to_csv, to_latex, to_markdown, to_text
from varprompt.report.runs import find_runs
from varprompt.report.stats import harmonic, mean_interval
from varprompt.report.tables import Row, Table, all_tables

ROOT = Path(__file__).resolve().parents[1]
OFFICIAL = "vit_b16_c4_ep10_batch1_ctxv1"
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


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "output")


def cells(table: Table, section: str, method: str) -> dict[str, Cell]:
    """The cells of one row by column."""
    rows = [row for row in table.rows if (row.section, row.method) == (section, method)]
    assert len(rows) == 1, [(row.section, row.method) for row in table.rows]
    return dict(zip(table.columns, rows[0].cells, strict=True))


# ---------------------------------------------------------------- finding runs

LAYOUTS = [
    # path, end of training, (trainer, config, variant, shots, source, dataset, part, seed)
    (
        "base2new/train_base/dtd/shots_16/VPT/embedded/seed1",
        "Finish training",
        ("VPT", "embedded", "", 16, "dtd", "dtd", "base", 1),
    ),
    (
        "base2new/test_new/dtd/shots_4/CoCoOp/x/seed12",
        "",
        ("CoCoOp", "x", "", 4, "dtd", "dtd", "new", 12),
    ),
    (
        "base2new/train_base/dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1",
        "Finished training",
        ("MaPLe", "vit_b16_c2_ep5_batch4_2ctx", "", 16, "dtd", "dtd", "base", 1),
    ),
    (
        "base2new/train_base/dtd/mcmc_40_epochs_10/shots_16/VPT/c/seed3",
        "Finish training",
        ("VPT", "c", "mcmc_40_epochs_10", 16, "dtd", "dtd", "base", 3),
    ),
    (
        "base2new/test_new/dtd/shots_16_ctx_4_arch_rn50/VPT/c/seed3",
        "",
        ("VPT", "c", "ctx_4_arch_rn50", 16, "dtd", "dtd", "new", 3),
    ),
    (
        "imagenet/CoCoOp/x_16shots/seed2",
        "Finish training",
        ("CoCoOp", "x", "", 16, "imagenet", "imagenet", "all", 2),
    ),
    (
        "imagenet/mcmc_10_epochs_10/VPT/x_16shots/seed2",
        "Finish training",
        ("VPT", "x", "mcmc_10_epochs_10", 16, "imagenet", "imagenet", "all", 2),
    ),
    (
        "evaluation/CoCoOp/x_16shots/imagenet_a/seed2",
        "",
        ("CoCoOp", "x", "", 16, "imagenet", "imagenet_a", "all", 2),
    ),
    (
        "evaluation/CoOp/rn50_ep50_16shots/nctx16_cscFalse_ctpend/dtd/seed1",
        "",
        ("CoOp", "rn50", "nctx16_cscFalse_ctpend", 16, "imagenet", "dtd", "all", 1),
    ),
    (
        "dtd/CoOp/rn50_8shots/nctx16_cscFalse_ctpend/seed1",
        "Finish training",
        ("CoOp", "rn50", "nctx16_cscFalse_ctpend", 8, "dtd", "dtd", "all", 1),
    ),
    ("ZeroshotCLIP/vit_b16/dtd", "", ("ZeroshotCLIP", "vit_b16", "", 0, "", "dtd", "all", None)),
    (
        "ZeroshotCLIP2/rn50/dtd/new",
        "",
        ("ZeroshotCLIP2", "rn50", "", 0, "", "dtd", "new", None),
    ),
]


@pytest.mark.parametrize("path, end, expected", LAYOUTS, ids=[path for path, *_ in LAYOUTS])
def test_every_layout_is_understood(output, path, end, expected):
    output.log(path, 45.5, end)
    for root in (output.root, output.root / path.split("/")[0]):
        found = find_runs(root)
        assert found.problems == []
        (run,) = found.runs
        m = run.method
        got = (m.trainer, m.config, m.variant, m.shots, run.source, run.dataset, run.part, run.seed)
        assert got == expected
        assert (run.metrics, run.exact) == ({"accuracy": 45.5}, False)


def test_full_precision_is_preferred(output):
    output.json(f"{BASE.format('dtd')}/VPT/c/seed1", 45.5678, ece=7.25)
    (run,) = find_runs(output.root).runs
    assert run.metrics == {"accuracy": 45.5678, "macro_f1": 45.5678, "nll": 1.0, "ece": 7.25}
    assert run.exact and run.file.endswith("results.json")


def test_training_log_needs_the_end_of_training(output):
    path = f"{BASE.format('dtd')}/VPT/c/seed1"
    output.log(path, 45.5)
    assert "unfinished" in find_runs(output.root).problems[0]
    output.log(path, 46.5, "Finish training", "log.txt-2026-11-01-10-00-00")
    assert find_runs(output.root).runs[0].metrics == {"accuracy": 46.5}


@pytest.mark.parametrize(
    "field, value",
    [("trainer", "CoOp"), ("seed", 2), ("subsample_classes", "new"), ("shots", 4)],
)
def test_results_that_contradict_their_path_are_left_out(output, field, value):
    output.json(f"{BASE.format('dtd')}/VPT/c/seed1", 45.0, **{field: value})
    found = find_runs(output.root)
    assert found.runs == [] and f"{field} is {value!r}" in found.problems[0]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"accuracy": null}', '{"error": 3.0}'])
def test_damaged_results_are_named(output, text):
    path = f"{BASE.format('dtd')}/VPT/c/seed1"
    output.json(path, 45.0)
    (output.root / path / "results.json").write_text(text)
    found = find_runs(output.root)
    assert found.runs == [] and "results.json: left out" in found.problems[0]


def test_strange_places_and_second_copies_are_named(output):
    output.log("scratch", 45.0)
    output.log(f"{NEW.format('dtd')}/VPT/c/seed1", 45.0)
    output.log(f"copy/{NEW.format('dtd')}/VPT/c/seed1", 46.0)
    found = find_runs(output.root)
    assert len(found.runs) == 1
    assert sum("same run as" in text for text in found.problems) == 1
    assert sum("says nothing about" in text for text in found.problems) == 1


def says(dataset="Digits", seed=1, lr=0.06, trainer="VPT", path="''", **more) -> dict:
    """What results.json says of its run."""
    config = (
        f"DATASET:\n  NAME: {dataset}\n  PATH: {path}\n  SOURCE_DOMAINS: []\nOPTIM:\n  LR: {lr}\n"
        f"  STEPSIZE:\n  - -1\nOUTPUT_DIR: out{seed}\nRESUME: ''\nSEED: {seed}\nVERSION: 1\n"
    )
    run = {"trainer": trainer, "dataset": dataset, "subsample_classes": "all", "shots": 1}
    return run | {"seed": seed, "config": config} | more


def test_results_outside_of_the_layout_say_what_they_are(output):
    output.json("digits", 50.0, **says())
    output.json("again", 60.0, **says(seed=2))
    output.json("faster", 70.0, **says(lr=0.1))
    output.json("textures", 40.0, **says("DescribableTextures"))
    output.json("pets", 42.0, **says("OxfordPets"))
    output.json("mine", 43.0, **says("Folder", path="data/mine"))
    output.json("zero", 30.0, **says(trainer="ZeroshotCLIP", checkpoint_sha256=""))
    runs = {Path(run.file).parent.name: run for run in find_runs(output.root).runs}
    names = ("digits", "digits", "digits", "dtd", "oxford_pets", "data/mine", "digits")
    order = ("digits", "again", "faster", "textures", "pets", "mine", "zero")
    assert [runs[folder].dataset for folder in order] == list(names)
    same = runs["digits"]
    assert (same.method.trainer, same.method.shots, same.source, same.part, same.seed) == (
        "VPT", 1, "digits", "all", 1,
    )  # fmt: skip
    assert same.method == runs["again"].method == runs["textures"].method == runs["mine"].method
    assert same.method != runs["faster"].method
    assert (runs["zero"].seed, runs["zero"].source, runs["zero"].method.shots) == (None, "", 0)
    table = output.tables()["fewshot"]
    means = {r.method: r.cells[1].mean for r in table.rows if r.section == "digits"}
    assert sorted(mean for mean in means.values() if mean) == [55.0, 70.0], means


def test_test_elsewhere_of_a_checkpoint_is_not_called_trained_there(output):
    output.json("transfer", 50.0, **says(checkpoint_sha256="ab"))
    assert "on what it was trained" in find_runs(output.root).problems[0]
    (output.root / "transfer/prompt_learner").mkdir()  # the best of its own models was tested
    assert len(find_runs(output.root).runs) == 1


@pytest.mark.parametrize(
    "text, why", [("{", "not readable"), ("[1]", "not readable"), ('{"trainer": "VPT"}', "says 's")]
)
def test_results_outside_of_the_layout_that_do_not_say_it(output, text, why):
    output.json("digits", 50.0)
    (output.root / "digits/results.json").write_text(text)
    found = find_runs(output.root)
    assert found.runs == [] and why in found.problems[0]


# ---------------------------------------------------------------- numbers


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_interval_is_students(values):
    mean, half = mean_interval(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert mean == pytest.approx(np.mean(values))
    quantile = scipy_stats.t.ppf(0.975, len(values) - 1)
    assert half == pytest.approx(quantile * error, abs=1e-9)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_harmonic_mean(base, new):
    assert 1 / harmonic(base, new) == pytest.approx((1 / base + 1 / new) / 2)
    assert harmonic(base, 0.0) == 0.0


def test_one_value_has_no_interval():
    assert mean_interval([45.0]) == (45.0, None)


def test_base2new_cells(output):
    values = {1: (80.0, 60.0), 2: (82.0, 64.0), 3: (84.0, 65.0)}
    for seed, (base, new) in values.items():
        output.halves("digits", f"VPT/embedded/seed{seed}", base, new, ece=float(seed))
    table = output.tables()["base2new"]
    row = cells(table, "digits", "VPT")
    new = [pair[1] for pair in values.values()]
    assert row["Base"].mean == 82.0 and row["New"].mean == 63.0 and row["ECE new"].mean == 2.0
    assert row["New"].half == pytest.approx(mean_interval(new)[1])
    assert row["H"].mean == harmonic(82.0, 63.0)
    assert row["H"].half == mean_interval([harmonic(*pair) for pair in values.values()])[1]
    assert not any(r.published for r in table.rows), "there are no published figures for digits"


def full_table(output, leave_out=()):
    """VPT on all eleven sets and three seeds; the accuracy tells set and seed."""
    for i, dataset in enumerate(ELEVEN):
        for seed in (1, 2, 3):
            if (dataset, seed) not in leave_out:
                output.halves(dataset, f"VPT/c/seed{seed}", 60.0 + i + seed, 40.0 + 2 * i - seed)
    return output.tables()["base2new"]


def test_complete_average(output):
    table = full_table(output)
    row = cells(table, "Average over 11 data sets", "VPT")
    assert row["Base"] == Cell(67.0, pytest.approx(mean_interval([66, 67, 68])[1]), 3)
    assert row["H"].mean == pytest.approx(harmonic(67.0, 48.0))
    assert not any(note.startswith("Missing") for note in table.notes)


def test_missing_seed_is_said_and_has_no_interval(output):
    table = full_table(output, leave_out={("dtd", 2)})
    row = cells(table, "Average over 11 data sets", "VPT")
    assert (row["Base"].note, row["Base"].half, row["Base"].partial) == (
        "seeds missing",
        None,
        False,
    )
    assert cells(table, "DTD", "VPT")["New"].note == "2 of 3 seeds"
    assert "Missing, VPT: dtd base seed 2; dtd new seed 2." in table.notes


def test_missing_data_set_is_said(output):
    table = full_table(output, leave_out={("dtd", seed) for seed in (1, 2, 3)})
    row = cells(table, "Average over 11 data sets", "VPT")
    assert row["Base"].note == row["H"].note == "10 of 11 sets" and row["Base"].partial
    output.halves("dtd", "CoOp/c/seed1", 50.0, 50.0)
    table = output.tables()["base2new"]
    assert "Missing, VPT: dtd base; dtd new." in table.notes
    assert not any((row.section, row.method) == ("DTD", "VPT") for row in table.rows)


def test_half_a_result_has_no_harmonic_mean(output):
    output.json(f"{BASE.format('dtd')}/VPT/c/seed1", 80.0)
    table = output.tables()["base2new"]
    row = cells(table, "DTD", "VPT")
    assert (row["New"], row["H"]) == (Cell(note="missing"), Cell(note="missing"))
    output.halves("ucf101", "VPT/c/seed1", 60.0, 60.0)
    row = cells(output.tables()["base2new"], "Average over 11 data sets", "VPT")
    assert row["H"].mean is None and row["H"].note == "base and new differ in sets"


def test_expected_seeds_can_be_told(output):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    output.halves("dtd", "VPT/c/seed9", 10.0, 10.0)
    table = output.tables(seeds=[1, 2])["base2new"]
    row = cells(table, "DTD", "VPT")
    assert (row["Base"].mean, row["Base"].note) == (80.0, "1 of 2 seeds")


def test_zeroshot_needs_no_seeds(output):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    output.halves("dtd", "VPT/c/seed2", 80.0, 60.0)
    output.log("ZeroshotCLIP/vit_b16/dtd/base", 53.2)
    output.log("ZeroshotCLIP/vit_b16/dtd/new", 59.9)
    row = cells(output.tables()["base2new"], "DTD", "ZeroshotCLIP")
    assert row["Base"] == Cell(53.2, None, 1)
    assert row["H"].mean == harmonic(53.2, 59.9)


def test_methods_are_told_apart_only_where_needed(output):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    output.halves("dtd", "VPT/d/seed1", 81.0, 60.0)
    output.halves("dtd", "CoOp/vit_b16_ctxv1/seed1", 81.0, 60.0)
    output.halves("imagenet", "CoOp/vit_b16_ep50_ctxv1/seed1", 70.0, 60.0)
    output.json(f"{BASE.format('dtd').replace('16', '4')}/CoCoOp/c/seed1", 70.0)
    table = output.tables(with_published=False)["base2new"]
    labels = {row.method for row in table.rows}
    assert labels == {"VPT c", "VPT d", "CoOp", "CoCoOp, 4 shots"}
    assert cells(table, "Average over 11 data sets", "CoOp")["Base"].mean == 75.5


def test_transfer(output):
    for dataset in ("imagenet", *ELEVEN, *VARIANTS):
        place = f"evaluation/VPT/c_16shots/{dataset}"
        if dataset == "imagenet":
            place = "imagenet/mcmc_10_epochs_10/VPT/c_16shots"  # the training run names more
        for seed in (1, 2):
            if dataset != "imagenet_a":
                output.json(f"{place}/seed{seed}", 60.0 + seed + len(dataset))
    tables = output.tables()
    cross, domain = tables["cross_dataset"], tables["domain"]
    assert set(tables) == {"cross_dataset", "domain"}
    row = cells(cross, "", "VPT")
    targets = [60.0 + 1.5 + len(d) for d in ELEVEN if d != "imagenet"]
    assert row["ImageNet"].mean == 69.5
    assert row["Average"].mean == pytest.approx(np.mean(targets)) and row["Average"].note == ""
    row = cells(domain, "", "VPT")
    assert row["ImageNet-A"] == Cell(note="missing")
    assert row["Average"].note == "3 of 4 sets"
    assert "Missing, VPT: imagenet_a." in domain.notes
    assert cells(cross, "", "CoCoOp (published)")["Average"].mean == pytest.approx(65.74, abs=0.006)


def test_fewshot(output):
    for shots, config in ((1, "rn50_ep50"), (2, "rn50_ep100"), (4, "rn50_ep100"), (16, "rn50")):
        for seed in (1, 2, 3):
            place = f"dtd/CoOp/{config}_{shots}shots/nctx16_cscFalse_ctpend/seed{seed}"
            output.log(place, 40.0 + shots + seed, "Finish training")
    output.log("ZeroshotCLIP/rn50/dtd", 42.0)
    output.json("imagenet/CoOp/rn50_ep50_16shots/seed1", 60.0)  # belongs to the transfer tables
    table = output.tables()["fewshot"]
    row = cells(table, "DTD", "CoOp")
    assert row["1 shot"].mean == 43.0 and row["16 shots"].mean == 58.0
    assert row["8 shots"] == Cell(note="missing") and row["0 shots"] == Cell(note="-")
    assert cells(table, "DTD", "ZeroshotCLIP")["0 shots"].mean == 42.0
    assert "Missing, CoOp: dtd 8-shot." in table.notes
    assert not any(row.section == "ImageNet" for row in table.rows)


# ---------------------------------------------------------------- published figures


def test_published_figures_agree_with_their_averages():
    for name, figure in published().items():
        average = figure.base2new["average"]
        assert average["h"] == pytest.approx(harmonic(average["base"], average["new"]), abs=0.02)
        sets = {k: v for k, v in figure.base2new.items() if k != "average"}
        for part in ("base", "new"):
            values = [value[part] for value in sets.values() if part in value]
            if len(values) == len(ELEVEN):
                assert np.mean(values) == pytest.approx(average[part], abs=0.02), name


def test_published_rows_are_marked_and_can_be_left_out(output):
    table = full_table(output)
    marked = [row for row in table.rows if row.published]
    assert marked and all(row.method.endswith(" (published)") for row in marked)
    assert not any("(published)" in row.method for row in table.rows if not row.published)
    vpt = cells(table, "DTD", "VPT (published)")
    assert vpt["New"].mean == 60.8 and vpt["Base"].mean is None and vpt["H"].mean is None
    plain = output.tables(with_published=False)["base2new"]
    assert plain.rows == [row for row in table.rows if not row.published]


# ---------------------------------------------------------------- writing

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


def test_latex_is_balanced_and_escaped():
    text = to_latex(SAMPLE)
    assert r"\caption{A \& B}" in text and r"\textbf{Set\_1}" in text
    assert r"VPT & $80.12_{\pm 1.50}$ & $70.00^{(1)}$ \\" in text
    assert r"VPT & missing & $60.00_{\pm 0.25}$ \\" in text
    assert "\\noindent (1) 1 of 3 seeds.\\par\n\\noindent note $\\pm$ one\\par\n" in text
    assert r"\textit{CoOp (published)} & $82.00$ & - \\" in text
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert escape("a_b & 5 % ±") == r"a\_b \& 5 \% $\pm$"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("leave_out", [0, 9])
def test_latex_compiles_and_fits_its_pages(output, tmp_path, leave_out):
    methods = ("VPT/vit_b16_c4_ep10", "VPT/vit_b16_c4_ep50", "CoOp/c", "CoCoOp/c")
    for i, tail in enumerate(methods):
        for dataset in list(ELEVEN)[: 11 - leave_out + i]:
            for seed in (1, 2, 3):
                output.halves(dataset, f"{tail}/seed{seed}", 70.0 + seed, 60.0)
                output.json(f"evaluation/{tail}_16shots/{dataset}/seed{seed}", 60.0 + seed)
        output.json(f"evaluation/{tail}_16shots/imagenet_a/seed{seed}", 60.0)
    tables = output.tables()
    assert set(tables) == {"base2new", "cross_dataset", "domain"}
    for name, table in tables.items():
        text = to_latex(table)
        use = text.splitlines()[0].removeprefix("% ")
        document = rf"\documentclass{{article}}{use}\begin{{document}}{text}\end{{document}}"
        (tmp_path / f"{name}.tex").write_text(document)
        command = ["pdflatex", "-interaction=nonstopmode", f"{name}.tex"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout
        assert "Float too large" not in run.stdout
        widths = re.findall(r"Overfull \\hbox \((.+?)pt too wide\)", run.stdout)
        assert all(float(width) < 5 for width in widths), (name, widths)


def test_text_fits_its_terminal():
    wide = to_text(SAMPLE)
    assert "80.12 ±1.50" in wide and "note ± one" in wide and "\x1b" not in wide
    narrow = to_text(SAMPLE, width=40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "\x1b[" in to_text(SAMPLE, width=80, color=True)


def test_figures(output, tmp_path):
    full_table(output)
    output.halves("dtd", "CoOp/c/seed1", 99.0, 30.0)  # one set of eleven: no point on the average
    for shots in (1, 16):
        for dataset in ("dtd", "ucf101"):
            output.json(f"{dataset}/VPT/c_{shots}shots/seed1", 50.0 + shots)
    output.log("ZeroshotCLIP/vit_b16/dtd", 44.0)
    files = write_figures(list(output.tables().values()), tmp_path)
    names = ["base2new.png", "base2new_by_data_set.png", "fewshot_by_data_set.png"]
    assert [path.name for path in files] == names
    for path in files:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 20_000


def test_figures_of_a_single_point(output, tmp_path):
    output.halves("digits", "VPT/embedded/seed1", 95.0, 95.0)
    files = write_figures(list(output.tables().values()), tmp_path)
    assert [path.name for path in files] == ["base2new_by_data_set.png"]


def test_partial_averages_are_not_drawn(output):
    from varprompt.report import figures

    full_table(output)
    output.halves("dtd", "CoOp/c/seed1", 99.0, 30.0)
    panels = dict(figures._panels(output.tables()["base2new"], figures._both))
    average = [row.method for row in panels["Average over 11 data sets"] if not row.published]
    assert average == ["VPT"]
    assert "CoOp" in [row.method for row in panels["DTD"]]


def test_labels_of_a_figure_lie_inside_and_apart_and_intervals_are_named(output):
    from varprompt.report import figures

    for seed in (1, 2, 3):
        for dataset in ("dtd", "oxford_pets"):  # on pets seven published points lie together
            output.halves(dataset, f"VPT/c/seed{seed}", 79.0 + 2 * seed, 60.0 + seed)
        output.json(f"dtd/VPT/c_16shots/seed{seed}", 60.0 + seed)
    tables = output.tables()
    panels = figures._panels(tables["base2new"], figures._both)
    figure = figures.draw_base2new(panels, figures._styles(tables["base2new"]), [])
    figure.draw_without_rendering()
    assert len(figure.axes) == 2
    for ax, (name, rows) in zip(figure.axes, panels, strict=True):
        boxes = {text.get_text(): text.get_window_extent().extents for text in ax.texts}
        curves = [box for text, box in boxes.items() if text.startswith("H=")]
        names = [box for text, box in boxes.items() if not text.startswith("H=")]
        left, bottom, right, top = ax.bbox.extents
        for box in (*curves, *names):
            assert left - 2 < box[0] and bottom - 2 < box[1], (name, boxes)
            assert box[2] < right + 2 and box[3] < top + 2, (name, boxes)
        assert curves and 3 <= len(names) <= sum(row.published for row in rows)
        for i, one in enumerate(names):
            assert not any(figures._overlap(one + [1, 1, -1, -1], other) for other in names[:i])
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "bars: 95 % intervals over seeds"
    panels = figures._panels(tables["fewshot"], figures._any)
    styles = figures._styles(tables["fewshot"])
    (legend,) = figures.draw_fewshot(panels, styles, tables["fewshot"].columns).legends
    assert legend.get_title().get_text() == "bands: 95 % intervals over seeds"


# ---------------------------------------------------------------- the command line


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
    assert report.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and ("is not a folder" in err or "no results for" in err)


def test_tables_asked_for_are_named_when_there_are_none(output, capsys):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    assert report.main([str(output.root), "--tables", "cross_dataset", "domain"]) == 1
    said = f"the tables asked for (cross_dataset, domain) in {output.root}; there are results for"
    assert capsys.readouterr().err == f"no results for {said} base2new\n"


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
