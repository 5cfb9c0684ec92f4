"""The mixture family against torch.distributions, and its stratified sampling."""

import pytest
import torch
from families import PRIOR_STD, D, G, M, anchors, build, features
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from varprompt.errors import ConfigError
from varprompt.posteriors import MixturePosterior


def mixture(means, std):
    parts = Independent(Normal(means, std), 2)
    return MixtureSameFamily(Categorical(torch.ones(len(means))), parts)


def both(posterior):
    """q and p as torch knows them, float32."""
    std = (posterior.logvars.detach() / 2).exp()
    prior_std = torch.full_like(posterior.anchors, PRIOR_STD)
    return mixture(posterior.means.detach(), std), mixture(posterior.anchors, prior_std)


def noise(posterior, n_samples, seed=0):
    shape = posterior.noise_shape(n_samples, 1)
    return posterior.draw_noise(shape, generator=torch.Generator().manual_seed(seed))


def test_densities_are_those_of_the_mixtures():
    posterior = build("mixture", M)
    q, p = both(posterior)
    residual = posterior.rsample(50, features(), noise(posterior, 50))
    assert residual.shape == (50, 1, M, D)
    got = posterior.log_prob(residual, features())
    torch.testing.assert_close(got, q.log_prob(residual), rtol=1e-4, atol=1e-4)
    got = posterior.log_prior(residual, PRIOR_STD)
    torch.testing.assert_close(got, p.log_prob(residual), rtol=1e-4, atol=1e-4)


def test_kl_is_what_independent_sampling_says():
    """Both estimates from 100,000 samples, within 5 standard errors; the bound of its parts holds.

    KL is convex: that of the mixtures is at most the mean of the components' own.
    """
    posterior, n = build("mixture", M, logvar_init=-2.0), 100_000
    q, p = both(posterior)
    with torch.no_grad():
        residual = posterior.rsample(n, features(), noise(posterior, n))
        got = posterior.kl(residual, features(), PRIOR_STD).item()
        torch.manual_seed(1)
        other = q.sample((n,))
        terms = q.log_prob(other) - p.log_prob(other)
    assert not posterior.kl_is_exact
    assert abs(got - terms.mean()) < 5 * terms.std() * (2 / n) ** 0.5
    parts = kl_divergence(q.component_distribution, p.component_distribution)
    assert 0 < got < parts.mean()


def test_kl_is_zero_where_posterior_and_prior_are_equal():
    posterior = build("mixture", M, logvar_init=-2.0, moved=0)
    residual = posterior.rsample(7, features(), noise(posterior, 7))
    kl = posterior.kl(residual, features(), prior_std=torch.tensor(-1.0).exp().item())
    assert kl.abs() < 1e-5


@pytest.mark.parametrize("n_samples", [1, 2, 3, 6, 7, 40])
def test_samples_are_spread_over_the_components(n_samples):
    """Each has L / G of them, rounded down or up, and its exact share on average."""
    posterior, total = build("mixture", M), torch.zeros(G)
    n_draws = 400
    for seed in range(n_draws):
        which = posterior.components(n_samples, noise(posterior, n_samples, seed))
        counts = which.bincount(minlength=G)
        assert (counts - n_samples / G).abs().max() < 1 and counts.sum() == n_samples
        assert (which.diff() >= 0).all()
        total += counts
    share = n_samples % G / G  # a component's extra sample is a draw with this probability
    limit = 5 * (share * (1 - share) / n_draws) ** 0.5
    assert (total / n_draws - n_samples / G).abs().max() <= limit + 1e-6


def test_extreme_starts_stay_within_the_components():
    posterior, eps = build("mixture", M), torch.zeros(6, 1, 1, M * D + 1)
    for extreme in (-40.0, 40.0):
        eps[..., -1] = extreme
        assert 0 <= posterior.components(6, eps).min() and posterior.components(6, eps).max() < G


def test_it_starts_at_its_anchors_and_remembers_them():
    posterior = MixturePosterior(M, D, 0, -9.0, anchors())
    assert torch.equal(posterior.means, anchors()) and (posterior.logvars == -9).all()
    assert posterior.state_dict().keys() == {"means", "logvars", "anchors"}
    assert {n for n, _ in posterior.named_parameters()} == {"means", "logvars"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((M, D), r"needs anchors \(G, R, D\) = \(2 or more, 4, 5\), got none"),
        ((M, D, 0, None, anchors()[:1]), r"got \(1, 4, 5\)"),
        ((1, D, 0, None, anchors()), r"\(2 or more, 1, 5\), got \(3, 4, 5\)"),
        ((M, D, 7, None, anchors()), "cannot depend on the image"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MixturePosterior(*arguments)
