"""Entropies against sums written out and against scikit-learn's mutual information."""

import math

import pytest
import torch
from cases import certain, predictions
from sklearn.metrics import mutual_info_score

from varprompt.uncertainty import decompose


def entropy(prob):
    return -sum(p * math.log(p) for p in prob if p)


def test_parts_are_entropies():
    log_prob, _ = predictions(9, 4, n_samples=3)
    found = decompose(log_prob)
    for i in range(9):
        prob = log_prob[:, i].exp()
        total = entropy(prob.mean(0).tolist())
        aleatoric = sum(entropy(row) for row in prob.tolist()) / 3
        assert found.total[i].item() == pytest.approx(total)
        assert found.aleatoric[i].item() == pytest.approx(aleatoric)
        assert found.epistemic[i].item() == pytest.approx(total - aleatoric)


def test_epistemic_is_the_mutual_information_of_sample_and_class():
    counts = torch.tensor([[3, 1, 0], [0, 2, 2]])  # joint frequencies of sample and class
    sample, label = zip(
        *[(s, c) for s in range(2) for c in range(3) for _ in range(counts[s, c])], strict=True
    )
    found = decompose((counts / 4).double().log()[:, None])
    assert found.epistemic.item() == pytest.approx(mutual_info_score(sample, label))


def test_ends():
    alone = decompose(predictions(5, 3)[0])
    assert (alone.epistemic == 0).all()
    sure = decompose(certain([[[1.0, 0.0]], [[0.0, 1.0]]]))  # samples sure of different classes
    assert sure.total.item() == sure.epistemic.item() == pytest.approx(math.log(2))
    assert sure.aleatoric.item() == pytest.approx(0, abs=1e-15)
