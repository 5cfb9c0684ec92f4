"""The mixture family against torch.distributions: its bound, its padding, its samples."""

import pytest
import torch
from families import (
    LENGTHS,
    PRIOR_STD,
    B,
    D,
    E,
    G,
    M,
    anchors,
    build,
    context,
    features,
)
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from varprompt.errors import ConfigError
from varprompt.ops import reparam_kl
from varprompt.posteriors import MixturePosterior, Posterior, PosteriorSpec

LIVE = torch.arange(M) < torch.tensor(LENGTHS)[:, None]  # (G, M)


def whole(logvar=-2.0, spread=1.0):
    """One whose templates have all M tokens, moved away from them."""
    torch.manual_seed(0)
    spec = PosteriorSpec(M, D, 0, logvar, anchors=spread * torch.randn(G, M, D))
    posterior = MixturePosterior.from_spec(spec)
    with torch.no_grad():
        for p in posterior.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return posterior


def both(posterior):
    """q and p of the residuals alone, as torch knows them."""
    std = (posterior.logvars.detach() / 2).exp()
    centres = posterior.anchors
    return [
        MixtureSameFamily(Categorical(torch.ones(G)), Independent(Normal(mean, s), 2))
        for mean, s in ((centres + posterior.shifts.detach(), std),
                        (centres, torch.full_like(std, PRIOR_STD)))
    ]  # fmt: skip


def joint_terms(posterior, n):
    """log q(g, r) - log p(g, r) of n draws of g and r from q."""
    g = torch.randint(G, (n,))
    std = (posterior.logvars.detach() / 2).exp()
    q, p = Normal(posterior.shifts.detach()[g], std[g]), Normal(0.0, PRIOR_STD)
    deviation = q.sample()  # of the template of g, around which the prior is, too
    return (q.log_prob(deviation) - p.log_prob(deviation)).sum((1, 2))


def test_kl_is_that_of_the_joint_distributions():
    """Monte Carlo over component and residual, 100,000 draws, within 5 standard errors."""
    posterior, n = whole(), 100_000
    with torch.no_grad():
        got = posterior.kl(None, features(), PRIOR_STD)
        terms = joint_terms(posterior, n)
    assert posterior.kl_is_exact and got.shape == (1,)
    assert abs(got - terms.mean()) < 5 * terms.std() / n**0.5


def test_it_bounds_the_kl_of_the_residuals_alone_and_is_it_where_components_lie_apart():
    n = 50_000
    torch.manual_seed(1)
    for spread, gap in ((0.1, True), (30.0, False)):
        posterior = whole(spread=spread)
        q, p = both(posterior)
        with torch.no_grad():
            draws = q.sample((n,))
            terms = q.log_prob(draws) - p.log_prob(draws)
            joint = posterior.kl(None, features(), PRIOR_STD).item()
        error = 5 * terms.std().item() / n**0.5
        if gap:
            assert terms.mean().item() + error < joint
        else:
            assert abs(joint - terms.mean().item()) < error
        parts = kl_divergence(q.component_distribution, p.component_distribution)
        assert joint == pytest.approx(parts.mean().item(), rel=1e-5)


def test_points_are_maximum_a_posteriori_estimates_of_their_own():
    """The KL is the mean of |d_g|^2 / (2 s^2): its gradient is 1 / G of each one's alone."""
    posterior = build("mixture-delta", M)
    (kl,) = posterior.kl(None, features(), PRIOR_STD)
    (gradient,) = torch.autograd.grad(kl, posterior.shifts)
    alone = posterior.shifts.detach() * LIVE[..., None] / PRIOR_STD**2
    torch.testing.assert_close(gradient, alone / G)
    assert not {"n_samples", "test_seed"} - set(posterior.not_read({"component": "delta"}))
    assert posterior.not_read({"component": "fixed"}) == posterior.unread


def test_kl_is_zero_where_posterior_and_prior_are_equal():
    posterior = build("mixture", M, logvar_init=-2.0, moved=0)
    kl = posterior.kl(None, features(), prior_std=torch.tensor(-1.0).exp().item())
    assert kl.abs() < 1e-5


@pytest.mark.parametrize("name", ["mixture", "mixture-fixed", "mixture-delta"])
@pytest.mark.parametrize("feature_width", [0, E])
def test_what_a_template_lacks_is_neither_moved_nor_counted(name, feature_width):
    posterior, x = build(name, 1 if feature_width else M, feature_width), features()
    sample = posterior.sample(context(), G, x, prior_std=PRIOR_STD)
    filled = context() + posterior.anchors  # (G, M, D)
    found = sample.contexts[:, 0]
    assert torch.equal(found[~LIVE], filled[~LIVE])
    assert (found[LIVE] != filled[LIVE]).all()
    changed = build(name, 1 if feature_width else M, feature_width)
    with torch.no_grad():
        for p in (changed.shifts, changed.logvars):
            if p is not None:
                p[~LIVE] += 7
    again = changed.sample(context(), G, x, prior_std=PRIOR_STD)
    torch.testing.assert_close(again.kl, sample.kl)


@pytest.mark.parametrize(("n_samples", "each"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_as_many_samples_of_each_component(n_samples, each):
    posterior = build("mixture", M, logvar_init=-19.0)
    shape = posterior.noise_shape(n_samples, 1)
    assert shape == (each * G, 1, M, D)
    found = posterior.rsample(n_samples, features(), posterior.draw_noise(shape))
    want = (posterior.anchors + posterior.deviation(features())[:, 0]).repeat_interleave(each, 0)
    torch.testing.assert_close(found[:, 0], want, rtol=0, atol=0.01)


def test_antithetic_pairs_and_sobol_points_are_within_a_component():
    posterior = build("mixture", M)
    posterior.sampler = "antithetic"
    eps = posterior.draw_noise(posterior.noise_shape(4 * G, 1), generator=torch.Generator())
    eps = eps.unflatten(0, (G, 2, 2))
    assert (
        torch.equal(eps[:, :, 0], -eps[:, :, 1]) and len(eps.flatten(0, 2).unique(dim=0)) == 4 * G
    )
    posterior.sampler = "sobol"
    drawn = posterior.draw_noise(posterior.noise_shape(256 * G, 1), generator=torch.Generator())
    means = drawn.unflatten(0, (G, 256)).mean(1)
    assert means.abs().max() < 0.05  # of independent noise 0.06 is one standard error


@pytest.mark.parametrize("feature_width", [0, E])
def test_all_components_are_rows_of_one_operation(feature_width, monkeypatch):
    """One call, whatever G: equal to a call for each component, in value and gradient."""
    posterior, x = build("mixture", 1 if feature_width else M, feature_width), features()
    calls = []

    def counted(*args, **options):
        calls.append(args[0].shape)
        return reparam_kl(*args, **options)

    monkeypatch.setattr("varprompt.posteriors.mixture.reparam_kl", counted)
    n_rows = B if feature_width else 1
    eps = posterior.draw_noise(posterior.noise_shape(2 * G, n_rows))
    results = []
    for sample in (posterior.sample, lambda *a, **o: Posterior.sample(posterior, *a, **o)):
        posterior.zero_grad()
        found = sample(context(), 2 * G, x, prior_std=PRIOR_STD, eps=eps)
        weight = torch.sin(torch.arange(found.contexts.numel())).view_as(found.contexts)
        ((found.contexts * weight).sum() + 0.3 * found.kl.sum()).backward()
        results.append((found.contexts, found.kl, [p.grad for p in posterior.parameters()]))
    assert calls == [(2 * G * n_rows, M, D)]
    torch.testing.assert_close(*results)


def test_it_starts_at_its_templates_and_remembers_them():
    posterior = MixturePosterior(M, D, 0, -9.0, anchors(), LENGTHS)
    assert torch.equal(posterior.anchors, anchors()) and not posterior.shifts.any()
    assert posterior.state_dict().keys() == {"shifts", "logvars", "anchors"}
    assert {n for n, _ in posterior.named_parameters()} == {"shifts", "logvars"}
    origins = posterior.origins(2 * G)
    assert torch.equal(origins[:, 0], anchors().repeat_interleave(2, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((M, D), r"needs anchors \(G, M, D\) = \(2 or more, M, 5\), got none"),
        ((M, D, 0, None, anchors()[:1]), r"got \(1, 4, 5\)"),
        ((M, D + 1, 0, None, anchors()), r"\(2 or more, M, 6\), got \(3, 4, 5\)"),
        ((M, D, 0, None, anchors(), (), "laplace"), "component is 'laplace'; choose from"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MixturePosterior(*arguments)
