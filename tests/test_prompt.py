"""The prompt learner: contexts, KL, noise as an argument, number formats."""

import pytest
import reference
import torch

from varprompt.posteriors import (
    DeltaPosterior,
    FixedPosterior,
    GaussianPosterior,
    MetaNet,
    Posterior,
)
from varprompt.prompt import PromptLearner

M, D, E, B, L = 4, 6, 7, 3, 5
TEXTBOOK = (GaussianPosterior, FixedPosterior, DeltaPosterior)
CASES = [(family, rows, e) for family in TEXTBOOK for rows in (1, M) for e in (0, E)]


def learner(family, rows=1, feature_width=0, **options):
    torch.manual_seed(1)
    posterior = family(rows, D, feature_width, -1.5) if family else None
    made = PromptLearner(torch.randn(M, D), posterior, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return made


def inputs(rows, feature_width):
    generator = torch.Generator().manual_seed(2)
    features = torch.nn.functional.normalize(torch.randn(B, E, generator=generator), dim=-1)
    return features, torch.randn(L, B if feature_width else 1, rows, D, generator=generator)


@pytest.mark.parametrize(("family", "rows", "feature_width"), CASES)
def test_contexts_and_kl_equal_the_formulas(family, rows, feature_width):
    model = learner(family, rows, feature_width, prior_std=0.7)
    features, eps = inputs(rows, feature_width)
    sample = model(L, features, eps=eps)
    contexts, mu, logvar = reference.contexts(model.state_dict(), features, eps)
    n_samples = L if logvar is not None else 1
    assert sample.contexts.shape == (n_samples, eps.shape[1], M, D)
    assert torch.allclose(sample.contexts, contexts, atol=1e-6)
    assert torch.allclose(sample.kl, reference.kl(mu, logvar, 0.7), rtol=1e-5)


def test_coop_and_cocoop():
    features, eps = inputs(1, E)
    sample = learner(None)(L, features)
    assert sample.contexts.shape == (1, 1, M, D) and sample.kl.tolist() == [0]
    model = learner(MetaNet, 1, E)
    contexts, *_ = reference.contexts(model.state_dict(), features, eps)
    assert torch.allclose(model(L, features).contexts, contexts, atol=1e-6)
    assert model(L, features).contexts.shape == (1, B, M, D)


def test_class_specific_context():
    model = PromptLearner(torch.randn(3, M, D))
    assert model(L, torch.zeros(B, E)).contexts.shape == (1, 1, 3, M, D)


@pytest.mark.parametrize("feature_width", [0, E])
def test_conditional(feature_width):
    for family in TEXTBOOK:
        assert learner(family, 1, feature_width).conditional == bool(feature_width)
    assert not learner(None).conditional


def test_conditional_is_what_the_posterior_declares():
    """Not what its parameters are called."""

    class Mine(Posterior):
        def rsample(self, n_samples, features, eps):
            return 0.1 * eps

        def kl(self, residual, features, prior_std):
            return residual.new_zeros(residual.shape[1])

    plain, of_images = PromptLearner(torch.randn(M, D), Mine(1, D)), Mine(1, D)
    of_images.conditional = True
    assert not plain.conditional
    assert plain(L, torch.zeros(B, E)).contexts.shape == (L, 1, M, D)
    of_images = PromptLearner(torch.randn(M, D), of_images)
    assert of_images.conditional
    assert of_images(L, torch.zeros(B, E)).contexts.shape == (L, B, M, D)


def test_noise_is_drawn_from_the_generator():
    model, (features, _) = learner(GaussianPosterior), inputs(1, 0)
    draw = lambda seed: model(L, features, generator=torch.Generator().manual_seed(seed)).contexts  # noqa: E731
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    draw(3)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    model(L, features)
    assert not torch.equal(torch.get_rng_state(), state)


def test_statistics_of_the_samples():
    """50,000 draws have the posterior's mean and variance, within 5 standard errors."""
    model, (features, _) = learner(GaussianPosterior, M), inputs(M, 0)
    n = 50_000
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        residual = model(n, features, generator=generator).contexts[:, 0] - model.ctx
        mu, logvar = model.posterior.moments(features)
    var = logvar[0].exp()
    assert ((residual.mean(0) - mu[0]).abs() < 5 * (var / n).sqrt()).all()
    assert ((residual.var(0) - var).abs() < 5 * var * (2 / n) ** 0.5).all()


def test_frozen_context_is_kept_and_saved():
    model = learner(DeltaPosterior, learn_context=False)
    assert [n for n, _ in model.named_parameters()] == ["posterior.mu"]
    assert "ctx" in model.state_dict()


def test_float32_whatever_comes_in():
    model = PromptLearner(torch.randn(M, D).half(), GaussianPosterior(1, D, E))
    assert model.ctx.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        sample = model(L, torch.randn(B, E).half())
    assert sample.contexts.dtype == sample.kl.dtype == torch.float32


@pytest.mark.parametrize("sampler", ["antithetic", "sobol"])
def test_other_samplers(sampler):
    model, (features, _) = learner(GaussianPosterior), inputs(1, 0)
    model.posterior.sampler = sampler
    contexts = model(4, features, generator=torch.Generator().manual_seed(0)).contexts
    assert contexts.shape == (4, 1, M, D) and len(contexts.unique(dim=0)) == 4


def test_noise_at_test_comes_from_the_sampler():
    """One row for all images, on the CPU; none where there is no noise."""
    model = learner(GaussianPosterior, M, E)
    model.posterior.sampler = "antithetic"
    draw = lambda seed: model.draw_noise(4, torch.Generator().manual_seed(seed))  # noqa: E731
    assert draw(0).shape == (4, 1, M, D) and torch.equal(draw(0), draw(0))
    assert torch.equal(draw(0)[::2], -draw(0)[1::2])
    assert not torch.equal(draw(0), draw(1))
    for family in (None, DeltaPosterior):
        assert learner(family).draw_noise(4, torch.Generator()) is None


def test_n_dims():
    assert learner(GaussianPosterior, M).n_dims == M * D and learner(GaussianPosterior).n_dims == D
    assert learner(None).n_dims == 1
