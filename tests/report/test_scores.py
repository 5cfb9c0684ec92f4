"""Columns of calibration and rejection, published rows beside them, and their figures."""

import csv
import json

import numpy as np
import pytest
from outputs import cells

import report
from varprompt.report.published import ELEVEN, published_calibration
from varprompt.report.runs import find_runs
from varprompt.report.score_figures import draw_h_ece, write_score_figures
from varprompt.report.scores import COLUMNS, SETS, score_tables
from varprompt.report.stats import mean_interval


def scores(ece=4.0, **more):
    """What a results.json says of its probabilities."""
    figures = {
        "brier": 0.25, "ece_10": ece, "ace_10": ece + 1, "aurc": 5.0, "e_aurc": 1.0,
        "accuracy_80": 90.0, "auroc": 80.0, "fpr95": 70.0, "nll": 9.9, "ece_10_low": 1.0,
    }  # fmt: skip
    bins = [
        {"low": 80.0, "high": 90.0, "count": 90, "confidence": 85.0, "accuracy": 80.0},
        {"low": 90.0, "high": 100.0, "count": 410, "confidence": 96.0, "accuracy": 94.0},
    ]
    curve = {"coverage": [20, 40, 60, 80, 100], "risk": [1.0, 2.0, 3.0, 5.0, 8.0 + ece]}
    found = {
        "uncertainty": figures,
        "reliability": bins,
        "risk_coverage": curve,
        "n_total": 500,
        "ece": ece,
    }
    return found | more


@pytest.fixture
def filled(output):
    """VPT on all sets and two seeds, calibrated on one seed folder more; CoOp on one."""
    for i, dataset in enumerate(ELEVEN):
        for seed in (1, 2):
            output.halves(dataset, f"VPT/c/seed{seed}", 70.0 + i, 60.0, **scores(2.0 * seed))
            before = {"before": scores(8.0) | {"nll": 2.5, "ece": 7.0}}
            output.halves(dataset, f"VPT/t/seed{seed}", 70.0, 60.0, **scores(calibration=before))
    output.halves("dtd", "CoOp/c/seed1", 80.0, 50.0, **scores(12.0))
    return output


def made(output, *names, **options):
    found = find_runs(output.root)
    assert found.problems == []
    return {table.name: table for table in score_tables(found.runs, names, **options)}


def test_cells(filled):
    tables = made(filled, *COLUMNS)
    assert set(tables) == {"calibration", "rejection"}
    row = cells(tables["calibration"], "DTD", "VPT c")
    assert row["ECE new"].mean == 3.0 and row["Acc base"].mean == 70.0 + list(ELEVEN).index("dtd")
    assert row["ECE new"].half == pytest.approx(mean_interval([2.0, 4.0])[1])
    assert row["NLL base"].number() == "1.000" and row["Brier base"].number() == "0.250"
    assert row["ECE before new"].mean is None
    calibrated = cells(tables["calibration"], "DTD", "VPT t")
    assert calibrated["ECE before new"].mean == 8.0 and calibrated["ECE new"].mean == 4.0
    assert calibrated["NLL before base"].mean == 2.5
    row = cells(tables["rejection"], "DTD", "CoOp")
    assert row["AUROC new"].mean == 80.0 and row["Acc at 80 % base"].mean == 90.0
    average = cells(tables["calibration"], "Average over 11 data sets", "CoOp")
    assert average["ECE new"].partial and average["ECE new"].note.startswith("1 of 11 sets, seeds")
    assert average["ECE new"].note.endswith("small test set")


def test_the_smallest_is_the_best_but_for_accuracy(filled):
    for name, table in made(filled, *SETS).items():
        higher = {column for column in table.columns if column not in table.lower}
        kinds = {column.rsplit(" ", 1)[0] for column in higher}
        assert kinds == ({"Acc"} if name == "calibration" else {"Acc", "Acc at 80 %", "AUROC"})


def test_published_rows_are_marked_and_have_ten_bins(filled):
    table = made(filled, "calibration")["calibration"]
    row = cells(table, "DTD", "CoOp (published)")
    assert row["ECE base"].mean == 12.17 and row["Acc base"].mean == 76.27
    assert row["NLL base"].mean is None and row["ECE before base"].mean is None
    average = cells(table, "Average over 11 data sets", "CLIP (published)")
    assert average["ECE base"].mean == 3.58 and average["ECE new"].mean == 4.42  # 4.43 is printed
    assert all(r.published == r.method.endswith(" (published)") for r in table.rows)
    assert any(note.startswith("Published rows") for note in table.notes)
    plain = made(filled, "calibration", with_published=False)["calibration"]
    assert plain.rows == [r for r in table.rows if not r.published]
    assert not any(r.published for r in made(filled, "rejection")["rejection"].rows)


def test_published_averages_are_those_of_their_sets():
    for name, by_set in published_calibration().items():
        for place, average in by_set["average"].items():
            values = [figures[place] for s, figures in by_set.items() if s != "average"]
            assert len(values) == len(ELEVEN), name
            assert np.mean(values) == pytest.approx(average, abs=0.011), (name, place)


def test_all_classes_stand_apart(output):
    output.json("digits/VPT/c_16shots/seed1", 80.0, **scores())
    output.json("digits/CoOp/c_16shots/seed1", 80.0)
    tables = made(output, "calibration")
    assert set(tables) == {"calibration_all"}
    table = tables["calibration_all"]
    assert table.columns == ["Acc", "NLL", "Brier", "ECE", "ACE"]
    assert cells(table, "digits", "VPT")["ECE"].mean == 4.0
    assert cells(table, "digits", "CoOp")["ECE"].mean is None


@pytest.mark.parametrize(
    "wrong", [{"ece_10": -1.0}, {"aurc": "5"}, {"auroc": 101}, {"fpr95": True}, {"brier": 2.5}]
)
def test_impossible_figures_are_no_results(output, wrong):
    figures = scores()["uncertainty"] | wrong
    output.json("digits/VPT/c_16shots/seed1", 80.0, uncertainty=figures)
    (problem,) = find_runs(output.root).problems
    assert f"its {next(iter(wrong))} is" in problem


def test_what_is_not_defined_is_not_there(output):
    figures = scores()["uncertainty"] | {"auroc": None, "e_aurc": -1e-18}
    more = {"risk_coverage": {"coverage": [1], "risk": "x"}, "calibration": {"before": None}}
    output.json("digits/VPT/c_16shots/seed1", 80.0, uncertainty=figures, **more)
    (run,) = find_runs(output.root).runs
    assert "auroc" not in run.metrics and run.metrics["e_aurc"] == 0.0
    assert run.record.detail.risk == ()


def test_command_line(filled, tmp_path, capsys):
    folder = tmp_path / "tables"
    argv = [str(filled.root), "--columns", "calibration", "rejection", "--write", str(folder)]
    assert report.main([*argv, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("section,method,source,Acc base")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "calibration.csv", "calibration.tex", "h_ece.png", "rejection.csv", "rejection.tex",
        "reliability.png", "report.md", "risk_coverage.png",
    }  # fmt: skip
    with open(folder / "calibration.csv", encoding="utf-8", newline="") as file:
        sources = {row["source"] for row in csv.DictReader(file)}
    assert sources == {"measured", "published"}
    assert report.main([str(filled.root), "--format", "markdown"]) == 0
    assert "Calibration" not in capsys.readouterr().out  # not asked for


def test_old_results_are_told(output, capsys):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    assert report.main([str(output.root), "--columns", "rejection"]) == 2
    assert "no figures of rejection" in capsys.readouterr().err


def test_points_of_h_against_ece(filled, tmp_path):
    """Whole rows only; a partial average would mislead."""
    table = made(filled, "calibration")["calibration"]
    figure = draw_h_ece(table)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "Average over 11 data sets" and "DTD" in titles
    at = {tuple(line.get_xydata()[0].round(6)) for line in figure.axes[0].lines}
    assert (3.0, round(2 * 75.0 * 60 / 135, 6)) in at
    assert not any(x == 12.0 for x, _ in at)  # CoOp has one set of eleven
    files = write_score_figures(find_runs(filled.root).runs, [table], tmp_path)
    assert [file.name for file in files] == ["reliability.png", "h_ece.png"]


def test_seeds_are_pooled_and_tables_of_logs_have_no_figures(output, tmp_path):
    for seed in (1, 2):
        output.json(f"digits/VPT/c_16shots/seed{seed}", 80.0, **scores(float(seed)))
    output.log("digits/CoOp/c_16shots/seed1", 50.0, "Finish training")
    tables = list(made(output, *SETS).values())
    files = write_score_figures(find_runs(output.root).runs, tables, tmp_path)
    assert [file.name for file in files] == ["reliability.png", "risk_coverage.png"]
    content = json.loads(json.dumps(scores()))
    assert content["reliability"][0]["count"] == 90
