"""Rejection against scikit-learn and against averages over all orders of ties."""

import itertools
import math

import pytest
import torch
from cases import pairs
from scipy.stats import binom
from sklearn.metrics import roc_auc_score, roc_curve

from varprompt.uncertainty import (
    accuracy_at_coverage,
    aurc,
    auroc,
    e_aurc,
    fpr95,
    risk_coverage,
    risk_threshold,
)


@pytest.mark.parametrize("decimals", [None, 2, 1])
@pytest.mark.parametrize("n", [8, 137])
def test_auroc_and_fpr95_are_scikit_learns(n, decimals):
    score, correct = pairs(n, 3, decimals)
    assert auroc(score, correct).item() == pytest.approx(roc_auc_score(correct, score))
    fpr, tpr, _ = roc_curve(correct, score, drop_intermediate=False)
    assert fpr95(score, correct).item() == pytest.approx(fpr[tpr >= 0.95 - 1e-9][0])


def areas(score, correct):
    """(AURC, accuracy at 80 %) over all orders that the scores allow."""
    found = []
    for order in itertools.permutations(range(len(score))):
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order)):
            wrong = [sum(1 - correct[i] for i in order[:k]) / k for k in range(1, len(order) + 1)]
            found.append((sum(wrong) / len(wrong), 1 - wrong[math.ceil(0.8 * len(order)) - 1]))
    return [sum(column) / len(found) for column in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("score", "correct"),
    [
        ([0.9, 0.1, 0.5, 0.7, 0.3, 0.2], [1, 0, 0, 1, 1, 0]),
        ([0.5, 0.5, 0.9, 0.5, 0.1, 0.1, 0.1], [1, 0, 0, 1, 1, 0, 0]),
        ([1.0] * 6, [1, 0, 1, 0, 0, 0]),
        ([1.0, 0.5], [1, 1]),
        ([1.0, 0.5], [0, 0]),
        ([0.4], [0]),
    ],
)
def test_areas_are_the_mean_over_orders_of_ties(score, correct):
    pair = torch.tensor(score), torch.tensor(correct)
    area, kept = areas(score, correct)
    best, _ = areas(correct, correct)
    assert aurc(*pair).item() == pytest.approx(area)
    assert accuracy_at_coverage(*pair).item() == pytest.approx(kept)
    assert e_aurc(*pair).item() == pytest.approx(area - best, abs=1e-12)
    coverage, risk = risk_coverage(*pair)
    assert risk.mean().item() == pytest.approx(area) and coverage[-1] == 1


def test_perfect_order_has_no_excess_and_nothing_is_nan_for_nothing():
    ones, zeros = torch.ones(5), torch.zeros(5)
    for correct in (ones, zeros):
        assert auroc(ones, correct).isnan() and fpr95(ones, correct).isnan()
        assert e_aurc(ones, correct).abs() < 1e-12
    correct = torch.tensor([1.0, 1, 0, 0])
    assert e_aurc(torch.tensor([4.0, 3, 2, 1]), correct).abs() < 1e-12
    assert auroc(correct, correct) == 1 and fpr95(correct, correct) == 0


@pytest.mark.parametrize("score", [aurc, e_aurc, auroc, fpr95, accuracy_at_coverage])
@pytest.mark.parametrize("decimals", [None, 1])
def test_weights_are_repetitions(score, decimals):
    confidence, correct = pairs(61, 5, decimals)
    weight = torch.randint(4, (3, 61), generator=torch.Generator().manual_seed(1))
    got = score(confidence, correct, weight=weight.double())
    for row, value in zip(weight, got, strict=True):
        repeated = confidence.repeat_interleave(row), correct.repeat_interleave(row)
        torch.testing.assert_close(value, score(*repeated))


def test_threshold_keeps_its_promise():
    """Over 400 held-out sets the true error above it exceeds the risk in at most 5 %."""
    broken, kept = 0, []
    for seed in range(400):
        confidence, correct = pairs(1500, seed)  # right with the probability that is claimed
        found = risk_threshold(confidence, correct, 0.2)
        kept.append(found.coverage)
        if found.coverage:
            assert found.error <= found.bound <= 0.2
            broken += (1 - max(found.threshold, 0)) / 2 > 0.2  # mean of 1 - c above it
    assert binom.sf(broken - 1, 400, 0.05) > 1e-4
    assert 0.2 < sum(kept) / 400 < 0.4  # at best 0.4


def test_threshold_at_the_ends():
    confidence, _ = pairs(200)
    every = risk_threshold(confidence, torch.ones(200), 0.1)
    assert every.threshold == -math.inf and every.coverage == 1 and every.error == 0
    assert every.bound == pytest.approx(1 - (0.05 / 20) ** (1 / 200))  # no error among 200
    for correct in (torch.zeros(200), torch.ones(200)[:3]):
        none = risk_threshold(confidence[: len(correct)], correct, 0.1)
        assert none.threshold == math.inf and none.coverage == 0
    tied = risk_threshold(torch.ones(300), torch.ones(300), 0.1)
    assert tied.threshold == -math.inf
    with pytest.raises(ValueError, match="risk must be between 0 and 1, got 5"):
        risk_threshold(confidence, confidence, 5)
    with pytest.raises(ValueError, match="not empty"):
        risk_threshold(confidence[:0], confidence[:0], 0.1)
