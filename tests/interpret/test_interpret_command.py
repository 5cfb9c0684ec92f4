"""The command: text, JSON, a figure, or one line."""

import json

import numpy as np
import pytest
import torch
from classifiers import classifier
from PIL import Image

from varprompt.classifier.recipe import TEMPLATES
from varprompt.common.console import run_tool
from varprompt.interpret.figure import MOST, write_figure
from varprompt.interpret.texts import ClassTexts

TOOL = "varprompt.interpret.command"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interpret") / "model"
    classifier("gaussian").save(folder)
    return str(folder)


def test_text_and_json_say_the_same(model, tmp_path, capsys):
    figure = tmp_path / "texts.png"
    assert run_tool(TOOL, [model, "--top", "3", "--figure", str(figure)]) == 0
    text = capsys.readouterr().out
    assert run_tool(TOOL, [model, "--top", "3", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (context,) = found["contexts"]
    assert len(context["vectors"]) == 4  # a photo of a
    for number, vector in enumerate(context["vectors"], 1):
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [str(number)]]
        words = [w["word"] for w in vector["words"]]
        assert len(words) == 3 and all(f"{word} (" in line for word in words)
        distances = [w["distance"] for w in vector["words"]]
        assert distances == sorted(distances) and vector["noise"] > 0
        assert vector["noise_in_distances"] == pytest.approx(vector["noise"] / distances[0])
    assert run_tool(TOOL, [model, "--top", "1", "--metric", "cosine", "--format", "json"]) == 0
    by_cosine = json.loads(capsys.readouterr().out)["contexts"][0]["vectors"]
    shares = [[v["noise_in_distances"] for v in one] for one in (by_cosine, context["vectors"])]
    assert shares[0] == shares[1]  # the nearest word by distance counts, whatever is listed
    names = classifier("gaussian").class_names_
    assert [c["class"] for c in found["nearest_wrong_class"]] == names
    assert all(c["after"]["class"] != c["class"] for c in found["nearest_wrong_class"])
    with Image.open(figure) as image:
        assert image.format == "PNG" and min(image.size) > 300


def test_a_mixture_of_points_has_no_columns_of_noise(tmp_path, capsys):
    classifier().save(tmp_path)
    assert run_tool(TOOL, [str(tmp_path), "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if line.startswith("component")]
    assert heads == [f'component {i}: "{text}"' for i, text in enumerate(TEMPLATES, 1)]
    (line,) = {line for line in lines if line.startswith("token")}
    assert line == "token  length  nearest words (distance, cosine)"


def test_nothing_of_a_figure_of_few_classes_is_cut_off(tmp_path):
    near, names = torch.full((3, 3), 0.9), ["king_of_hearts", "a name that is long", "sun"]
    write_figure(ClassTexts(near, near, ["a photo of a {}.", "{}"]), names, "m", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    assert all(edge.min() == 255 for edge in (grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    assert grey.shape[1] > 1400  # heads stand beside each other


def test_many_classes_are_drawn_by_their_nearest(tmp_path):
    n = MOST + 5
    near = torch.full((n, n), 0.1).fill_diagonal_(1)
    near[:2, :2] = 0.9
    texts = ClassTexts(near, near, ["a photo of a {}."])
    names = [f"$name_{i}$ 日" for i in range(n)]
    assert write_figure(texts, names, "model", tmp_path / "a.png") == MOST
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert write_figure(ClassTexts(*[torch.ones(1, 1)] * 2, ["{}"]), ["x"], "m", tmp_path / "b.png")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--top", "0"], "--top is 0; it must be at least 1"),
        (["--figure", "a.jpg"], "give a name that ends with .png"),
    ],
)
def test_bad_input_is_one_line(model, flags, said, capsys):
    assert run_tool(TOOL, [model, *flags]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_an_image_that_nothing_depends_on(model, capsys):
    assert run_tool(TOOL, [model, "--image", "gone.png"]) == 2
    said = capsys.readouterr().err
    assert said == "error: --image: the prompts of this model do not depend on the image\n"
