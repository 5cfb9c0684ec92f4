"""Calibration errors against torchmetrics, scikit-learn and loops over bins."""

import math

import numpy as np
import pytest
import reference
import torch
from cases import ODD, pairs, predictions
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import KBinsDiscretizer
from torchmetrics.functional.classification import multiclass_calibration_error

from varprompt.uncertainty import (
    ace,
    classwise_ece,
    ece,
    ece_if_calibrated,
    mce,
    mce_weighted,
    per_image,
    piece,
    proximity,
    reliability,
)
from varprompt.uncertainty import samples as samples_module
from varprompt.uncertainty.calibration import classwise_left_out

N_BINS = pytest.mark.parametrize("n_bins", [10, 15, 20])


def gaps(index, confidence, correct, n_bins):
    """(gap, share) of each bin that holds something."""
    found = []
    for b in range(n_bins):
        inside = [i for i, k in enumerate(index) if k == b]
        if inside:
            gap = abs(sum(confidence[i] - correct[i] for i in inside)) / len(inside)
            found.append((gap, len(inside) / len(confidence)))
    return found


@N_BINS
@pytest.mark.parametrize("n_classes", [2, 7, 101])
def test_ece_and_mce_are_those_of_torchmetrics(n_classes, n_bins):
    log_prob, labels = predictions(503, n_classes, n_bins)
    images = per_image(log_prob, labels)
    for norm, score in (("l1", ece), ("max", mce)):
        want = multiclass_calibration_error(
            log_prob.exp(), labels, n_classes, n_bins=n_bins, norm=norm
        )
        got = score(images.confidence, images.correct, n_bins)
        assert got.item() == pytest.approx(want.item(), abs=1e-6)


@pytest.mark.parametrize("case", ODD)
def test_odd_predictions_are_those_of_the_loop(case):
    images = per_image(*ODD[case])
    confidence, correct = images.confidence.tolist(), images.correct.tolist()
    want = reference.calibration_error(confidence, correct)
    assert ece(images.confidence, images.correct).item() == pytest.approx(want, abs=1e-12)
    index = [min(14, math.ceil(c * 15) - 1) for c in confidence]
    found = gaps(index, confidence, correct, 15)
    largest = mce(images.confidence, images.correct).item()
    assert largest == pytest.approx(max(gap for gap, _ in found), abs=1e-12)


def test_edges_belong_to_the_lower_bin():
    ones = torch.ones(4)
    assert ece(ones, ones) == 0
    assert ece(ones, 0 * ones) == ece(0 * ones, ones) == 1
    together = torch.tensor([0.2, 0.19]).double()
    assert ece(together.round(decimals=2), torch.tensor([1.0, 0.0])).item() == pytest.approx(0.305)
    nearly = torch.tensor([1 + 1e-7])  # exp of a rounded log-probability
    assert ece(nearly, torch.ones(1)).item() == pytest.approx(0, abs=1e-6)


def test_the_published_mce_is_the_largest_product_of_gap_and_share():
    confidence, correct = pairs(211)
    index = [math.ceil(c * 10) - 1 for c in confidence.tolist()]
    found = gaps(index, confidence.tolist(), correct.tolist(), 10)
    want = max(gap * share for gap, share in found)
    assert mce_weighted(confidence, correct).item() == pytest.approx(want)


@N_BINS
def test_ace_is_that_over_scikit_learns_quantile_bins(n_bins):
    confidence, correct = pairs(n_bins * 13, n_bins)
    binner = KBinsDiscretizer(
        n_bins, encode="ordinal", strategy="quantile", quantile_method="linear"
    )
    index = binner.fit_transform(confidence[:, None].numpy())[:, 0].astype(int)
    want = sum(g * s for g, s in gaps(index, confidence.tolist(), correct.tolist(), n_bins))
    assert ace(confidence, correct, n_bins).item() == pytest.approx(want)


@pytest.mark.parametrize("n", [1, 3, 50, 137])
def test_ace_does_not_depend_on_the_order_of_ties(n):
    """It is the mean over orders of the sums in a bin; without ties, that of the sorted images."""
    confidence, correct = pairs(n, n, decimals=1)
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    got = reliability(confidence, correct, 15, equal_mass=True)
    again = reliability(confidence[shuffled], correct[shuffled], 15, equal_mass=True)
    for name in ("count", "confidence", "correct"):
        torch.testing.assert_close(getattr(got, name), getattr(again, name))
    assert got.count.sum() == n and got.count.max() - got.count.min() <= 1
    distinct = torch.linspace(0.1, 1, n, dtype=torch.float64)
    index = [r * 15 // n for r in range(n)]
    want = sum(g * s for g, s in gaps(index, distinct.tolist(), correct.tolist(), 15))
    assert ace(distinct, correct).item() == pytest.approx(want)


@pytest.mark.parametrize("case", [*ODD, "random", "sampled"])
def test_classwise_ece_is_the_mean_of_the_binary_ones(case, monkeypatch):
    monkeypatch.setattr(samples_module, "_BLOCK", 64)
    cases = {**ODD, "random": predictions(83, 5), "sampled": predictions(41, 4, 1, n_samples=3)}
    log_prob, labels = cases[case]
    prob = log_prob.exp().mean(0) if log_prob.dim() == 3 else log_prob.exp()
    errors = []
    for c in range(prob.shape[1]):
        of_class = prob[:, c].tolist()
        index = [max(0, math.ceil(p * 15 - 1e-12) - 1) for p in of_class]
        hits = (labels == c).double().tolist()
        errors.append(sum(g * s for g, s in gaps(index, of_class, hits, 15)))
    want = sum(errors) / len(errors)
    assert classwise_ece(log_prob, labels).item() == pytest.approx(want, abs=1e-10)


def test_classwise_ece_without_each_draw(monkeypatch):
    monkeypatch.setattr(samples_module, "_BLOCK", 64)
    log_prob, labels = predictions(41, 4, 1, n_samples=3)
    rest = [torch.cat([log_prob[:i], log_prob[i + 1 :]]) for i in range(3)]
    want = torch.stack([classwise_ece(part, labels) for part in rest])
    torch.testing.assert_close(classwise_left_out(log_prob, labels), want)


def test_proximity_is_that_of_scikit_learns_neighbours():
    features = torch.randn(57, 6, generator=torch.Generator().manual_seed(0)).double()
    distances, _ = NearestNeighbors(n_neighbors=11).fit(features.numpy()).kneighbors()
    want = np.exp(-distances[:, :10].mean(1))
    np.testing.assert_allclose(proximity(features).numpy(), want, atol=1e-6)
    others = proximity(features[:5], features[5:], 3)
    distances, _ = (
        NearestNeighbors(n_neighbors=3).fit(features[5:].numpy()).kneighbors(features[:5].numpy())
    )
    np.testing.assert_allclose(others.numpy(), np.exp(-distances.mean(1)), atol=1e-6)
    assert proximity(features[:1]).tolist() == [1]


def test_piece_bins_by_confidence_and_proximity():
    confidence, correct = pairs(173)
    nearness = torch.rand(173, generator=torch.Generator().manual_seed(3))
    rank = nearness.argsort().argsort().tolist()
    index = [
        r * 10 // 173 * 10 + math.ceil(c * 10) - 1
        for r, c in zip(rank, confidence.tolist(), strict=True)
    ]
    want = sum(g * s for g, s in gaps(index, confidence.tolist(), correct.tolist(), 100))
    assert piece(confidence, correct, nearness).item() == pytest.approx(want)
    assert piece(confidence, correct, nearness) >= ece(confidence, correct, 10)


@pytest.mark.parametrize("score", [ece, ace, mce, mce_weighted])
@pytest.mark.parametrize("decimals", [None, 1])
def test_weights_are_repetitions(score, decimals):
    confidence, correct = pairs(61, 5, decimals)
    weight = torch.randint(4, (3, 61), generator=torch.Generator().manual_seed(1)).double()
    weight[:, -1] = 200 - weight[:, :-1].sum(1)  # resampled sets have one size
    got = score(confidence, correct, weight=weight)
    for row, value in zip(weight.long(), got, strict=True):
        repeated = confidence.repeat_interleave(row), correct.repeat_interleave(row)
        torch.testing.assert_close(value, score(*repeated))


def test_weights_are_repetitions_classwise():
    log_prob, labels = predictions(31, 4)
    weight = torch.randint(4, (3, 31), generator=torch.Generator().manual_seed(1))
    got = classwise_ece(log_prob, labels, weight=weight.double())
    for row, value in zip(weight, got, strict=True):
        repeated = log_prob.repeat_interleave(row, 0), labels.repeat_interleave(row)
        torch.testing.assert_close(value, classwise_ece(*repeated))


def test_ece_of_a_calibrated_classifier_is_that_of_drawn_hits():
    """The mean over draws, against drawing here; it goes to 0 with the number of images."""
    confidence = torch.linspace(0.4, 1, 136, dtype=torch.float64)
    found = ece_if_calibrated(confidence)
    generator = torch.Generator().manual_seed(7)
    eces = [
        100
        * reference.calibration_error(
            confidence.tolist(),
            (torch.rand(136, generator=generator, dtype=torch.float64) < confidence).tolist(),
        )
        for _ in range(200)
    ]
    mean = sum(eces) / 200
    spread = math.sqrt(sum((e - mean) ** 2 for e in eces) / 199 / 200)
    assert abs(found["mean"] - mean) < 6 * spread
    assert 5 < found["low"] < found["mean"] < found["high"] < 20
    assert ece_if_calibrated(confidence.repeat(100))["mean"] < 1.2
    assert ece_if_calibrated(torch.ones(50))["high"] == 0
