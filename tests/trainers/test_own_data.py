"""Runs on images of one's own: synonyms, balanced epochs, test images alone."""

import json
import shutil

import numpy as np
import torch
from helpers import CLASSES, build, command

from varprompt import load_classifier
from varprompt.commands.train import main

PROMPTS = {"templates": ["{}", "{}, drawn"], "classes": {"sun": ["sun", "bright star"]}}


def test_synonyms_go_from_the_file_through_the_run_into_the_classifier(pictures, tmp_path):
    file, run = tmp_path / "prompts.json", tmp_path / "run"
    file.write_text(json.dumps(PROMPTS))
    options = {"DATASET__PROMPTS": file, "OPTIM__MAX_EPOCH": 1}
    assert main(command(pictures, run, **options)) == 0
    first = json.loads((run / "results.json").read_text())
    trainer = build(command(pictures, run, **options))
    assert trainer.model.classes.n_texts == [2, 2, 4, 2, 2]
    trainer.load_model(str(run))
    features, _ = trainer.tester.features(trainer.test_loader)
    wanted = trainer.predictor()(features).exp().numpy()
    file.unlink()  # the run knows them
    got = load_classifier(run, device="cpu").predict_proba(
        [i.impath for i in trainer.dm.dataset.test]
    )
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    file.write_text(json.dumps({**PROMPTS, "templates": ["{}"]}))
    assert main(command(pictures, run, **options)) == 2  # another run's folder
    assert json.loads((run / "results.json").read_text()) == first


def test_names_of_no_class_are_refused(pictures, tmp_path, capsys):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"classes": {"moon": "crescent"}}))
    assert main(command(pictures, tmp_path / "run", DATASET__PROMPTS=file)) == 2
    assert "names that are no class: 1\n    'moon'" in capsys.readouterr().err


def test_balanced_epochs(pictures, tmp_path):
    trainer = build(command(pictures, tmp_path, TRAIN__BALANCED=True))
    labels = [item.label for item in trainer.dm.dataset.train_x]
    assert trainer.batches.labels.tolist() == labels
    assert not torch.equal(trainer.batches.labels, torch.arange(len(labels)))


def test_test_images_alone(pictures, tmp_path, capsys):
    """They are tested with a trained model; nothing is trained on them."""
    run, root = tmp_path / "run", tmp_path / "root"
    assert main(command(pictures, run, OPTIM__MAX_EPOCH=1)) == 0
    shutil.copytree(pictures / "pictures" / "test", root / "pictures" / "test")
    there = command(root, tmp_path / "test", "--eval-only", "--model-dir", run)
    assert main(there) == 0
    both = [json.loads((p / "results.json").read_text()) for p in (run, tmp_path / "test")]
    assert both[0]["nll"] == both[1]["nll"] and len(both[1]["per_class"]) == len(CLASSES)
    capsys.readouterr()
    assert main(command(root, tmp_path / "train", OPTIM__MAX_EPOCH=1)) == 2
    assert "has test images only" in capsys.readouterr().err


def test_images_that_are_trained_on_and_tested_are_said(pictures, tmp_path, capsys):
    root = shutil.copytree(pictures, tmp_path / "root")
    one = command(root, tmp_path / "one", OPTIM__MAX_EPOCH=1)
    assert main(one) == 0 and "ATTENTION" not in capsys.readouterr().out
    for part, name in (("train", "sun"), ("test", "x")):
        shutil.copy(root / "pictures/test/sun/1.png", root / f"pictures/{part}/{name}/again.png")
    whole = {"OPTIM__MAX_EPOCH": 1, "DATASET__NUM_SHOTS": -1}
    assert main(command(root, tmp_path / "two", **whole)) == 0
    said = capsys.readouterr().out
    assert "ATTENTION: 1 images are in several classes at once, such as pictures/" in said
    assert "2 of 21 test images are among the training images" in said
