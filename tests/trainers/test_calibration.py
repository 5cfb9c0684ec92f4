"""TEST.CALIBRATION: fitted without a test label, kept with the run, the same at a later test."""

import csv
import json
import shutil

import pytest
import torch
from helpers import build, command, make_pictures

import train
from trainers import calibration
from trainers.inference import labels_of, plain_text, predict, tuned_text
from varprompt.errors import ConfigError
from varprompt.uncertainty import CALIBRATORS, fit_distance, fit_temperature, summary

SHORT = {"OPTIM__MAX_EPOCH": 1, "TRAINER__VPT__L": 2, "DATALOADER__TRAIN_X__BATCH_SIZE": 5}
TEMPERATURE = SHORT | {"TEST__CALIBRATION": "temperature"}


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def without_val(tmp_path_factory):
    """The same pictures without validation images."""
    root = make_pictures(tmp_path_factory.mktemp("no-val"))
    shutil.rmtree(root / "pictures/val")
    return root


@pytest.fixture(scope="module")
def base(pictures, tmp_path_factory):
    """A run on the base classes that keeps its temperature, and its command."""
    folder = tmp_path_factory.mktemp("base")
    argv = command(pictures, folder, DATASET__SUBSAMPLE_CLASSES="base", **TEMPERATURE)
    assert train.main(argv) == 0
    return folder, argv


def test_temperature_is_that_of_the_validation_images(pictures, base):
    folder, _ = base
    kept = json.loads((folder / "calibration.json").read_text())
    trainer = build(command(pictures, folder, DATASET__SUBSAMPLE_CLASSES="base", **SHORT))
    trainer.load_model(str(folder))
    log_prob = predict(trainer, trainer.dm.dataset.val)
    want = fit_temperature(log_prob, labels_of(trainer.dm.dataset.val))
    assert kept["temperature"] == pytest.approx(want.value) and want.value != 1
    assert (kept["fitted_on"], kept["n_images"], kept["n_samples"]) == ("val", 3, 2)
    found = results(folder)
    images = trainer.dm.dataset.test
    before = predict(trainer, images)
    for at, samples in (("before", before), ("after", want(before))):
        figures = summary(samples, labels_of(images))
        compared = found["calibration"][at]
        for name in ("accuracy", "nll"):
            assert compared[name] == pytest.approx(figures[name], abs=1e-5), (at, name)
        assert compared["uncertainty"]["brier"] == pytest.approx(figures["brier"], abs=1e-5)
    assert found["nll"] == found["calibration"]["after"]["nll"]


def test_a_later_test_takes_it_from_there(pictures, base, tmp_path, capsys):
    """On the same classes the same figures; on new ones the temperature of the base classes."""
    folder, _ = base
    kept = results(folder)["calibration"]["temperature"]
    for part in ("base", "new"):
        out = tmp_path / part
        flags = ["--eval-only", "--model-dir", folder]
        argv = command(pictures, out, *flags, DATASET__SUBSAMPLE_CLASSES=part, **TEMPERATURE)
        assert train.main(argv) == 0
        assert results(out)["calibration"]["temperature"] == kept
        capsys.readouterr()
        assert train.main(argv) == 0 and "Already done" in capsys.readouterr().out
    assert results(tmp_path / "base")["nll"] == results(folder)["nll"]


def test_a_run_that_kept_none_is_fitted_at_the_test(pictures, base, tmp_path):
    """New classes: to the validation images of the base classes, which are found again."""
    folder, _ = base
    bare, out = tmp_path / "bare", tmp_path / "new"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("calibration.json"))
    flags = ["--eval-only", "--model-dir", bare]
    argv = command(pictures, out, *flags, DATASET__SUBSAMPLE_CLASSES="new", **TEMPERATURE)
    assert train.main(argv) == 0
    found = results(out)["calibration"]
    assert found["temperature"] == pytest.approx(results(folder)["calibration"]["temperature"])
    assert found["fitted_on"] == "val" and not (bare / "calibration.json").exists()


def test_without_validation_images_it_is_cross_validated(without_val, tmp_path, monkeypatch):
    """Each image is predicted by a learner trained without it, and nothing else changes."""
    trained_on = []
    built = calibration.predict

    def spy(trainer, items):
        seen = {item.impath for item in trainer.train_loader_x.dataset.items.data_source}
        trained_on.append((seen, {item.impath for item in items}))
        return built(trainer, items)

    monkeypatch.setattr(calibration, "predict", spy)
    argv = command(without_val, tmp_path / "a", trainer="CoOp", **TEMPERATURE)
    assert train.main(argv) == 0
    found = results(tmp_path / "a")
    assert found["calibration"]["fitted_on"] == "train, in 3 folds"
    assert found["calibration"]["n_images"] == 15 and len(trained_on) == 3
    assert all(not seen & held_out for seen, held_out in trained_on)
    assert len(set.union(*(held_out for _, held_out in trained_on))) == 15
    plain = command(without_val, tmp_path / "b", trainer="CoOp", **SHORT)
    assert train.main(plain) == 0
    before, bare = found["calibration"]["before"], results(tmp_path / "b")
    assert before["nll"] == bare["nll"] and before["accuracy"] == bare["accuracy"]
    assert bare.get("calibration") is None


def test_one_image_a_class_is_too_few(without_val, tmp_path, capsys):
    argv = command(without_val, tmp_path, DATASET__NUM_SHOTS=1, **TEMPERATURE)
    assert train.main(argv) == 2
    assert "two training images a class" in capsys.readouterr().err


def test_zero_shot_has_nothing_to_train_again(without_val, tmp_path):
    argv = command(without_val, tmp_path, trainer="ZeroshotCLIP", **TEMPERATURE)
    assert train.main(argv) == 0
    assert results(tmp_path)["calibration"]["fitted_on"] == "train"


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp"])
def test_distance_is_that_of_the_texts(trainer, pictures, tmp_path):
    folder, out = tmp_path / "base", tmp_path / "new"
    options = SHORT | {"OPTIM__LR": 0.5, "DATASET__SUBSAMPLE_CLASSES": "base"}
    assert train.main(command(pictures, folder, trainer=trainer, **options)) == 0
    flags = ["--eval-only", "--model-dir", folder]
    options |= {"DATASET__SUBSAMPLE_CLASSES": "new", "TEST__CALIBRATION": "distance"}
    assert train.main(command(pictures, out, *flags, trainer=trainer, **options)) == 0
    texts = []
    for part in ("base", "new"):
        options["DATASET__SUBSAMPLE_CLASSES"] = part
        made = build(command(pictures, out, trainer=trainer, **options))
        made.load_model(str(folder))
        with torch.no_grad():
            texts.append((tuned_text(made, made.predictor()), plain_text(made)))
    (tuned_base, plain_base), (tuned, plain) = texts
    want = fit_distance(tuned_base, tuned, plain_base, plain).scale
    found = results(out)["calibration"]
    assert found["scale"] == pytest.approx(want.tolist(), rel=1e-5)
    assert any(abs(scale - 1) > 1e-4 for scale in found["scale"])
    if trainer == "VPT":
        assert results(out)["nll"] != found["before"]["nll"]


def test_a_calibrator_of_ones_own_gets_all_the_evidence(pictures, base, tmp_path, monkeypatch):
    """What a temperature is fitted to, and the texts; nothing of the test's labels."""
    folder, _ = base
    seen = []

    def mine(evidence):
        seen.append(evidence)
        return fit_temperature(evidence.log_prob, evidence.labels)

    monkeypatch.setitem(CALIBRATORS, "mine", mine)
    options = TEMPERATURE | {"DATASET__SUBSAMPLE_CLASSES": "new", "TEST__CALIBRATION": "mine"}
    flags = ["--eval-only", "--model-dir", folder]
    assert train.main(command(pictures, tmp_path, *flags, **options)) == 0
    (evidence,) = seen
    assert evidence.log_prob.shape == (2, 3, 3) and evidence.labels.tolist() == [0, 1, 2]
    assert len(evidence.base_text) == len(evidence.base_text_zero_shot) == 3
    assert len(evidence.text) == len(evidence.text_zero_shot) == 2
    assert results(tmp_path)["calibration"]["method"] == "mine"


def test_another_calibration_is_another_run(pictures, base, capsys):
    folder, argv = base
    plain = command(pictures, folder, DATASET__SUBSAMPLE_CLASSES="base", **SHORT)
    assert train.main(plain) == 2
    assert "TEST.CALIBRATION: temperature -> none" in capsys.readouterr().err
    assert train.main(argv) == 0


def test_predictions_are_written_when_asked_for(pictures, base, tmp_path, capsys):
    """Also for a run that is finished; they are what the figures are made of."""
    folder, _ = base
    options = TEMPERATURE | {"DATASET__SUBSAMPLE_CLASSES": "base", "TEST__EVALUATOR": "Calibration"}
    flags = ["--eval-only", "--model-dir", folder]
    argv = command(pictures, tmp_path, *flags, **options)
    assert train.main(argv) == 0 and results(tmp_path)["predictions"] is None
    argv += ["TEST.PREDICTIONS", "csv"]
    assert train.main(argv) == 0
    found = results(tmp_path)
    with open(tmp_path / found["predictions"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [row["label"] == row["predicted"] for row in rows]
    assert 100 * sum(right) / len(rows) == pytest.approx(found["accuracy"])
    nll = [-float(row[f"log_prob_{row['label']}"]) for row in rows]
    assert sum(nll) / len(nll) == pytest.approx(found["nll"], abs=1e-6)
    assert rows[0]["path"].startswith("pictures/test/")
    epistemic = sum(float(row["epistemic"]) for row in rows) / len(rows)
    assert epistemic == pytest.approx(found["uncertainty"]["epistemic"], abs=1e-6)
    capsys.readouterr()
    assert train.main(argv) == 0 and "Already done" in capsys.readouterr().out


def test_parquet_without_pyarrow_is_said_before_any_work(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("varprompt.settings.limits.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "varprompt\[parquet\]"'):
        build(command(pictures, tmp_path, TEST__PREDICTIONS="parquet"))
