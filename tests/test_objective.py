"""Objective and predictive distribution against the textbook and against each other."""

import itertools
import math

import pytest
import reference
import torch

from varprompt.errors import DataError
from varprompt.objective import (
    KL_REDUCTIONS,
    OBJECTIVES,
    ObjectiveConfig,
    kl_scale,
    objective,
    predictive_log_prob,
)

L, B, C, K = 5, 3, 7, 3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(L, B, C, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([6, 0, 2]), torch.rand(K, generator=generator).double()


@pytest.mark.parametrize(("name", "reduction"), [*itertools.product(OBJECTIVES, KL_REDUCTIONS)])
def test_equals_the_textbook(batch, name, reduction):
    logits, labels, kl = batch
    scale = kl_scale(0.3, reduction, n_dims=11, n_train=13)
    terms = objective(logits, labels, kl, ObjectiveConfig(name, scale))
    want = reference.loss(
        logits, labels, kl, 11, objective=name, kl_weight=0.3, kl_reduction=reduction, n_train=13
    )
    assert torch.allclose(terms.loss, want, rtol=1e-12)
    assert torch.allclose(terms.nll + scale * terms.kl, terms.loss, rtol=1e-12)
    assert torch.allclose(terms.kl, kl.mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradcheck(batch, name):
    logits, labels, kl = batch
    cfg = ObjectiveConfig(name, 0.7)
    torch.autograd.gradcheck(
        lambda a, b: objective(a, labels, b, cfg).loss,
        (logits.requires_grad_(), kl.requires_grad_()),
    )
    torch.autograd.gradcheck(lambda a: predictive_log_prob(a)[:, 1], logits)


def test_order_of_the_bounds(batch):
    """Jensen: minus log of a mean is at most minus the mean of logs, and equal without noise."""
    logits, labels, kl = batch
    nll = {name: objective(logits, labels, kl, ObjectiveConfig(name)).nll for name in OBJECTIVES}
    assert nll["iwae"] < nll["elbo"] - 0.1
    same = logits[:1].expand(L, -1, -1)
    cross_entropy = torch.nn.functional.cross_entropy(logits[0], labels)
    for name in OBJECTIVES:
        for samples in (logits[:1], same):
            got = objective(samples, labels, kl, ObjectiveConfig(name)).nll
            assert torch.allclose(got, cross_entropy, rtol=1e-12)


def test_more_samples_tighten_the_bound():
    """The expected bound falls with L (arXiv 1509.00519): 4,000 draws of L = 1, 4, 16."""
    generator = torch.Generator().manual_seed(0)
    draws = 3 * torch.randn(16, 4000, 2, generator=generator)
    labels = torch.zeros(4000, dtype=torch.int64)
    nll = [
        objective(draws[:n], labels, torch.zeros(1), ObjectiveConfig("iwae")).nll.item()
        for n in (1, 4, 16)
    ]
    assert nll[0] > nll[1] + 0.1 > nll[2] + 0.1


def test_kl_reductions():
    assert kl_scale(0.001, "mean", 512, 99) == 0.001 / 512
    assert kl_scale(2.0, "sum", 512, 99) == 2.0
    assert kl_scale(1.0, "elbo", 512, 99) == 1 / 99


def test_predictive_is_a_distribution(batch):
    logits = batch[0]
    log_prob = predictive_log_prob(logits)
    assert torch.allclose(log_prob, reference.predictive(logits), rtol=1e-12)
    assert torch.allclose(log_prob.exp().sum(-1), torch.ones(B).double())


def test_extreme_logits_stay_finite():
    """fp16 logits of 100 and probabilities that underflow in float32."""
    logits = torch.tensor([[[100.0, -100.0]], [[90.0, -100.0]]]).half()
    terms = objective(logits, torch.tensor([1]), torch.zeros(1), ObjectiveConfig("iwae"))
    assert terms.loss.dtype == torch.float32
    assert terms.loss.item() == pytest.approx(190 + math.log(2), rel=1e-3)
    assert torch.isfinite(predictive_log_prob(logits)).all()


@pytest.mark.parametrize("labels", [torch.tensor([0]), torch.zeros(B, 1, dtype=torch.long)])
def test_labels_that_would_be_taken_for_those_of_some_images_are_refused(batch, labels):
    logits, _, kl = batch
    with pytest.raises(DataError, match=f"for {B} images: give"):
        objective(logits, labels, kl, ObjectiveConfig("elbo", 1.0))


@pytest.mark.parametrize(("label", "said"), [(C, f"from 0 to {C}"), (-1, "-1"), (0.5, "float32")])
def test_labels_that_are_no_places_of_classes_are_refused(batch, label, said):
    logits, _, kl = batch
    labels = torch.tensor([label] + [0] * (B - 1))
    with pytest.raises(DataError, match=f"labels are .*{said}"):
        objective(logits, labels, kl, ObjectiveConfig("elbo", 1.0))
