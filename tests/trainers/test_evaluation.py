"""TEST.EVALUATOR Calibration with trainers that know nothing of this project; too large tests."""

import json

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.evaluation import build_evaluator
from helpers import build, command

import trainers  # noqa: F401 - registers the evaluator
from varprompt.errors import ConfigError
from varprompt.run import tally
from varprompt.uncertainty import summary

NAMES = dict(enumerate("abcd"))


@pytest.fixture(scope="module", autouse=True)
def stranger():
    """A trainer of Dassl's own kind, registered as CoOp registers its trainers."""

    class Stranger(TrainerX):
        pass

    if "Stranger" not in TRAINER_REGISTRY.registered_names():
        TRAINER_REGISTRY.register(Stranger)


def make_cfg(folder, trainer="Stranger"):
    cfg = get_cfg_default()
    cfg.TEST.EVALUATOR, cfg.TRAINER.NAME = "Calibration", trainer
    cfg.OUTPUT_DIR, cfg.DATASET.NAME, cfg.SEED = str(folder), "Pets", 7
    return cfg


def scores(n_samples=None):
    generator = torch.Generator().manual_seed(5)
    shape = (23, 4) if n_samples is None else (n_samples, 23, 4)
    return 2 * torch.randn(shape, generator=generator), torch.randint(4, (23,), generator=generator)


def evaluate(cfg, mo, gt):
    evaluator = build_evaluator(cfg, lab2cname=NAMES)
    evaluator.reset()
    for part, labels in zip(mo.split(9, -2), gt.split(9), strict=True):
        evaluator.process(part, labels)
    return evaluator.evaluate()


KINDS = {
    "logits": lambda x: x,
    "log-probabilities": lambda x: x.log_softmax(-1),
    "probabilities": lambda x: x.softmax(-1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_samples", [None, 3])
def test_all_figures_of_any_trainer(kind, n_samples, tmp_path, capsys):
    mo, gt = scores(n_samples)
    figures = evaluate(make_cfg(tmp_path), KINDS[kind](mo), gt)
    content = json.loads((tmp_path / "results.json").read_text())
    want = summary(mo.log_softmax(-1), gt)
    assert set(content["uncertainty"]) == set(want)
    for name, value in want.items():
        assert content["uncertainty"][name] == pytest.approx(value, abs=1e-3), name
    assert list(figures)[0] == "accuracy"  # what Dassl's test returns
    assert figures["nll"] == pytest.approx(want["nll"]) == content["nll"]
    assert (content["trainer"], content["dataset"], content["seed"]) == ("Stranger", "Pets", 7)
    assert [row["name"] for row in content["per_class"].values()] == list("abcd")
    said = capsys.readouterr().out
    assert f"* accuracy: {want['accuracy']:.1f}%" in said and f"* nll: {want['nll']:.4f}" in said
    assert ("logarithm is taken" in said) == (kind == "probabilities")


def test_logits_in_half_precision(tmp_path):
    mo, gt = scores()
    figures = evaluate(make_cfg(tmp_path), mo.half(), gt)
    assert figures["nll"] == pytest.approx(summary(mo.log_softmax(-1), gt)["nll"], abs=2e-3)


def test_a_second_test_forgets_the_first(tmp_path):
    mo, gt = scores()
    evaluator = build_evaluator(make_cfg(tmp_path), lab2cname=NAMES)
    found = []
    for _ in range(2):
        evaluator.reset()
        evaluator.process(mo, gt)
        found.append(evaluator.evaluate())
    assert found[0] == found[1]


def test_scores_that_are_not_finite_leave_dassls_figures(tmp_path, capsys):
    mo, gt = scores()
    mo[3] = torch.nan
    figures = evaluate(make_cfg(tmp_path), mo, gt)
    assert "nll" not in figures and 0 <= figures["accuracy"] <= 100
    assert "are left out" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_trainers_of_this_project_write_their_own_results(tmp_path, capsys):
    mo, gt = scores()
    figures = evaluate(make_cfg(tmp_path, "VPT"), mo.log_softmax(-1), gt)
    assert "nll" not in figures and not list(tmp_path.iterdir())


def test_a_run_says_what_it_leaves_out(pictures, tmp_path, monkeypatch, capsys):
    trainer = build(command(pictures, tmp_path))
    monkeypatch.setattr(tally, "_MOST_KEPT", 3)
    trainer.test()
    content = json.loads((tmp_path / "results.json").read_text())
    assert "uncertainty" not in content and content["n_total"] and content["per_class"]
    assert "results.json will lack uncertainty" in capsys.readouterr().out
    trainer.cfg.defrost()
    trainer.cfg.TEST.PREDICTIONS = "csv"
    with pytest.raises(ConfigError, match="TEST.PREDICTIONS is csv.*more than 1 GB"):
        trainer.test()
