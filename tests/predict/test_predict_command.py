"""The command: every image is answered as the model answers it, or named; nothing half written."""

import csv
import io
import json
import os
import shutil
import types

import numpy as np
import pytest
import torch
from classifiers import classifier, pictures
from PIL import Image

from varprompt.common.console import run_tool
from varprompt.predict.command import EXIT_UNREADABLE
from varprompt.predict.judge import Judge, threshold_of
from varprompt.uncertainty.rejection import risk_threshold

TOOL = "varprompt.predict.command"
ONE = ["--workers", "0"]  # a process


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "model"
    classifier().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven pictures in two folders."""
    root = tmp_path_factory.mktemp("photos")
    (root / "in").mkdir()
    for i, image in enumerate(pictures(11, seed=5)):
        pixels = (255 * image).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / ("in" if i % 2 else "") / f"{i:02}.png")
    return root


def test_answers_are_the_model_s(model, photos, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    flags = ["--format", "csv", "--output", str(out), "--top", "9", "--batch-size", "4"]
    assert run_tool(TOOL, [model, str(photos), *flags, *ONE]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "11 images classified" in shown.err
    rows = list(csv.reader(io.StringIO(out.read_text(), newline="")))[1:]
    names = classifier().class_names_
    paths = [row[0] for row in rows]
    assert len(paths) == 11 and paths == [*sorted(p for p in paths if "/in/" not in p),
                                          *sorted(p for p in paths if "/in/" in p)]  # fmt: skip
    found = classifier().report(paths)
    best = np.argsort(-found.prob, axis=1)
    for i, row in enumerate(rows):
        assert row[1:7:2] == [names[c] for c in best[i]]  # all three, though nine were asked for
        np.testing.assert_allclose(np.array(row[2:7:2], float), found.prob[i, best[i]], rtol=1e-4)
        wanted = [values[i] for values in found.uncertainty]
        np.testing.assert_allclose(np.array(row[7:10], float), wanted, rtol=1e-3, atol=1e-6)


def test_unreadable_images_are_named_and_the_rest_goes_on(model, photos, tmp_path, capsys):
    broken = tmp_path / "broken\n.png"
    broken.write_bytes(b"no")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" * 9)
    names = [str(broken), str(tmp_path / "gone.png"), str(tmp_path / "clip.mp4")]
    arguments = [model, *names, str(photos / "00.png"), "--format", "jsonl", *ONE]
    assert run_tool(TOOL, arguments) == EXIT_UNREADABLE
    shown = capsys.readouterr()
    assert [json.loads(line)["file"] for line in shown.out.splitlines()] == [f"{photos}/00.png"]
    bad = [line for line in shown.err.splitlines() if line.startswith("unreadable: ")]
    assert len(bad) == 3 and "broken\\n.png" in bad[0] and "gone.png" in bad[1]
    assert "1 images classified" in shown.err and "3 could not be read" in shown.err


def test_names_on_standard_input_and_other_classes(model, photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "names.txt").write_text("crown\nscythe\n")
    lines = f"{photos}/00.png\n{photos}/in\n".encode()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(lines)))
    flags = ["--classes", str(tmp_path / "names.txt"), "--top", "2"]
    assert run_tool(TOOL, [model, "-", *flags, *ONE]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 + 6
    assert all("crown" in line and "scythe" in line for line in shown.out.splitlines()[1:])
    assert "no image is marked as unsure" in shown.err  # what was held out was of other classes


def test_the_threshold_is_that_of_the_held_out_images(photos, capsys):
    learned = classifier().learned_
    held = learned.held_out
    paths = [str(photos / "00.png"), str(photos / "02.png")]
    images = torch.stack([learned.transform(Image.open(p).convert("RGB")) for p in paths])
    for risk in (0.9, 0.5, 1e-6):
        limit = threshold_of(learned, risk, "model")
        assert limit == risk_threshold(held.confidence, held.correct, risk)
        rows = Judge(learned, 1, limit).rows(paths, images)
        assert [row.unsure for row in rows] == [not row.top[0][1] > limit.threshold for row in rows]
    assert all(row.unsure for row in rows)  # nothing can be promised at that risk
    said = capsys.readouterr().err
    assert f"of {len(held.correct)} held-out images 100 % are above" in said
    assert "every image is marked as unsure" in said


def test_sheets(model, photos, tmp_path, capsys):
    for kind in ("html", "png"):
        sheet = tmp_path / f"sheet.{kind}"
        assert run_tool(TOOL, [model, str(photos), "--sheet", str(sheet), *ONE]) == 0
        assert sheet.stat().st_size > 1000
    assert (tmp_path / "sheet.html").read_text().count("<figure") == 11
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--top", "0", "--batch-size", "0", "--risk", "1"], "--top is 0; it must be at least 1"),
        (["--sheet", "a.pdf"], "--sheet is a.pdf; give a name that ends with .html or .png"),
        (["--output", "."], "--output . is a folder"),
        (["--output", "a.html", "--sheet", "./a.html"], "--output and --sheet are one file"),
        (["--sheet", f"{__file__}/a.html"], "test_predict_command.py is no folder"),
        (["--risk", "0"], "--risk is 0.0; give a share between 0 and 1"),
        (["-"], "- stands twice"),
    ],
)
def test_bad_flags(model, flags, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_tool(TOOL, [model, "-", *flags]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("error: ") and shown.out == ""
    assert not list(tmp_path.iterdir())


def test_an_image_is_never_overwritten(model, photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    image = str(folder / "in/01.png")
    for flags in (["--output", image], ["--sheet", image]):
        for images in (image, str(folder), str(folder / "**/*.png")):
            assert run_tool(TOOL, [model, images, *flags, *ONE]) == 2
            said = capsys.readouterr().err
            assert f"{image} is one of the images and would be overwritten" in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_no_image_at_all(model, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").touch()
    out = tmp_path / "out.csv"
    arguments = [model, str(tmp_path / "photos"), "--format", "csv", "--output", str(out), *ONE]
    assert run_tool(TOOL, arguments) == 2
    said = capsys.readouterr().err
    assert "there is none (ignored: 1 entry: 1 x .txt)" in said
    assert os.listdir(tmp_path) == ["photos"]  # nothing half written


@pytest.mark.parametrize("call", ["varprompt predict", "predict.py"])
def test_both_ways_to_call_it(call, model, photos, capsys):
    import predict
    from varprompt.__main__ import main

    arguments = [model, str(photos / "00.png"), "--format", "jsonl", *ONE]
    run = predict.main if call == "predict.py" else lambda rest: main(["predict", *rest])
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(photos / "00.png")


def test_no_model(tmp_path, photos, capsys):
    for path in (tmp_path, tmp_path / "gone", photos / "00.png"):
        assert run_tool(TOOL, [str(path), str(photos), *ONE]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1, said
