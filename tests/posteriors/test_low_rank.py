"""The low-rank family against dense matrices."""

import pytest
import torch
from families import PRIOR_STD, B, D, E, M, build, features

from varprompt.posteriors import GaussianPosterior, LowRankPosterior

FORMS = pytest.mark.parametrize(("rows", "feature_width"), [(1, 0), (M, 0), (1, E), (M, E)])


def dense(posterior):
    """The same distribution over R * D numbers with its covariance written out, float64."""
    mu, logvar = (t.detach().double().flatten(1) for t in posterior.moments(features()))
    factor = posterior.factor.detach().double()
    covariance = logvar.exp().diag_embed() + factor @ factor.T
    return torch.distributions.MultivariateNormal(mu, covariance)


@FORMS
def test_kl_is_the_closed_form_of_the_dense_covariance(rows, feature_width):
    posterior = build("low_rank", rows, feature_width)
    q = dense(posterior)
    n = rows * D
    prior = torch.distributions.MultivariateNormal(
        torch.zeros(n).double(), PRIOR_STD**2 * torch.eye(n).double()
    )
    want = torch.distributions.kl_divergence(q, prior)
    got = posterior.kl(torch.empty(0), features(), PRIOR_STD)
    assert got.shape == (B if feature_width else 1,) and posterior.kl_is_exact
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_kl_is_what_sampling_says():
    """The mean of log q - log p over 100,000 of its samples is within 5 standard errors."""
    posterior, n = build("low_rank", M), 100_000
    with torch.no_grad():
        eps = posterior.draw_noise(
            posterior.noise_shape(n, 1), generator=torch.Generator().manual_seed(0)
        )
        residual = posterior.rsample(n, features(), eps)
        terms = (
            dense(posterior).log_prob(residual.double().flatten(1))
            - posterior.log_prior(residual, PRIOR_STD).flatten()
        )
        kl = posterior.kl(residual, features(), PRIOR_STD)
    assert (kl - terms.mean()).abs() < 5 * terms.std() / n**0.5


@FORMS
def test_samples_have_its_mean_and_covariance(rows, feature_width):
    """Every entry within 6 standard errors."""
    posterior, n = build("low_rank", rows, feature_width), 50_000
    n_rows = B if feature_width else 1
    with torch.no_grad():
        eps = posterior.draw_noise(
            posterior.noise_shape(n, n_rows), generator=torch.Generator().manual_seed(0)
        )
        residual = posterior.rsample(n, features(), eps).flatten(2).double()
    q = dense(posterior)
    assert ((residual.mean(0) - q.mean).abs() < 6 * (q.variance / n).sqrt()).all()
    for k in range(n_rows):
        want = q.covariance_matrix[k]
        spread = (want.diag()[:, None] * want.diag() + want.square()) / n
        assert ((residual[:, k].T.cov() - want).abs() < 6 * spread.sqrt()).all()


def test_without_its_factor_it_is_the_diagonal_gaussian():
    posterior = build("low_rank", M)
    with torch.no_grad():
        posterior.factor.zero_()
    diagonal = GaussianPosterior(M, D, 0, 0.0)
    diagonal.load_state_dict({k: v for k, v in posterior.state_dict().items() if k != "factor"})
    got, want = (p.kl(torch.empty(0), features(), PRIOR_STD) for p in (posterior, diagonal))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("logvar", [-19.0, 9.0])
def test_extremes_stay_finite_and_nan_is_no_error(logvar):
    posterior = LowRankPosterior(M, D, 0, logvar)
    posterior.kl(torch.empty(0), features(), 1e-3).sum().backward()
    assert all(p.grad.isfinite().all() for p in posterior.parameters())
    with torch.no_grad():
        posterior.factor[0, 0] = torch.nan
    assert posterior.kl(torch.empty(0), features(), 1.0).isnan().all()


def test_initial_values():
    torch.manual_seed(0)
    posterior = LowRankPosterior(4, 500, 0, -6.0, 3)
    assert posterior.factor.shape == (2000, 3)
    assert posterior.factor.std().item() == pytest.approx(0.1 * 0.0498, rel=0.05)
