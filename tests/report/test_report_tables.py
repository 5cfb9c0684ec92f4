"""What is averaged, and what is called missing."""

from pathlib import Path

import numpy as np
import pytest
from outputs import BASE, cells, full_table

from varprompt.report.cells import Cell
from varprompt.report.published import ELEVEN, VARIANTS, published
from varprompt.report.stats import harmonic, mean_interval

ROOT = Path(__file__).resolve().parents[2]


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
