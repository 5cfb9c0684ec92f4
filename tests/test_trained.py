"""A run of train.py as a classifier."""

import numpy as np
import pytest
import torch
from helpers import build, command, own_cache, pictures  # noqa: F401 - fixtures

from varprompt import load_classifier
from varprompt.errors import CheckpointError
from varprompt.train import main


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
    assert clf.temperature_ == 1 and clf.learned_.held_out is None


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
