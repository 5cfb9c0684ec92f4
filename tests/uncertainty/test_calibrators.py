"""Calibrators against scipy's search, loops over texts, and what they were made from."""

import math

import numpy as np
import pytest
import torch
from cases import certain, logits, predictions
from scipy.optimize import minimize_scalar

from varprompt.uncertainty import (
    CALIBRATORS,
    Evidence,
    Temperature,
    cross_validated_temperature,
    ece,
    fit_distance,
    fit_temperature,
    nll,
    per_image,
    stratified_folds,
)


def drawn(prob, seed=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(prob, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("n_samples", [0, 1, 5])
def test_temperature_is_that_of_scipys_search(n_samples):
    log_prob, labels = predictions(151, 6, 2, n_samples)

    def loss(log_value):
        prob = torch.softmax(log_prob / math.exp(log_value), -1)
        mean = prob.mean(0) if n_samples else prob
        return -mean.gather(1, labels[:, None]).log().mean().item()

    want = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    got = fit_temperature(log_prob, labels)
    assert got.value == pytest.approx(math.exp(want.x), rel=1e-3)
    assert got.n_samples == max(1, n_samples)
    assert nll(got(log_prob), labels) <= nll(log_prob, labels) + 1e-9


def test_temperature_undoes_a_temperature_and_calibrates():
    true = logits(4000, 5, sharpness=1.5)
    labels = drawn(true.softmax(-1))
    sharp = (2.5 * true).log_softmax(-1)
    found = fit_temperature(sharp[:2000], labels[:2000])
    assert found.value == pytest.approx(2.5, rel=0.1)
    before, after = (per_image(p[2000:], labels[2000:]) for p in (sharp, found(sharp)))
    assert (
        ece(after.confidence, after.correct) < 0.05 < 0.1 < ece(before.confidence, before.correct)
    )
    torch.testing.assert_close(before.correct, after.correct)


def test_the_mean_of_samples_has_a_temperature_of_its_own():
    """Averaging makes unsure; the temperature of one sample would do so twice."""
    true = logits(3000, 4, sharpness=2.0)
    samples = (true + logits(3000, 4, 1, 8, sharpness=2.0)).log_softmax(-1)
    labels = drawn(true.softmax(-1))
    alone, together = fit_temperature(samples[:1], labels), fit_temperature(samples, labels)
    assert together.value < alone.value
    with pytest.raises(ValueError, match="fitted to the mean of 8 samples, got 1"):
        together(samples[0])
    assert nll(together(samples), labels) < nll(Temperature(alone.value, 8)(samples), labels)


@pytest.mark.parametrize(("label", "end"), [(0, 1.0), (1, 20.0)])
def test_images_that_are_all_right_say_nothing_and_all_wrong_the_most(label, end):
    found = fit_temperature(certain([[0.9, 0.1]]), torch.tensor([label]))
    assert found.value == pytest.approx(end, rel=1e-3)


def test_folds_have_their_share_of_each_class():
    labels = torch.arange(5).repeat_interleave(7)[torch.randperm(35)]
    fold = stratified_folds(labels, 3)
    counts = torch.stack([(labels[fold == k]).bincount(minlength=5) for k in range(3)])
    assert counts.sum() == 35 and (counts.amax(0) - counts.amin(0)).max() <= 1


@pytest.mark.parametrize("n_samples", [0, 3])
def test_cross_validation_never_predicts_what_was_trained_on(n_samples):
    log_prob, labels = predictions(29, 4, 0, n_samples)
    seen = []

    def held_out(train, test):
        assert not set(train.tolist()) & set(test.tolist())
        assert len(train) + len(test) == 29
        seen.extend(test.tolist())
        return log_prob[..., test, :]

    found = cross_validated_temperature(held_out, labels)
    assert sorted(seen) == list(range(29))
    assert found.value == pytest.approx(fit_temperature(log_prob, labels).value, rel=1e-3)
    with pytest.raises(ValueError, match="needs two images and folds, got 29 and 1"):
        cross_validated_temperature(held_out, labels, 1)


def unit(n, seed):
    features = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return features / features.norm(dim=-1, keepdim=True)


def test_distance_scale_is_the_formula_class_by_class():
    base, new = unit(9, 0), unit(6, 1)
    new[2] = base[4]  # a base class
    base_before, new_before = unit(9, 2), unit(6, 3)
    found = fit_distance(base, new, base_before, new_before).scale
    for c in range(6):
        scores, nearest = [], []
        for texts, others in ((new, base), (new_before, base_before)):
            distances = np.sort(np.linalg.norm(others.numpy() - texts[c].numpy(), axis=1))
            scores.append(np.exp(-distances[:5].mean()))
            nearest.append(distances[0])
        want = 1.0 if nearest[0] < 0.05 else scores[0] / scores[1]
        assert found[c].item() == pytest.approx(want, abs=1e-6)
    assert found[2] == 1
    few = fit_distance(base[:2], new, base_before[:2], new_before)
    assert few.scale.shape == (6,)


def test_distance_scales_the_logits_by_the_predicted_class():
    raw = logits(13, 6, 4)
    calibrator = fit_distance(unit(9, 0), unit(6, 1), unit(9, 2), unit(6, 3))
    got = calibrator(raw.log_softmax(-1))
    for i in range(13):
        want = (raw[i] * calibrator.scale[raw[i].argmax()]).softmax(-1)
        torch.testing.assert_close(got[i].exp(), want)
    samples = logits(13, 6, 5, 3).log_softmax(-1)
    predicted = samples.exp().mean(0).argmax(-1)
    want = samples * calibrator.scale[predicted][:, None]
    torch.testing.assert_close(calibrator(samples), want.log_softmax(-1))
    with pytest.raises(ValueError, match="is for 6 classes, got 3"):
        calibrator(samples[..., :3])
    with pytest.raises(ValueError, match="must have the same shapes"):
        fit_distance(unit(9, 0), unit(6, 1), unit(8, 2), unit(6, 3))


def test_registry_makes_each_from_what_is_known():
    log_prob, labels = predictions(31, 6)
    texts = unit(9, 0), unit(6, 1), unit(9, 2), unit(6, 3)
    evidence = Evidence(log_prob, labels, *texts)
    for name, fit in CALIBRATORS.items():
        calibrated = fit(evidence)(log_prob)
        assert calibrated.shape == log_prob.shape
        torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(31).double())
        if name != "none":
            with pytest.raises(ValueError, match=f"'{name}' needs"):
                fit(Evidence())
