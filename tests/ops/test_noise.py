"""Goodness of fit of every sampler's noise on every backend: fixed seeds, one failure rate."""

import math
import os

import pytest
import torch

from varprompt.ops import SAMPLERS

FAILURE_RATE = 1e-3  # of the whole file, for fresh seeds; the seeds here are fixed
SHAPE = (8, 5, 3, 61)  # L, K, R, D of one draw
AXES = ("seeds", "steps", "samples", "rows", "residuals", "dimensions")


def eager_noise(sampler, seed, n_steps, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    options = {"dtype": torch.float32, "device": "cpu", "generator": generator}
    return torch.stack([SAMPLERS[sampler](shape, **options) for _ in range(n_steps)])


def kernel_noise(sampler, seed, n_steps, shape=SHAPE):
    from varprompt.ops import fused

    generator = torch.Generator(DEVICE).manual_seed(seed)
    seeds = [fused.draw_seed(DEVICE, generator) for _ in range(n_steps)]
    return torch.stack([fused.noise(seed, shape, sampler) for seed in seeds]).cpu()


SOURCES = {f"eager {name}": (eager_noise, name) for name in SAMPLERS}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
    SOURCES["kernels gaussian"] = (kernel_noise, "gaussian")
    SOURCES["kernels antithetic"] = (kernel_noise, "antithetic")


def independent_parts(sampler, eps):
    """The parts of noise (seeds, steps, L, K, R, D) inside which all numbers are independent."""
    if sampler == "sobol":
        return eps.split(1, dim=2)
    return [eps[:, :, ::2] if sampler == "antithetic" else eps]


def two_sided(z):
    return math.erfc(abs(z) / math.sqrt(2))


def kolmogorov_smirnov(sample):
    """The p-value of the one-sample test, from the first term of its series."""
    cdf = torch.special.ndtr(sample.double().sort().values)
    n = len(cdf)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = max((steps[1:] - cdf).max().item(), (cdf - steps[:-1]).max().item())
    return min(1.0, 2 * math.exp(-2 * n * distance**2))


def correlation(rows):
    """The p-value of the largest correlation between two of the rows."""
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    pairs = torch.triu_indices(len(rows), len(rows), 1)
    z = (rows @ rows.T)[pairs[0], pairs[1]].abs().max().item() * math.sqrt(rows.shape[1])
    return min(1.0, two_sided(z) * pairs.shape[1])


def p_values(eps):
    """What independent standard normal noise (seeds, steps, L, K, R, D) is tested for."""
    eps = eps.double()
    flat, n = eps.flatten(), eps.numel()
    found = {
        "mean": two_sided(flat.mean().item() * math.sqrt(n)),
        "variance": two_sided((flat.square().mean().item() - 1) * math.sqrt(n / 2)),
        "distribution": kolmogorov_smirnov(flat),
    }
    for axis, name in enumerate(AXES):
        if eps.shape[axis] > 1:
            rows = eps.movedim(axis, 0).flatten(1)
            found[f"values along {name}"] = correlation(rows)
            found[f"sizes along {name}"] = correlation(rows.abs())
    return found


def rejected(parts):
    """The tests that the noise fails, each at its share of the failure rate."""
    found = [p_values(part) for part in parts]
    level = FAILURE_RATE / 5 / sum(len(tests) for tests in found)  # at most five sources
    return [name for tests in found for name, p_value in tests.items() if p_value < level]


def draws(source):
    noise, sampler = SOURCES[source]
    return torch.stack([noise(sampler, seed, 3) for seed in range(3)])


@pytest.mark.parametrize("source", SOURCES)
def test_noise_is_independent_and_standard_normal(source):
    eps = draws(source)
    assert eps.isfinite().all()
    assert rejected(independent_parts(SOURCES[source][1], eps)) == []


@pytest.mark.parametrize("source", SOURCES)
def test_no_noise_is_drawn_twice(source):
    """No part of a draw is another part moved: correlations at equal places do not see that.

    The kernels count their numbers by place and group of four samples; a wrong count gives samples
    5 to 8 the noise of 1 to 4 at the next place.
    """
    eps = draws(source)
    expected = eps.numel() // 2 if "antithetic" in source else eps.numel()
    # of numbers in float32 a few are equal by chance
    assert len(eps.abs().unique()) > 0.99 * expected


DEFECTS = {
    "mean": lambda eps: eps + 0.05,
    "variance": lambda eps: eps * 1.05,
    "distribution": lambda eps: torch.special.ndtr(eps) * 12**0.5 - 3**0.5,
    "values along seeds": lambda eps: eps[:1].expand_as(eps),
    "values along steps": lambda eps: eps[:, :1].expand_as(eps),
    "values along samples": lambda eps: eps[:, :, :1].expand_as(eps),
    "values along rows": lambda eps: eps[..., :1, :, :].expand_as(eps),
    "values along residuals": lambda eps: eps + 0.1 * eps.roll(1, 4),
    "values along dimensions": lambda eps: torch.cat([eps[..., :1], eps[..., :-1]], -1),
    "sizes along dimensions": lambda eps: torch.cat(
        [eps[..., :1], eps[..., :1] * eps[..., 1:2].sign(), eps[..., 2:]], -1
    ),
}


@pytest.mark.parametrize("test", DEFECTS)
def test_defects_are_found(test):
    assert test in rejected([DEFECTS[test](draws("eager gaussian"))])


@pytest.mark.parametrize("source", [name for name in SOURCES if "antithetic" in name])
@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_antithetic_samples_are_pairs(source, n_samples):
    noise, sampler = SOURCES[source]
    eps = noise(sampler, 0, 1, (n_samples, 2, 1, 9))[0]
    pairs = n_samples // 2
    assert torch.equal(eps[1 : 2 * pairs : 2], -eps[: 2 * pairs : 2])
    if n_samples % 2 and pairs:
        assert not torch.equal(eps[-1].abs(), eps[-2].abs())


def test_sobol_samples_fill_every_dimension_evenly():
    eps = draws("eager sobol")
    stratum = (torch.special.ndtr(eps.double()) * SHAPE[0]).long()
    expected = torch.arange(SHAPE[0]).view(-1, 1, 1, 1)
    assert (stratum.sort(dim=2).values == expected).all()
    assert eps.mean(2).var() < 0.2 / SHAPE[0]  # independent noise has 1 / L


def test_sobol_keeps_its_tails_in_float32():
    options = {"device": "cpu", "generator": torch.Generator().manual_seed(0)}
    exact = SAMPLERS["sobol"]((64, 1, 1, 999), dtype=torch.float64, **options)
    options["generator"].manual_seed(0)
    eps = SAMPLERS["sobol"]((64, 1, 1, 999), dtype=torch.float32, **options)
    assert eps.abs().max() > 4
    torch.testing.assert_close(eps.double(), exact, rtol=1e-5, atol=1e-6)
