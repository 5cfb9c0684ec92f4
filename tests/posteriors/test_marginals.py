"""What a family says of where its residuals are, against its own draws."""

import pytest
import torch
from families import B, E, build, every_form, features

from varprompt.posteriors import POSTERIORS
from varprompt.posteriors.base import Posterior

N = 20_000


def draws(posterior):
    """Residuals (N, K, R, D)."""
    n_rows = B if posterior.conditional else 1
    shape = posterior.noise_shape(N, n_rows)
    generator = torch.Generator().manual_seed(3)
    eps = torch.empty(0) if shape is None else torch.randn(shape, generator=generator)
    with torch.no_grad():
        return posterior.rsample(N, features(), eps)


@every_form
def test_mean_and_deviation_are_those_of_draws(name, rows, feature_width):
    posterior = build(name, rows, feature_width)
    with torch.no_grad():
        found = posterior.marginals(features())
    residual = draws(posterior)
    mean, std = found.mean, found.std  # (G, K, R, D)
    assert mean.shape == std.shape == (len(mean), *residual.shape[1:])
    # of a mixture with equal weights
    whole = mean.mean(0)
    spread = (std.square() + mean.square()).mean(0) - whole.square()
    torch.testing.assert_close(residual.mean(0), whole, rtol=0, atol=0.015)
    torch.testing.assert_close(
        residual.std(0, correction=0), spread.clamp(min=0).sqrt(), rtol=0.05, atol=0.005
    )


@pytest.mark.parametrize("name", ["gaussian", "low_rank"])
def test_a_family_that_does_not_say_it_is_asked_by_draws(name):
    posterior = build(name, 1, E)
    with torch.no_grad():
        exact = posterior.marginals(features())
        drawn = Posterior.marginals(posterior, features())
        again = Posterior.marginals(posterior, features())
    assert torch.equal(drawn.mean, again.mean)
    torch.testing.assert_close(drawn.std, exact.std, rtol=0.3, atol=0)
    assert name in POSTERIORS
