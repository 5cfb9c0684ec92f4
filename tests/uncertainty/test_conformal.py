"""Prediction sets: their promise, and their scores class by class."""

import math

import pytest
import torch
from cases import certain, predictions
from scipy.stats import binom

from varprompt.uncertainty import CONFORMAL, conformal_sets, conformal_threshold
from varprompt.uncertainty.conformal import aps, raps


def test_scores_class_by_class():
    prob = predictions(7, 9)[0].exp()
    noise = torch.linspace(0, 0.9, 7).double()
    got, with_ranks = aps(prob, noise), raps(prob, noise)
    for i in range(7):
        for c in range(9):
            above = [p for p in prob[i].tolist() if p > prob[i, c]]
            want = sum(above) + noise[i].item() * prob[i, c].item()
            assert got[i, c].item() == pytest.approx(want)
            extra = 0.01 * max(0, len(above) + 1 - 5)
            assert with_ranks[i, c].item() == pytest.approx(want + extra)


def test_threshold_is_an_order_statistic():
    scores = torch.arange(1.0, 20)[torch.randperm(19)]
    assert conformal_threshold(scores, 0.1) == 18  # ceil(20 * 0.9)
    assert conformal_threshold(scores[:8], 0.1) == math.inf
    assert conformal_threshold(torch.ones(9), 0.1) == 1
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 1.5"):
        conformal_threshold(scores, 1.5)


@pytest.mark.parametrize("method", CONFORMAL)
def test_coverage_over_1000_draws(method):
    """Of one new image each, after 49 calibration images of a bad classifier."""
    n_draws, n = 1000, 50
    log_prob, labels = predictions(n_draws * n, 7, 3, sharpness=4.0)
    covered = 0
    for draw in range(n_draws):
        rows = slice(draw * n, (draw + 1) * n)
        part, truth = log_prob[rows], labels[rows]
        sets = conformal_sets(part[:1], (part[1:], truth[1:]), method, 0.1, draw)
        covered += int(sets[0, truth[0]])
    # at least 0.9, and at most 1 / (n + 1) more without ties
    assert binom.sf(covered - 1, n_draws, 0.92) > 1e-4 and binom.cdf(covered, n_draws, 0.9) > 1e-4


@pytest.mark.parametrize("method", CONFORMAL)
def test_odd_calibration_images(method):
    one = certain([[1.0, 0.0, 0.0]])
    label = torch.tensor([0])
    assert conformal_sets(one, (one, label), method).all()  # one image promises nothing
    many = conformal_sets(one, (one.expand(30, 3), label.expand(30)), method)
    assert many[0, 0] or method != "lac"
    wrong = conformal_sets(one, (one.expand(30, 3), label.expand(30) + 1), method)
    assert wrong.all() or method == "raps"
    with pytest.raises(ValueError, match="method 'lak' is unknown; choose from"):
        conformal_sets(one, (one, label), "lak")
