"""What every family of posteriors promises."""

import math

import pytest
import torch

from varprompt.errors import ConfigError
from varprompt.posteriors import (
    LOGVAR_BOUNDS,
    POSTERIORS,
    FixedPosterior,
    GaussianPosterior,
    MetaNet,
    bounded,
)

D, E, B = 5, 37, 3
FAMILIES = [
    pytest.param(family, rows, feature_width, id=f"{name}-R{rows}-E{feature_width}")
    for name, family in [*POSTERIORS.items(), ("meta_net", MetaNet)]
    for rows in (1, 4)
    for feature_width in (0, E)
    if not (name == "meta_net" and (rows > 1 or not feature_width))
]


@pytest.fixture
def features():
    torch.manual_seed(0)  # initial weights: a network of few ReLUs may be dead
    return torch.nn.functional.normalize(
        torch.randn(B, E, generator=torch.Generator().manual_seed(0)), dim=-1
    )


@pytest.mark.parametrize(("family", "rows", "feature_width"), FAMILIES)
def test_shapes_types_and_gradients(family, rows, feature_width, features):
    posterior = family(rows, D, feature_width, -3.0)
    outputs = [t for t in posterior(features.half()) if t is not None]
    n_rows = B if feature_width else 1
    for output in outputs:
        assert output.shape == (n_rows, rows, D)
        assert output.dtype == torch.float32
    assert posterior.shape == (rows, D)
    assert all(p.dtype == torch.float32 for p in posterior.parameters())

    target = torch.randn(n_rows, rows, D)
    sum((t * target).sum() for t in outputs).backward()
    for name, parameter in posterior.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("family", "rows", "feature_width"), FAMILIES)
def test_image_matters_only_if_asked(family, rows, feature_width, features):
    posterior = family(rows, D, feature_width, -3.0)
    one, other = posterior(features)[0], posterior(features.flip(0))[0]
    if feature_width:
        assert torch.allclose(one, other.flip(0), atol=1e-6)
        assert not torch.allclose(one, other, atol=1e-4)
    else:
        assert torch.equal(one, other)


def test_initial_values_are_the_authors():
    torch.manual_seed(0)
    mu, logvar = GaussianPosterior(2, 500)(torch.zeros(1, E))
    assert torch.equal(mu, torch.zeros(1, 2, 500))
    assert 0 <= logvar.min() < 0.05 and 0.95 < logvar.max() < 1  # U(0, 1)
    x = torch.nn.functional.normalize(torch.randn(B, 512), dim=-1)
    mu, logvar = GaussianPosterior(1, 512, 512)(x)  # widths of ViT-B/16
    assert 0.02 < mu.std() < 0.06
    assert 0.02 < logvar.std() < 0.06 and logvar.abs().max() < 0.2  # a deviation of about 1


@pytest.mark.parametrize("feature_width", [0, E])
def test_logvar_init(feature_width, features):
    for family in (GaussianPosterior, FixedPosterior):
        logvar = family(1, D, feature_width, -6.5)(features)[1]
        exact = family is FixedPosterior or not feature_width
        assert torch.allclose(logvar, torch.tensor(-6.5), atol=0 if exact else 1.0)
    assert not any(
        "logvar" in n for n, _ in FixedPosterior(1, D, feature_width, -1.0).named_parameters()
    )


def test_fixed_needs_its_log_variance():
    with pytest.raises(ConfigError, match=r"TRAINER\.VPT\.LOGVAR_INIT"):
        FixedPosterior(1, D)


def test_sizes_of_the_published_models():
    """ViT-B/16: 657,408 numbers in VPT_CoCoOp's networks, 33,312 in CoCoOp's, 1,024 in VPT."""
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(GaussianPosterior(1, 512, 512)) == 657_408
    assert count(MetaNet(1, 512, 512)) == 33_312
    assert count(GaussianPosterior(1, 512)) == 1_024
    assert count(GaussianPosterior(1, 512, 1024)) == 2_100_224  # RN50


def test_tiny_features():
    """Hidden widths never reach zero."""
    for family in (GaussianPosterior, MetaNet):
        mu, _ = family(1, D, 1)(torch.ones(2, 1))
        assert math.isfinite(mu.sum().item())


def test_log_variances_are_bounded_smoothly():
    x = torch.linspace(-60, 60, 12001, dtype=torch.float64, requires_grad=True)
    y = bounded(x)
    low, high = LOGVAR_BOUNDS
    assert low <= y.min() and y.max() <= high and (y.diff() >= 0).all()
    middle = (x > -12) & (x < 4)
    assert torch.allclose(bounded(x)[middle], x[middle], rtol=0, atol=2e-8)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope[(x > -24) & (x < 14)] > 1e-7).all()  # a way back from beyond a bound
    assert torch.autograd.gradcheck(
        bounded, torch.tensor([-30.0, -20.5, -19.0, 9.9, 12.0]).double().requires_grad_()
    )
