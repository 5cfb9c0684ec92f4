"""The definition: formulas, gradients, noise as an argument, errors, cost of importing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import compiled_step_is_the_step
from torch.distributions import Normal, kl_divergence

from varprompt.ops import SAMPLERS, reparam_kl

ROOT = Path(__file__).resolve().parents[2]
# K, R, M, D, prior_std
SIZES = [(1, 1, 1, 1, 1.0), (3, 1, 4, 7, 0.3), (2, 5, 5, 3, 0.02), (1, 2, 2, 9, 4.0)]


def inputs(n_rows, n_residuals, n_tokens, width, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    mu = torch.randn(n_rows, n_residuals, width, generator=draw, dtype=dtype)
    logvar = torch.randn(n_rows, n_residuals, width, generator=draw, dtype=dtype)
    context = torch.randn(n_tokens, width, generator=draw, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (mu, logvar, context)]


@pytest.mark.parametrize("K, R, M, D, prior_std", SIZES)
def test_contexts_are_context_plus_residual(K, R, M, D, prior_std):
    mu, logvar, context = inputs(K, R, M, D)
    eps = torch.randn(3, K, R, D, dtype=torch.float64)
    contexts, _ = reparam_kl(mu, logvar, context, 3, prior_std=prior_std, eps=eps)
    assert contexts.shape == (3, K, M, D)
    for sample in range(3):
        for row in range(K):
            for token in range(M):
                shared = 0 if R == 1 else token
                std = logvar[row, shared].exp().sqrt()
                residual = mu[row, shared] + std * eps[sample, row, shared]
                torch.testing.assert_close(contexts[sample, row, token], context[token] + residual)


@pytest.mark.parametrize("K, R, M, D, prior_std", SIZES)
def test_kl_is_that_of_torch_distributions(K, R, M, D, prior_std):
    mu, logvar, context = inputs(K, R, M, D)
    _, kl = reparam_kl(mu, logvar, context, 1, prior_std=prior_std)
    prior = Normal(torch.zeros_like(mu), prior_std)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), prior).sum((1, 2))
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(
        torch.autograd.grad(kl.sum(), (mu, logvar)),
        torch.autograd.grad(expected.sum(), (mu, logvar)),
    )


def test_kl_is_that_of_a_monte_carlo_estimate():
    mu, logvar, context = inputs(2, 3, 3, 4)
    n_samples, prior_std = 20_000, 0.7
    eps = SAMPLERS["gaussian"](
        (n_samples, 2, 3, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    contexts, kl = reparam_kl(mu, logvar, context, n_samples, prior_std=prior_std, eps=eps)
    residual = contexts - context
    log_ratio = Normal(mu, (logvar / 2).exp()).log_prob(residual)
    log_ratio = (log_ratio - Normal(0.0, prior_std).log_prob(residual)).sum((2, 3))  # (L, K)
    standard_error = log_ratio.std(0) / n_samples**0.5
    assert ((log_ratio.mean(0) - kl).abs() < 4 * standard_error).all()


def test_kl_of_the_prior_is_zero_in_float32():
    mu, context = torch.zeros(2, 1, 512), torch.zeros(4, 512)
    logvar = torch.full_like(mu, 2 * torch.tensor(0.03).log().item())
    _, kl = reparam_kl(mu, logvar, context, 1, prior_std=0.03)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, torch.zeros(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("K, R, M, D, prior_std", SIZES)
def test_gradients_are_those_of_finite_differences(K, R, M, D, prior_std):
    eps = torch.randn(3, K, R, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(
        lambda *tensors: reparam_kl(*tensors, 3, prior_std=prior_std, eps=eps), inputs(K, R, M, D)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_computes_in_float32_and_casts_at_the_end(dtype):
    mu, logvar, context = inputs(2, 1, 3, 8, dtype)
    exact = [tensor.detach().float() for tensor in (mu, logvar, context)]
    eps = torch.randn(5, 2, 1, 8)
    contexts, kl = reparam_kl(mu, logvar, context, 5, prior_std=0.1, eps=eps)
    expected, expected_kl = reparam_kl(*exact, 5, prior_std=0.1, eps=eps)
    assert contexts.dtype == dtype
    assert torch.equal(contexts, expected.to(dtype))
    assert torch.equal(kl, expected_kl)
    wide, _ = reparam_kl(mu, logvar, context, 5, prior_std=0.1, eps=eps, out_dtype=torch.float32)
    assert torch.equal(wide, expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_makes_a_draw_repeatable(sampler):
    tensors = inputs(2, 1, 3, 8, torch.float32)

    def draw(generator=None):
        return reparam_kl(*tensors, 5, prior_std=1.0, sampler=sampler, generator=generator)[0]

    torch.manual_seed(3)
    first, second = draw(), draw()
    torch.manual_seed(3)
    assert torch.equal(draw(), first)
    assert not torch.equal(first, second)
    assert torch.equal(draw(torch.Generator().manual_seed(3)), first)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_compiled_step_is_the_step(sampler):
    tensors = inputs(2, 1, 3, 8, torch.float32)
    eps = torch.randn(5, 2, 1, 8)

    def step(mu, logvar, context, eps):
        contexts, kl = reparam_kl(mu, logvar, context, 5, prior_std=0.5, eps=eps, sampler=sampler)
        return contexts.sin().sum() + kl.square().sum()

    compiled_step_is_the_step(step, tensors, eps)


GOOD = {
    "mu": torch.zeros(2, 1, 6),
    "logvar": torch.zeros(2, 1, 6),
    "context": torch.zeros(3, 6),
    "n_samples": 4,
    "prior_std": 1.0,
    "eps": torch.zeros(4, 2, 1, 6),
}
BAD = {
    "mu must be (K, R, D), not empty, got (2, 6)": {"mu": torch.zeros(2, 6)},
    "mu must be (K, R, D), not empty, got (0, 1, 6)": {"mu": torch.zeros(0, 1, 6)},
    "context must be (M, D) with D = 6 as in mu, got (3, 5)": {"context": torch.zeros(3, 5)},
    "context must be (M, D) with D = 6 as in mu, got (1, 3, 6)": {"context": torch.zeros(1, 3, 6)},
    "R of mu must be 1 or M = 3, got 2": {"mu": torch.zeros(2, 2, 6)},
    "logvar must be (2, 1, 6) as mu, got (2, 3, 6)": {"logvar": torch.zeros(2, 3, 6)},
    "logvar must be torch.float32 as mu, got torch.float64": {"logvar": GOOD["logvar"].double()},
    "eps must be (L, K, R, D) = (4, 2, 1, 6), got (4, 2, 3, 6)": {"eps": torch.zeros(4, 2, 3, 6)},
    "eps must not require a gradient": {"eps": torch.zeros(4, 2, 1, 6, requires_grad=True)},
    "context must be floating point, got torch.int64": {"context": torch.zeros(3, 6).long()},
    "context must be on cpu as mu, got meta": {"context": torch.zeros(3, 6, device="meta")},
    "n_samples must be at least 1, got 0": {"n_samples": 0},
    "prior_std must be positive and finite, got -1.0": {"prior_std": -1.0},
    "prior_std must be positive and finite, got inf": {"prior_std": float("inf")},
    "prior_std must be positive and finite, got nan": {"prior_std": float("nan")},
    "sampler 'halton' is unknown; choose from ['gaussian', 'antithetic', 'sobol']": {
        "sampler": "halton"
    },
    "backend 'triton' is unknown; choose from ['auto', 'eager', 'fused']": {"backend": "triton"},
    "out_dtype must be floating point, got torch.int8": {"out_dtype": torch.int8},
    "backend 'fused' computes in float32, got mu in float64; choose 'eager'": {
        "backend": "fused",
        "mu": GOOD["mu"].double(),
        "logvar": GOOD["logvar"].double(),
    },
    "sampler 'sobol' has at most 21201 dimensions, got R * D = 21202": {
        "sampler": "sobol",
        "eps": None,
        "mu": torch.zeros(1, 2, 10601),
        "logvar": torch.zeros(1, 2, 10601),
        "context": torch.zeros(2, 10601),
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_explained(message):
    with pytest.raises(ValueError) as error:
        reparam_kl(**{**GOOD, **BAD[message]})
    assert message in str(error.value)


def test_bad_arguments_are_explained_all_at_once():
    with pytest.raises(ValueError) as error:
        reparam_kl(**{**GOOD, "n_samples": 0, "prior_std": 0.0, "sampler": "halton"})
    for word in ("n_samples", "prior_std", "sampler"):
        assert word in str(error.value)


# a GPU is pretended, as far as torch.compile lets one: "auto" goes on without kernels
NO_COMPILER = """
import logging, os, sys, torch
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
from varprompt import ops
class OnGPU(torch.Tensor):
    is_cuda = True
mu, context = torch.zeros(1, 1, 3).as_subclass(OnGPU), torch.ones(2, 3)
if sys.argv[1:] == ["compile"]:
    os.environ["TRITON_INTERPRET"], sys.modules["triton"] = "1", None
    def step(x):
        return x + len(ops._fused_problems(x))
    step = torch.compile(step, fullgraph=True, backend="eager")
    print(step(torch.zeros(2)).tolist(), step(torch.ones(2)).tolist())
draws = []
for backend in ("auto", "auto", "eager"):
    torch.manual_seed(1)
    draws.append(ops.reparam_kl(mu, mu, context, 2, prior_std=1.0, backend=backend)[0])
print("equal", all(torch.equal(draw, draws[0]) for draw in draws))
try:
    ops.reparam_kl(mu, mu, context, 2, prior_std=1.0, backend="fused")
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["plain", "compile"])
def test_auto_without_a_compiler_is_eager_and_says_so_once(how):
    """Triton makes the launcher of a kernel with it."""
    found = subprocess.run(
        [sys.executable, "-c", NO_COMPILER, how],
        capture_output=True, text=True, check=False, env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    log, *compiled, equal, error = found.stdout.splitlines()
    assert log.startswith("WARNING no fused kernels: ") and log.endswith("noise differs for a seed")
    assert compiled == ["[1.0, 1.0] [2.0, 2.0]"] * (how == "compile")
    assert equal == "equal True"
    assert "needs Triton 3.3 or later, a C compiler and Python.h, but" in error


def test_importing_is_cheap():
    code = (
        "import sys, torch; before = set(sys.modules); import varprompt.ops;"
        "new = set(sys.modules) - before;"
        "print([m for m in new if m.startswith(('triton', 'torch._dynamo', 'torch._inductor'))],"
        "torch.cuda.is_initialized())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[0] == "[] False"
