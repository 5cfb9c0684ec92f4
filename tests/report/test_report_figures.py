"""The figures."""

from pathlib import Path

import numpy as np
from outputs import full_table

from varprompt.report import canvas, figures, places
from varprompt.report.figures import write_figures

ROOT = Path(__file__).resolve().parents[2]


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

    full_table(output)
    output.halves("dtd", "CoOp/c/seed1", 99.0, 30.0)
    panels = dict(figures._panels(output.tables()["base2new"], figures._both))
    average = [row.method for row in panels["Average over 11 data sets"] if not row.published]
    assert average == ["VPT"]
    assert "CoOp" in [row.method for row in panels["DTD"]]


def test_labels_of_a_figure_lie_inside_and_apart_and_intervals_are_named(output):

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
            assert not any(places.overlap(one + [1, 1, -1, -1], other) for other in names[:i])
    (legend,) = figure.legends
    assert legend.get_title().get_text().startswith("bars: 95 % intervals over seeds")
    panels = figures._panels(tables["fewshot"], figures._any)
    styles = figures._styles(tables["fewshot"])
    (legend,) = figures.draw_fewshot(panels, styles, tables["fewshot"].columns).legends
    assert legend.get_title().get_text() == "bands: 95 % intervals over seeds"


def test_equal_points_do_not_hide_each_other(output):
    for method in ("VPT/c", "CoOp/c", "CoCoOp/c"):
        output.halves("digits", f"{method}/seed1", 80.0, 70.0)
    output.halves("digits", "VPT_CoCoOp/c/seed1", 90.0, 60.0)
    table = output.tables()["base2new"]
    panels = figures._panels(table, figures._both)
    figure = figures.draw_base2new(panels, figures._styles(table), [])
    figure.draw_without_rendering()
    markers = [line for line in figure.axes[0].lines if line.get_marker() in canvas.MARKERS]
    spots = {
        tuple(line.get_transform().transform(line.get_xydata())[0].round()) for line in markers
    }
    assert len(markers) == len(spots) == 4
    first, *rest = (np.array(spot) * 72 / figure.dpi for spot in sorted(spots)[:3])
    assert all(8 < np.hypot(*(other - first)) < 14 for other in rest)
    assert "equal points stand side by side" in figure.legends[0].get_title().get_text()


def test_equal_curves_do_not_hide_each_other(output):
    for method in ("VPT", "CoOp"):
        for shots in (1, 2, -1):
            output.json(f"digits/{method}/c_{shots}shots/seed1", 50.0)
    for method in ("ZeroshotCLIP", "ZeroshotCLIP2"):
        output.json(f"{method}/c/digits", 40.0)
    table = output.tables()["fewshot"]
    panels = figures._panels(table, figures._any)
    figure = figures.draw_fewshot(panels, figures._styles(table), table.columns)
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    first, second = (line.get_xdata() for line in curves)
    assert (np.abs(np.log2(first / second)) > 0.1).all()
    lines = [line for line in figure.axes[0].lines if line not in curves]
    assert len({line._unscaled_dash_pattern[0] for line in lines}) == len(lines) == 2
