"""What every family of posteriors promises, and what the diagonal ones do."""

import math

import pytest
import torch
from families import (
    LENGTHS,
    LOGVAR,
    PRIOR_STD,
    B,
    D,
    E,
    L,
    M,
    build,
    context,
    every_form,
    features,
    n_drawn,
)

from varprompt.errors import ConfigError
from varprompt.posteriors import (
    LOGVAR_BOUNDS,
    POSTERIORS,
    DeltaPosterior,
    FixedPosterior,
    GaussianPosterior,
    MetaNet,
    Posterior,
    bounded,
)


def noise(posterior, n_samples=L, n_rows=None, seed=1):
    n_rows = (B if posterior.conditional else 1) if n_rows is None else n_rows
    shape = posterior.noise_shape(n_samples, n_rows)
    generator = torch.Generator().manual_seed(seed)
    return None if shape is None else posterior.draw_noise(shape, generator=generator)


@every_form
def test_shapes_types_and_gradients(name, rows, feature_width):
    posterior = build(name, rows, feature_width)
    assert posterior.conditional == bool(feature_width)
    sample = posterior.sample(context(), L, features().half(), prior_std=PRIOR_STD)
    n_samples, n_rows = n_drawn(posterior, L), B if feature_width else 1
    assert sample.contexts.shape == (n_samples, n_rows, M, D)
    assert sample.kl.shape == (n_rows,)
    assert sample.contexts.dtype == sample.kl.dtype == torch.float32
    mixed = name.startswith("mixture")
    assert posterior.n_dims == (sum(LENGTHS) / len(LENGTHS) if mixed else rows) * D
    target = torch.randn(sample.contexts.shape)
    ((sample.contexts * target).sum() + sample.kl.sum()).backward()
    for parameter_name, parameter in posterior.named_parameters():
        assert parameter.grad.abs().sum() > 0, parameter_name


@every_form
def test_a_draw_is_a_function_of_its_inputs(name, rows, feature_width):
    """Noise as an argument gives what a generator gives; other noise gives something else."""
    posterior = build(name, rows, feature_width)

    def draw(**options):
        sample = posterior.sample(context(), L, features(), prior_std=PRIOR_STD, **options)
        return sample.contexts, sample.kl

    eps = noise(posterior)
    drawn = draw(generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(draw(eps=eps), drawn, rtol=0, atol=0)
    if eps is not None:
        assert eps.shape[:2] == (L, B if feature_width else 1)
        assert not torch.equal(draw(eps=noise(posterior, seed=2))[0], drawn[0])
        with pytest.raises(ValueError, match="eps must be"):
            draw(eps=eps[:-1])


@every_form
def test_image_matters_only_if_declared(name, rows, feature_width):
    posterior = build(name, rows, feature_width)
    eps = noise(posterior, n_rows=1)
    if eps is not None and feature_width:
        eps = eps.expand(-1, B, -1, -1)
    one, other = (
        posterior.sample(context(), L, x, prior_std=PRIOR_STD, eps=eps)
        for x in (features(), features().flip(0))
    )
    if feature_width:
        torch.testing.assert_close(one.contexts, other.contexts.flip(1))
        torch.testing.assert_close(one.kl, other.kl.flip(0))
        assert not torch.allclose(one.contexts, other.contexts, atol=1e-4)
    else:
        assert torch.equal(one.contexts, other.contexts) and torch.equal(one.kl, other.kl)


@every_form
def test_gradients_are_those_of_finite_differences(name, rows, feature_width):
    posterior, x = build(name, rows, feature_width), features().double()
    eps = noise(posterior)
    eps = eps if eps is None else eps.double()
    where = [n for n, _ in posterior.named_parameters()]
    fixed = {n: b.double() if b.is_floating_point() else b for n, b in posterior.named_buffers()}
    values = [p.detach().double().requires_grad_() for p in posterior.parameters()]
    ctx = context().double().requires_grad_()

    def function(ctx, *values):
        state = dict(zip(where, values, strict=True)) | fixed
        call = {"prior_std": PRIOR_STD, "eps": eps}
        sample = torch.func.functional_call(Sampling(posterior), named(state), (ctx, L, x), call)
        return sample.contexts, sample.kl

    assert torch.autograd.gradcheck(function, (ctx, *values), atol=1e-6, fast_mode=True)


class Sampling(torch.nn.Module):
    """`sample` as a module's forward, for `functional_call`."""

    def __init__(self, posterior):
        super().__init__()
        self.posterior = posterior

    def forward(self, *args, **options):
        return self.posterior.sample(*args, **options)


def named(state):
    return {f"posterior.{name}": value for name, value in state.items()}


@every_form
def test_the_paths_of_sample_agree(name, rows, feature_width):
    """A fused or own `sample` is the base class's of `rsample` and `kl`."""
    posterior = build(name, rows, feature_width)
    eps = noise(posterior)
    own = posterior.sample(context(), L, features(), prior_std=PRIOR_STD, eps=eps)
    plain = Posterior.sample(posterior, context(), L, features(), prior_std=PRIOR_STD, eps=eps)
    torch.testing.assert_close(own.contexts, plain.contexts)
    torch.testing.assert_close(own.kl, plain.kl)


@pytest.mark.parametrize("sampler", ["antithetic", "sobol"])
@pytest.mark.parametrize("name", ["gaussian", "low_rank", "mixture"])
def test_other_samplers(name, sampler):
    posterior = build(name, M)
    posterior.sampler = sampler
    generator = torch.Generator().manual_seed(0)
    sample = posterior.sample(context(), 4, features(), prior_std=1.0, generator=generator)
    assert len(sample.contexts.unique(dim=0)) == n_drawn(posterior, 4)


@pytest.mark.parametrize("feature_width", [0, E])
@pytest.mark.parametrize("rows", [1, M])
def test_kl_of_the_diagonal_families(rows, feature_width):
    for name in ("gaussian", "fixed"):
        posterior = build(name, rows, feature_width)
        mu, logvar = posterior.moments(features())
        q = torch.distributions.Normal(mu, (logvar / 2).exp())
        p = torch.distributions.Normal(torch.zeros_like(mu), PRIOR_STD)
        want = torch.distributions.kl_divergence(q, p).sum((1, 2))
        torch.testing.assert_close(posterior.kl(mu[None], features(), PRIOR_STD), want)
        assert posterior.kl_is_exact


def test_a_family_of_ones_own_with_a_monte_carlo_kl():
    """`rsample` and `log_prob` are enough: 200,000 samples come within 5 standard errors."""

    class Mine(Posterior):
        def __init__(self, rows, width, feature_width=0, logvar_init=None):
            super().__init__(rows, width, feature_width, logvar_init)
            self.mu = torch.nn.Parameter(torch.full(self.shape, 0.3))

        def rsample(self, n_samples, features, eps):
            return self.mu + 0.2 * eps

        def log_prob(self, residual, features):
            return torch.distributions.Normal(self.mu, 0.2).log_prob(residual).sum((-2, -1))

    posterior = Mine(1, D)
    assert not posterior.kl_is_exact
    q, p = torch.distributions.Normal(0.3, 0.2), torch.distributions.Normal(0.0, PRIOR_STD)
    n, want = 200_000, D * torch.distributions.kl_divergence(q, p)
    kl = posterior.sample(
        context(), n, features(), prior_std=PRIOR_STD, generator=torch.Generator().manual_seed(0)
    ).kl
    eps = torch.randn(n, 1, 1, D, generator=torch.Generator().manual_seed(0))
    residual = posterior.rsample(n, features(), eps)
    terms = posterior.log_prob(residual, None) - posterior.log_prior(residual, PRIOR_STD)
    assert kl.item() == pytest.approx(terms.mean().item(), rel=1e-5)
    assert abs(kl.item() - want) < 5 * terms.std() / n**0.5


def test_kl_without_noise():
    """Minus the prior's log-density up to a constant; nothing where there is no prior."""
    delta, meta = build("delta", M, E), build("meta_net", 1, E)
    sample = delta.sample(torch.zeros(M, D), L, features(), prior_std=PRIOR_STD)
    prior = torch.distributions.Normal(0.0, PRIOR_STD)
    want = prior.log_prob(torch.zeros(())) - prior.log_prob(sample.contexts[0])
    torch.testing.assert_close(sample.kl, want.sum((1, 2)))
    assert meta.sample(context(), L, features(), prior_std=PRIOR_STD).kl.tolist() == [0] * B


def test_initial_values_are_the_authors():
    torch.manual_seed(0)
    mu, logvar = GaussianPosterior(2, 500).moments(torch.zeros(1, E))
    assert torch.equal(mu, torch.zeros(1, 2, 500))
    assert 0 <= logvar.min() < 0.05 and 0.95 < logvar.max() < 1  # U(0, 1)
    x = torch.nn.functional.normalize(torch.randn(B, 512), dim=-1)
    mu, logvar = GaussianPosterior(1, 512, 512).moments(x)  # widths of ViT-B/16
    assert 0.02 < mu.std() < 0.06
    assert 0.02 < logvar.std() < 0.06 and logvar.abs().max() < 0.2  # a deviation of about 1


@pytest.mark.parametrize("feature_width", [0, E])
def test_logvar_init(feature_width):
    for family in (GaussianPosterior, FixedPosterior):
        logvar = family(1, D, feature_width, -6.5).moments(features())[1]
        exact = family is FixedPosterior or not feature_width
        assert torch.allclose(logvar, torch.tensor(-6.5), atol=0 if exact else 1.0)
    assert not any(
        "logvar" in n for n, _ in FixedPosterior(1, D, feature_width, -1.0).named_parameters()
    )


def test_fixed_needs_its_log_variance():
    with pytest.raises(ConfigError, match="'fixed' needs logvar_init"):
        FixedPosterior(1, D)


NAMES_OF_0_1 = {
    ("gaussian", 0): {"mu", "logvar"},
    ("fixed", 0): {"mu", "logvar"},
    ("delta", 0): {"mu"},
    ("gaussian", E): {f"{n}.{i}.{k}" for n in ("mean", "logvar") for i in (0, 2, 4)
                      for k in ("weight", "bias")},
    ("fixed", E): {"logvar"} | {f"mean.{i}.{k}" for i in (0, 2, 4) for k in ("weight", "bias")},
    ("meta_net", E): {f"linear{i}.{k}" for i in (1, 2) for k in ("weight", "bias")},
}  # fmt: skip


@pytest.mark.parametrize(("name", "feature_width"), NAMES_OF_0_1)
def test_names_in_checkpoints_stay(name, feature_width):
    found = POSTERIORS[name](1, D, feature_width, LOGVAR).state_dict().keys()
    assert found == NAMES_OF_0_1[name, feature_width]


def test_sizes_of_the_published_models():
    """ViT-B/16: 657,408 numbers in VPT_CoCoOp's networks, 33,312 in CoCoOp's, 1,024 in VPT."""
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(GaussianPosterior(1, 512, 512)) == 657_408
    assert count(MetaNet(1, 512, 512)) == 33_312
    assert count(GaussianPosterior(1, 512)) == 1_024
    assert count(GaussianPosterior(1, 512, 1024)) == 2_100_224  # RN50


def test_tiny_features():
    """Hidden widths never reach zero."""
    for family in (GaussianPosterior, DeltaPosterior, MetaNet):
        sample = family(1, D, 1).sample(torch.zeros(M, D), 1, torch.ones(2, 1), prior_std=1.0)
        assert math.isfinite(sample.contexts.sum().item())


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
