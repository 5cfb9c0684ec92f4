"""A run of train.py as a classifier."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import build, command, own_cache, pictures, results  # noqa: F401 - fixtures

from varprompt import load_classifier
from varprompt.commands.train import main
from varprompt.errors import CheckpointError
from varprompt.predict.judge import threshold_of


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):  # noqa: F811
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("run")
    return folder if main(command(pictures, folder)) == 0 else None


def test_probabilities_are_those_of_the_run(trained, pictures):  # noqa: F811
    clf = load_classifier(trained, device="cpu")
    trainer = build(command(pictures, trained))
    trainer.load_model(str(trained))
    items = trainer.dm.dataset.test
    assert clf.class_names_ == list(trainer.dm.dataset.classnames)
    features, _ = trainer.tester.features(trainer.test_loader)
    with torch.no_grad():
        wanted = trainer.predictor()(features).exp().numpy()
    got = clf.predict_proba([item.impath for item in items])
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    assert clf.temperature_ == 1


def test_held_out_are_the_validation_images(trained, pictures, tmp_path, capsys):  # noqa: F811
    clf = load_classifier(trained, device="cpu")
    items = build(command(pictures, trained)).dm.dataset.val
    prob = clf.predict_proba([item.impath for item in items])
    held = clf.learned_.held_out
    np.testing.assert_allclose(held.confidence, prob.max(1), atol=2e-6)
    assert held.correct.tolist() == [
        label == item.label for label, item in zip(prob.argmax(1), items, strict=True)
    ]
    capsys.readouterr()
    assert threshold_of(clf.learned_, 0.05, "run") is not None
    assert f"{len(items)} held-out images are too few" in capsys.readouterr().err
    assert clf.with_classes(["a", "b"]).learned_.held_out is None

    old = tmp_path / "old"  # of an earlier version
    shutil.copytree(trained, old, ignore=shutil.ignore_patterns("held_out.json"))
    assert threshold_of(load_classifier(old, device="cpu").learned_, 0.05, "old") is None
    said = capsys.readouterr().err
    assert said.startswith("old keeps no scores of validation images") and said.count("\n") == 1
    assert "delete results.json there and give its command again" in said

    other = json.loads((trained / "held_out.json").read_text()) | {"checkpoint": "0" * 64}
    (old / "held_out.json").write_text(json.dumps(other))  # of another model
    assert load_classifier(old, device="cpu").learned_.held_out is None
    (old / "held_out.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"held_out.json is damaged .*: delete it"):
        load_classifier(old, device="cpu")


def test_a_calibrated_run_predicts_calibrated(pictures, tmp_path):  # noqa: F811
    assert main(command(pictures, tmp_path, TEST__CALIBRATION="temperature")) == 0
    clf = load_classifier(tmp_path, device="cpu")
    kept = json.loads((tmp_path / "calibration.json").read_text())
    assert clf.temperature_ == kept["temperature"] != 1
    trainer = build(command(pictures, tmp_path))
    paths = [item.impath for item in trainer.dm.dataset.test]
    prob = clf.predict_proba(paths)
    nll = -np.log(
        [row[item.label] for row, item in zip(prob, trainer.dm.dataset.test, strict=True)]
    )
    assert nll.mean() == pytest.approx(results(tmp_path)["nll"], abs=1e-5)
    val = [item.impath for item in trainer.dm.dataset.val]
    np.testing.assert_allclose(
        clf.learned_.held_out.confidence, clf.predict_proba(val).max(1), atol=2e-6
    )


def test_saved_from_a_run_it_is_a_classifier(trained, tmp_path):
    clf = load_classifier(trained, device="cpu")
    clf.save(tmp_path)
    image = np.zeros((1, 32, 32, 3), np.uint8)
    again = load_classifier(tmp_path, device="cpu")
    assert np.array_equal(again.predict_proba(image), clf.predict_proba(image))


def test_what_cannot_be_is_said(trained, tmp_path):
    with pytest.raises(CheckpointError, match="no model of epoch 99"):
        load_classifier(trained, epoch=99)
    (tmp_path / "prompt_learner").mkdir()
    with pytest.raises(CheckpointError, match="no trained model"):
        load_classifier(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "prompt_learner" / "model.pth.tar-1")
    with pytest.raises(CheckpointError, match="does not tell its configuration"):
        load_classifier(tmp_path)
