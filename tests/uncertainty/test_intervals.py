"""How often intervals hold what they are about."""

import math

import pytest
import torch
from cases import pairs, predictions
from scipy.stats import binom

from varprompt.uncertainty import ace, auroc, ece, interval, jackknife_error, resampled
from varprompt.uncertainty.scores import weighted_mean

N_SETS, N = 300, 200


def held(score, truth, *, centred=False):
    """How many intervals of N_SETS test sets hold the truth."""
    count = 0
    for seed in range(N_SETS):
        confidence, correct = pairs(N, seed)
        draws = resampled(lambda w: {"x": score(confidence, correct, weight=w)}, [N], 200, seed)  # noqa: B023
        low, high = interval(draws["x"], score(confidence, correct).item(), centred=centred)
        count += low <= truth <= high
    return count


def accuracy(confidence, correct, weight=None):
    return weighted_mean(correct, weight)


@pytest.mark.parametrize(("score", "truth"), [(accuracy, 1 / 2), (auroc, 5 / 6)])
def test_interval_holds_the_truth_in_95_of_100(score, truth):
    """`pairs` are right with a probability that is uniform: AUROC 5/6."""
    found = held(score, truth)
    assert binom.cdf(found, N_SETS, 0.93) > 1e-3 and binom.sf(found - 1, N_SETS, 0.965) > 1e-3


@pytest.mark.parametrize("score", [ece, ace])
def test_centred_interval_is_about_test_sets_of_this_size(score):
    """Of a calibrated classifier: their mean error, which percentiles hold less often."""
    errors = [score(*pairs(N, seed)).item() for seed in range(1000, 1500)]
    expected = sum(errors) / 500
    assert max(0.9 * N_SETS, held(score, expected)) < held(score, expected, centred=True)


def test_resamples_are_test_sets_of_the_same_size():
    sizes = [7, 3]
    found = resampled(
        lambda w: {"first": w[:, :7].sum(1), "second": w[:, 7:].sum(1), "one": w[:, 0]}, sizes, 3000
    )
    assert (found["first"] == 7).all() and (found["second"] == 3).all()
    assert found["one"].mean().item() == pytest.approx(1, abs=6 / math.sqrt(3000))
    assert found["one"].var().item() == pytest.approx(6 / 7, abs=0.2)


def test_undefined_resamples_are_left_out():
    draws = torch.tensor([1.0, math.nan, 2.0])
    low, high = interval(draws.double(), 1.5)
    assert 1 <= low < high <= 2
    assert all(math.isnan(end) for end in interval(torch.full((4,), math.nan).double(), 0.0))


def test_jackknife_is_the_standard_error_of_a_mean():
    values = predictions(1, 9)[0][0]
    left_out = (values.sum() - values) / 8
    want = values.std() / math.sqrt(9)
    assert jackknife_error(left_out) == pytest.approx(want.item())
