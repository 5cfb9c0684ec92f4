"""All figures at once: each is that of its function, defined or None, and agrees with the run's."""

import json
import math

import pytest
import torch
from cases import ODD, predictions

from varprompt.run.tally import Tally
from varprompt.uncertainty import ace, decompose, ece, near_ood, nll, per_image, proximity, summary

FIGURES = {
    "accuracy", "nll", "brier", "confidence", "ece", "ece_10", "ece_20", "ace", "ace_10", "ace_20",
    "mce", "mce_10", "mce_weighted_10", "classwise_ece", "aurc", "e_aurc", "accuracy_80", "auroc",
    "fpr95", "entropy", "aleatoric", "epistemic",
}  # fmt: skip
ALONE = {f"ece_if_calibrated_{end}" for end in ("mean", "low", "high")}
ALONE |= {"n_samples", "n_images", "n_classes"}


@pytest.mark.parametrize("n_samples", [0, 4])
def test_every_figure_has_its_errors(n_samples):
    log_prob, labels = predictions(136, 6, 0, n_samples)
    found = summary(log_prob, labels)
    ends = ("", "_low", "_high", *(["_mc_error"] if n_samples else []))
    assert found.keys() == {name + end for name in FIGURES for end in ends} | ALONE
    json.dumps(found, allow_nan=False)
    for name in FIGURES:
        low, high = found[f"{name}_low"], found[f"{name}_high"]
        assert low <= high and (found[name] - low) * (high - found[name]) >= -1e-9, name
    images = per_image(log_prob, labels)
    pair = images.confidence, images.correct
    assert found["nll"] == nll(log_prob, labels)
    assert found["ece_10"] == pytest.approx(100 * ece(*pair, 10).item())
    parts = decompose(log_prob)
    assert found["entropy"] == pytest.approx(parts.total.mean().item())
    assert found["epistemic"] == pytest.approx(parts.epistemic.mean().item(), abs=1e-12)
    assert found["ace"] == pytest.approx(100 * ace(*pair).item())
    assert (found["n_images"], found["n_samples"]) == (136, max(1, n_samples))


def test_figures_are_those_of_the_run():
    log_prob, labels = predictions(101, 5, 3, 4)
    tally = Tally()
    for part in zip(log_prob.float().split(13, 1), labels.split(13), strict=True):
        tally.update(*part)
    want, got = tally.summary(list("abcde")), summary(log_prob.float(), labels, n_resamples=0)
    for name in ("accuracy", "nll", "ece", "accuracy_mc_error"):
        assert got[name] == pytest.approx(want[name], rel=1e-5)
    for end, value in want["ece_if_calibrated"].items():
        assert got[f"ece_if_calibrated_{end}"] == pytest.approx(value, rel=1e-5)


def test_monte_carlo_error_is_the_spread_over_draws():
    """The jackknife's of the NLL, against the NLLs of 400 sets of 8 draws each."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 4, generator=generator).double()
    labels = torch.randint(4, (40,), generator=generator)
    noise = torch.randn(400, 8, 1, 4, generator=generator).double()  # of the classes' texts
    spread = torch.tensor([nll((logits + z).log_softmax(-1), labels) for z in noise]).std()
    errors = [
        summary((logits + z).log_softmax(-1), labels, n_resamples=0)["nll_mc_error"]
        for z in noise[:60]
    ]
    assert sum(errors) / 60 == pytest.approx(spread.item(), rel=0.25)


@pytest.mark.parametrize("case", ODD)
def test_odd_predictions(case):
    log_prob, labels = ODD[case]
    found = summary(log_prob, labels, n_resamples=50)
    assert not any(isinstance(v, float) and math.isnan(v) for v in found.values())
    if found["accuracy"] in (0, 100):
        assert found["auroc"] is found["fpr95"] is None
    assert (found["nll"] == math.inf) == (case in ("sure and wrong", "sure, right and wrong"))


@pytest.mark.parametrize("n_samples", [0, 3])
def test_sets_and_proximity_on_request(n_samples):
    log_prob, labels = predictions(220, 5, n_samples=n_samples)
    features = torch.randn(110, 3, generator=torch.Generator().manual_seed(0))
    found = summary(
        log_prob[..., :110, :], labels[:110], calibration=(log_prob[..., 110:, :], labels[110:]),
        proximity=proximity(features), n_resamples=50,
    )  # fmt: skip
    for method in ("lac", "aps", "raps"):
        assert 75 < found[f"{method}_coverage"] <= 100 and 1 <= found[f"{method}_size"] <= 5
        assert found[f"{method}_size_low"] < found[f"{method}_size"] < found[f"{method}_size_high"]
        assert (f"{method}_coverage_mc_error" in found) == bool(n_samples)
    assert found["piece"] > found["ece_10"]


def test_summary_and_ood_share_no_key():
    log_prob, labels = predictions(20, 3)
    assert not summary(log_prob, labels, n_resamples=5).keys() & near_ood(log_prob, log_prob).keys()
