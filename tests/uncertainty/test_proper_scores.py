"""Proper scores and figures per image, against sums written out."""

import math

import pytest
import torch
from cases import ODD, predictions

from varprompt.uncertainty import accuracy, brier, left_out, nll, per_image
from varprompt.uncertainty import samples as samples_module
from varprompt.uncertainty.samples import as_samples
from varprompt.uncertainty.scores import weighted_mean

CASES = {**ODD, "random": predictions(37, 5), "sampled": predictions(11, 3, 1, n_samples=4)}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_their_sums(case):
    log_prob, labels = CASES[case]
    prob = log_prob.exp().mean(0) if log_prob.dim() == 3 else log_prob.exp()
    likelihood, distance, hits = [], [], []
    for row, label in zip(prob.tolist(), labels.tolist(), strict=True):
        likelihood.append(-math.log(row[label]) if row[label] else math.inf)
        distance.append(sum((p - (c == label)) ** 2 for c, p in enumerate(row)))
        hits.append(row.index(max(row)) == label)
    assert nll(log_prob, labels) == pytest.approx(sum(likelihood) / len(labels), abs=1e-12)
    assert brier(log_prob, labels) == pytest.approx(sum(distance) / len(labels), abs=1e-12)
    assert accuracy(log_prob, labels) == pytest.approx(sum(hits) / len(labels))


def test_leaving_out_a_draw_is_averaging_the_others(monkeypatch):
    monkeypatch.setattr(samples_module, "_BLOCK", 40)  # several blocks of images
    log_prob, labels = predictions(23, 5, n_samples=4)
    got = left_out(log_prob, labels)
    for index in range(4):
        rest = torch.cat([log_prob[:index], log_prob[index + 1 :]])
        want = per_image(rest, labels)
        for name in want.__dataclass_fields__:
            torch.testing.assert_close(getattr(got, name)[index], getattr(want, name))
    assert left_out(log_prob[:1], labels) is None


def test_a_weight_is_how_often_an_image_counts():
    values, weight = (
        torch.tensor([1.0, 5.0, math.inf]).double(),
        torch.tensor([[2.0, 1, 0], [0, 1, 1]]),
    )
    assert weighted_mean(values, weight.double()).tolist() == [pytest.approx(7 / 3), math.inf]


@pytest.mark.parametrize(
    ("log_prob", "labels", "message"),
    [
        (torch.zeros(3), None, r"must be \(N, C\) or \(L, N, C\)"),
        (torch.zeros(0, 3), None, "not empty"),
        (torch.tensor([[2.0, 1.0]]), None, "sum to 10.11, not 1; apply log_softmax"),
        (torch.full((2, 2), math.nan), None, "sum to nan"),
        (torch.zeros(2, 1), torch.zeros(3, dtype=torch.long), r"labels must be \(N,\) = \(2,\)"),
        (torch.zeros(2, 1), torch.tensor([0, 1]), "from 0 to 0, got torch.int64 from 0 to 1"),
        (torch.zeros(2, 1), torch.zeros(2), "whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(log_prob, labels, message):
    with pytest.raises(ValueError, match=message):
        as_samples(log_prob, labels)
