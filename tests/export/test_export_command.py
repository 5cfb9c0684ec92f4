"""The command: files that other programs run, equal to the model, or none."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from classifiers import SIZE, WORDS, classifier, pictures
from packaging.version import Version
from PIL import Image
from safetensors import safe_open

from varprompt.common.console import run_tool
from varprompt.export import command, onnx
from varprompt.export.graph import OUTPUTS

TOOL = "varprompt.export.command"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a saved classifier."""
    folder = tmp_path_factory.mktemp("export") / "model"
    classifier().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def normalised():
    learned = classifier().learned_
    mean, std = (torch.tensor(v)[:, None, None] for v in (learned.pixels.mean, learned.pixels.std))
    return (pictures(5, seed=9) - mean) / std


def test_onnx_is_what_the_model_says(model, normalised, tmp_path, capsys):
    import onnxruntime

    path = tmp_path / "m.onnx"
    code = run_tool(TOOL, [model, "--onnx", str(path)])
    if Version(torch.__version__) < Version("2.7"):
        assert code == 2 and "take a newer torch" in capsys.readouterr().err and not path.exists()
        return
    assert code == 0
    said = capsys.readouterr().out
    assert str(path) in said and all(f"{name} " in said for name in OUTPUTS)
    session = onnxruntime.InferenceSession(str(path))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classnames"]) == classifier().class_names_
    assert json.loads(metadata["image_size"]) == SIZE
    want = classifier().learned_.predict(classifier().learned_.encode_image(normalised))
    for size in (1, 5):  # the batch may have any size
        prob, *uncertainty = session.run(list(OUTPUTS), {"images": normalised[:size].numpy()})
        np.testing.assert_allclose(prob, want.prob[:size], atol=1e-5)
        for got, wanted in zip(uncertainty, want.uncertainty, strict=True):
            np.testing.assert_allclose(got, wanted[:size], atol=1e-5)


def test_a_graph_that_differs_is_not_written(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "_graph", lambda *args: b"")
    monkeypatch.setattr(onnx, "_compare", lambda *args: {"probabilities": float("nan")})
    assert run_tool(TOOL, [model, "--onnx", str(tmp_path / "m.onnx")]) == 2
    assert "was not written: onnxruntime and torch differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_torch_program_runs_without_this_package(model, normalised, tmp_path, capsys):
    path = tmp_path / "m.pt2"
    assert run_tool(TOOL, [model, "--torch", str(path)]) == 0
    assert "on 64 images" in capsys.readouterr().out
    torch.save(normalised, tmp_path / "images.pt")
    code = (
        "import sys, torch\n"
        f"images = torch.load({str(tmp_path / 'images.pt')!r})\n"
        f"prob = torch.export.load({str(path)!r}).module()(images)[0]\n"
        "assert not any(name.startswith('varprompt') for name in sys.modules)\n"
        "print(*prob.flatten().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    want = classifier().learned_.predict(classifier().learned_.encode_image(normalised)).prob
    got = np.array(done.stdout.split(), dtype=float).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_matrix_of_other_classes_compared_on_given_images(model, tmp_path, capsys):
    for i, image in enumerate(pictures(3)):
        pixels = (255 * image).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "names.txt").write_text("# others\ncrown\n\nscythe\n")
    path = tmp_path / "m.safetensors"
    flags = ["--classes", str(tmp_path / "names.txt"), "--check", str(tmp_path / "*.png")]
    assert run_tool(TOOL, [model, "--matrix", str(path), *flags]) == 0
    said = capsys.readouterr().out
    assert "2 x " in said and "what is lost, on 3 images: the same class for" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "say what to write: --onnx, --matrix, --torch FILE"),
        (["--onnx", "a", "--torch", "./a"], "two kinds of files have one name"),
        (["--matrix", "."], ". is a folder; give the file to write"),
        (["--matrix", "a", "--check", "gone.png"], "0 images to compare with can be read of gone"),
        (["--matrix", "a", "--classes", "gone.txt"], "gone.txt: not a readable text file"),
        (["--matrix", "no/such\0/a"], "null"),
        (["--matrx", "a"], "did you mean --matrix"),
    ],
)
def test_bad_input_is_one_line(model, flags, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        assert run_tool(TOOL, [model, *flags]) == 2
    except SystemExit as error:  # argparse's own
        assert error.code == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_before_the_model_is_read(monkeypatch, capsys):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    assert run_tool(TOOL, ["gone", "--onnx", "a"]) == 2
    assert "pip install 'varprompt[export]'" in capsys.readouterr().err


def test_no_model(tmp_path, capsys):
    assert run_tool(TOOL, [str(tmp_path), "--matrix", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert command.parser().format_help().count("--") > 5 and WORDS


def test_a_merged_mixture_loses_nothing_as_a_matrix(tmp_path, capsys):
    """Its texts are averaged already; those of the same model without are not."""
    texts = ("a photo of a {}.", "a {} in a drawing.", "{} art.")
    said = {}
    for merge in (True, False):
        made = classifier(posterior="mixture", templates=texts, merge=merge)
        made.save(tmp_path / str(merge))
        assert (
            run_tool(TOOL, [str(tmp_path / str(merge)), "--matrix", str(tmp_path / f"{merge}.st")])
            == 0
        )
        said[merge] = capsys.readouterr().out
        with safe_open(tmp_path / f"{merge}.st", "pt") as file:
            lost = json.loads(file.metadata()["compared_with_the_model"])
            weight = file.get_tensor("weight")
        assert (lost["largest_difference"] < 1e-6) == merge and (weight.norm(dim=-1) < 0.9999).all()
        prob = made.predict_proba(pictures(3, seed=4))
        features = made.encode(pictures(3, seed=4))
        plain = (made.learned_.model.scale / made.temperature_ * features @ weight.T).softmax(-1)
        assert (abs(prob - plain.numpy()).max() < 1e-5) == merge
