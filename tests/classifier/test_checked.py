"""Files of a classifier that were edited or damaged: one error that says what, never a NaN."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from classifiers import classifier, pictures
from safetensors.torch import load_file, save

from varprompt import load_classifier
from varprompt.classifier.checked import HELD_OUT
from varprompt.errors import CheckpointError, VarPromptError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked") / "model"
    classifier().save(folder)
    return folder


@pytest.fixture
def model(saved, tmp_path):
    """A copy, and what edits it: a path in the description -> value, a change of the tensors."""
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)

    def edit(values=(), change=None):
        file = folder / "classifier.json"
        described = json.loads(file.read_text())
        for path, value in dict(values).items():
            *first, last = path.split(".")
            node = described
            for name in first:
                node = node[name]
            node[last] = value
        if change:
            path = folder / described["tensors"]["file"]
            tensors = load_file(path)
            change(tensors)
            data = save(tensors)
            path.write_bytes(data)
            described["tensors"]["sha256"] = hashlib.sha256(data).hexdigest()
        file.write_text(json.dumps(described))
        return folder

    return edit


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("calibration.temperature", 0, "calibration.temperature is 0; it must be at least"),
        ("calibration.temperature", -1, "calibration.temperature is -1"),
        ("calibration.temperature", float("nan"), "calibration.temperature is nan"),
        ("calibration.temperature", float("inf"), "calibration.temperature is inf"),
        ("calibration.temperature", "x", "calibration.temperature is 'x'; give a number"),
        ("pixels.size", 10**6, "pixels.size is 1000000; this CLIP takes 32"),
        ("pixels.size", 0, "pixels.size is 0"),
        ("pixels.interpolation", "nope", "pixels.interpolation is 'nope'; choose from bicubic"),
        ("pixels.interpolation", None, "pixels.interpolation is None"),
        ("pixels.mean", [0.5], r"pixels.mean is \[0.5\]; give three numbers"),
        ("pixels.mean", [float("nan")] * 3, "pixels.mean is nan"),
        ("pixels.std", [0, 0, 0], "pixels.std is 0; it must be at least"),
        ("pixels.std", None, "pixels.std is None; give three numbers"),
        ("labels", ["a"], r"labels are \['a'\] for 3 class_names"),
        ("labels", [[1], [2], [3]], "labels are .*, neither words nor numbers"),
        ("class_names", "abc", "class_names are 'abc', not names"),
        ("class_names", [1, 2, 3], r"class_names are \[1, 2, 3\], not names"),
        ("parameters.backbone", 5, "parameters.backbone is 5, no text"),
        ("parameters.backbone", None, "parameters.backbone is None, no text"),
        ("parameters.backbone_path", [], r"parameters.backbone_path is \[\], no text"),
    ],
)
def test_descriptions(path, value, said, model):
    folder = model({path: value})
    with pytest.raises(CheckpointError, match=said) as caught:
        load_classifier(folder, device="cpu")
    assert str(caught.value).startswith(f"{folder} is damaged: ")


def test_everything_is_said_at_once(model):
    folder = model({"calibration.temperature": 0, "pixels.size": 1, "class_names": []})
    with pytest.raises(CheckpointError) as caught:
        load_classifier(folder, device="cpu")
    assert all(
        name in str(caught.value) for name in ("calibration.temperature", "pixels.size", "labels")
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update({HELD_OUT[1]: t[HELD_OUT[1]][:3]}), "have the shapes"),
        (lambda t: t.pop(HELD_OUT[0]), "have the shapes"),
        (lambda t: t.update({name: t[name][:0] for name in HELD_OUT}), "have the shapes"),
        (lambda t: t.update({name: t[name][:, None] for name in HELD_OUT}), "have the shapes"),
        (lambda t: t[HELD_OUT[0]].fill_(torch.nan), "no probability"),
        (lambda t: t[HELD_OUT[0]].fill_(2), "no probability"),
        (lambda t: t.update({HELD_OUT[1]: 7 * t[HELD_OUT[1]].long() + 2}), "neither 0 nor 1"),
    ],
)
def test_held_out_scores(change, said, model):
    with pytest.raises(CheckpointError, match=said):
        load_classifier(model(change=change), device="cpu")


def test_probabilities_that_are_no_numbers(model):
    clf = load_classifier(model(change=lambda t: t["learner.ctx"].fill_(1e30)), device="cpu")
    with pytest.raises(VarPromptError, match="probabilities are no numbers"):
        clf.predict_proba(pictures(1))


def test_what_was_saved_is_whole(saved):
    assert load_classifier(Path(saved), device="cpu").temperature_ == classifier().temperature_
