"""The kernels against the definition: through Triton's interpreter on any machine, and on CUDA.

Triton decides when it is imported whether to interpret, so that without a CUDA device the classes
named Kernels are collected only in the process that `test_the_interpreter_agrees` starts.
"""

import importlib.metadata
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import compiled_step_is_the_step

from varprompt.ops import reparam_kl
from varprompt.posteriors import MixturePosterior, PosteriorSpec

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
OLD = tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) < (3, 3)
needs_triton = pytest.mark.skipif(OLD, reason="kernels need Triton 3.3; without, auto is eager")
needs_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device, and -m cuda")

# L, K, R, M, D, sampler: ones, odd sizes, both kinds of residual, more tokens than a program takes
SIZES = [
    (1, 1, 1, 1, 1, "gaussian"),
    (5, 2, 1, 3, 37, "gaussian"),
    (4, 3, 2, 2, 33, "gaussian"),
    (3, 2, 1, 19, 5, "gaussian"),
    (9, 1, 1, 2, 40, "antithetic"),
    (7, 2, 3, 3, 9, "antithetic"),
]
SMALL = (3, 1, 1, 2, 7, "gaussian")
# dtype of mu and logvar, of context, of contexts; tolerance of contexts and of gradients
DTYPES = [
    (torch.float32, torch.float32, torch.float32, 1e-6, 1e-5),
    (torch.float32, torch.float32, torch.float16, 1e-3, 1e-5),
    (torch.float32, torch.bfloat16, torch.bfloat16, 8e-3, 8e-3),
    (torch.float16, torch.float16, torch.float16, 1e-3, 1e-3),
]
CASES = [(size, DTYPES[0]) for size in SIZES]
CASES += [(size, dtypes) for size in (SIZES[1], SIZES[5]) for dtypes in DTYPES[1:]]


def inputs(size, dtype=torch.float32, context_dtype=torch.float32):
    _, n_rows, n_residuals, n_tokens, width, _ = size
    draw = torch.Generator().manual_seed(sum(size[:5]))
    mu = torch.randn(n_rows, n_residuals, width, generator=draw).to(DEVICE, dtype)
    logvar = torch.randn(n_rows, n_residuals, width, generator=draw).to(DEVICE, dtype)
    context = torch.randn(n_tokens, width, generator=draw).to(DEVICE, context_dtype)
    return [tensor.requires_grad_() for tensor in (mu, logvar, context)]


def both(size, tensors, upstream=None, **options):
    """(contexts, kl, gradients) of the kernels and, with the noise that they drew, of eager."""
    from varprompt.ops import fused

    n_samples, n_rows, n_residuals, _, width, sampler = size
    generator = torch.Generator(DEVICE).manual_seed(11)
    seed = fused.draw_seed(torch.device(DEVICE), generator)
    eps = fused.noise(seed, (n_samples, n_rows, n_residuals, width), sampler)
    generator.manual_seed(11)
    results = []
    for backend in (
        {"backend": "fused", "sampler": sampler, "generator": generator},
        {"backend": "eager", "eps": eps},
        {"backend": "fused", "eps": eps},
    ):
        outputs = reparam_kl(*tensors, n_samples, prior_std=0.3, **backend, **options)
        if upstream is None:
            draw = torch.Generator().manual_seed(12)
            upstream = [torch.randn(out.shape, generator=draw).to(out) for out in outputs]
        results.append((outputs, torch.autograd.grad(outputs, tensors, upstream)))
    return results


class TestKernels:
    @pytest.mark.parametrize("feature_width", [0, 7])
    def test_the_components_of_a_mixture_are_one_launch(self, feature_width, monkeypatch):
        """Templates of unlike length as rows of one call, shifted by the image or not."""
        torch.manual_seed(0)
        spec = PosteriorSpec(
            3, 37, feature_width, -2.0, anchors=torch.randn(3, 3, 37), lengths=(3, 1, 2)
        )
        posterior = MixturePosterior.from_spec(spec).to(DEVICE)
        images, context = torch.randn(2, 7).to(DEVICE), torch.randn(3, 37).to(DEVICE)
        shape = posterior.noise_shape(6, 2 if feature_width else 1)
        eps = posterior.draw_noise(shape, DEVICE)
        results, calls = [], []
        for backend in ("fused", "eager"):

            def chosen(*args, backend=backend, **options):
                calls.append(args[0].shape)
                return reparam_kl(*args, backend=backend, **options)

            monkeypatch.setattr("varprompt.posteriors.mixture.reparam_kl", chosen)
            posterior.zero_grad()
            found = posterior.sample(context, 6, images, prior_std=0.7, eps=eps)
            weight = torch.sin(torch.arange(found.contexts.numel())).to(DEVICE)
            ((found.contexts.flatten() * weight).sum() + 0.3 * found.kl.sum()).backward()
            gradients = [p.grad for p in posterior.parameters()]
            results.append((found.contexts, found.kl, gradients))
        assert len(calls) == 2 and calls[0][0] == 6 * shape[1]
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)

    __test__ = (INTERPRETED or DEVICE == "cuda") and not OLD
    pytestmark = [pytest.mark.cuda] * (DEVICE == "cuda")

    @pytest.mark.parametrize("size, dtypes", CASES)
    def test_agree_with_eager(self, size, dtypes):
        dtype, context_dtype, out_dtype, tolerance, grad_tolerance = dtypes
        tensors = inputs(size, dtype, context_dtype)
        drawn, expected, given = both(size, tensors, out_dtype=out_dtype)
        for (contexts, kl), grads in (drawn, given):
            assert contexts.dtype == out_dtype
            torch.testing.assert_close(contexts, expected[0][0], rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(kl, expected[0][1], rtol=1e-5, atol=1e-5)
            for grad, expected_grad, tensor in zip(grads, expected[1], tensors, strict=True):
                assert grad.dtype == tensor.dtype
                scale = expected_grad.abs().max().item()
                torch.testing.assert_close(
                    grad, expected_grad, rtol=grad_tolerance, atol=grad_tolerance * scale
                )

    def test_agree_with_eager_over_several_rows_of_a_program(self, monkeypatch):
        from varprompt.ops import fused

        monkeypatch.setattr(fused, "_BACKWARD_PROGRAMS", 2)
        monkeypatch.setattr(fused, "_FORWARD_PROGRAMS", 2)
        size = (6, 5, 1, 2, 9, "gaussian")
        drawn, expected, _ = both(size, inputs(size))
        torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)

    def test_take_inputs_of_any_strides(self):
        size = (5, 2, 1, 3, 16, "gaussian")
        mu, logvar, context = (tensor.detach() for tensor in inputs(size))
        tensors = [
            mu.transpose(0, 2).contiguous().transpose(0, 2).requires_grad_(),
            logvar.repeat_interleave(2, -1)[..., ::2].requires_grad_(),
            context.T.contiguous().T.requires_grad_(),
        ]
        upstream = [torch.ones((), device=DEVICE).expand(5, 2, 3, 16), torch.ones(2, device=DEVICE)]
        drawn, expected, _ = both(size, tensors, upstream)
        torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("prior_std", [1.0, 0.3, 0.01])
    def test_kl_and_its_gradient_are_exact_near_the_prior(self, prior_std):
        """There exp(r) - 1 - r of a log-ratio r is a small difference of large numbers."""
        for r in (1e-6, 1e-5, -1e-4, 1e-3, -1e-2, 0.1, -0.49, 0.51, -3.0, 5.0):
            logvar = torch.full((2, 1, 9), 2 * math.log(prior_std) + r, device=DEVICE)
            mu, context = torch.zeros_like(logvar), torch.zeros(2, 9, device=DEVICE)
            results = []
            for backend, dtype in (("fused", torch.float32), ("eager", torch.float64)):
                row = logvar.to(dtype).requires_grad_()
                options = {"eps": torch.zeros(1, 2, 1, 9, device=DEVICE), "backend": backend}
                kl = reparam_kl(mu.to(dtype), row, context, 1, prior_std=prior_std, **options)[1]
                results.append((kl, torch.autograd.grad(kl.sum(), row)[0]))
            for got, want in zip(*results, strict=True):
                torch.testing.assert_close(got.double(), want.double(), rtol=5e-6, atol=1e-15)

    @pytest.mark.parametrize("used", [0, 1])
    def test_one_output_may_be_unused(self, used):
        tensors = inputs(SMALL)
        eps = torch.randn(3, 1, 1, 7, device=DEVICE)
        sums = [
            reparam_kl(*tensors, 3, prior_std=0.3, eps=eps, backend=backend)[used].sum()
            for backend in ("fused", "eager")
        ]
        grads = [
            torch.autograd.grad(total, tensors, allow_unused=True, materialize_grads=True)
            for total in sums
        ]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("sampler", ["gaussian", "antithetic", "sobol"])
    def test_a_seed_makes_a_draw_repeatable(self, sampler):
        tensors = inputs(SMALL)

        def draw(generator=None):
            options = {"sampler": sampler, "generator": generator, "backend": "fused"}
            return reparam_kl(*tensors, 3, prior_std=0.3, **options)[0]

        torch.manual_seed(3)
        first, second = draw(), draw()
        torch.manual_seed(3)
        assert torch.equal(draw(), first)
        assert not torch.equal(first, second)
        assert torch.equal(draw(torch.Generator(DEVICE).manual_seed(3)), first)

    def test_sobol_noise_is_that_of_eager(self):
        tensors = inputs(SMALL)
        fused, eager = (
            reparam_kl(
                *tensors,
                3,
                prior_std=0.3,
                sampler="sobol",
                backend=backend,
                generator=torch.Generator(DEVICE).manual_seed(1),
            )
            for backend in ("fused", "eager")
        )
        torch.testing.assert_close(fused, eager, rtol=1e-5, atol=1e-5)

    # torch 2.11's own compiler makes an instance of the autograd.Function, and warns of that.
    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    def test_a_compiled_step_is_the_step(self):
        tensors = inputs(SMALL)
        eps = torch.randn(3, 1, 1, 7, device=DEVICE)

        def step(mu, logvar, context, eps):
            contexts, kl = reparam_kl(
                mu, logvar, context, 3, prior_std=0.3, eps=eps, backend="fused"
            )
            return contexts.sin().sum() + kl.square().sum()

        compiled_step_is_the_step(step, tensors, eps)


@needs_triton
def test_the_interpreter_agrees():
    """All tests named so in this folder, in a process whose Triton interprets kernels on a CPU."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "kernels"]
        + [str(Path(__file__).parent)],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    passed = re.search(r"(\d+) passed", run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    assert passed and int(passed[1]) > len(CASES)
    assert "skipped" not in run.stdout


FLOATS = "contexts kl mu logvar grad_mu grad_logvar grad_context grad_contexts grad_kl".split()
TYPES = {name: "*fp32" for name in FLOATS}
TYPES |= {"context": "*fp16", "L": "i32", "K": "i32", "size": "i64"}
TYPES |= {"prior_logvar": "fp32", "prior_rest": "fp32", "precision": "fp32"}


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="an interpreting Triton does not compile")
@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize(
    "capability, sampler, sizes",
    [
        (80, "antithetic", {"L": 1, "K": 1, "size": 1, "R": 1, "P": 1, "D": 1}),
        (90, "given", {"R": 3, "P": 1, "D": 768}),
        (90, "gaussian", {"R": 1, "P": 16, "D": 768, "BLOCK": 128}),
    ],
)
def test_the_compiler_takes_them_for_gpus(name, capability, sampler, sizes, tmp_path, monkeypatch):
    """This needs no GPU; the interpreter takes what the compiler would not."""
    compiler = pytest.importorskip("triton.compiler")
    backends = pytest.importorskip("triton.backends.compiler")
    from varprompt.ops import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(kernels, name)
    constants = {"GROUPS": 3, "ROWS": 2, "SAMPLER": sampler, "TOKENS": sizes["P"], "BLOCK": 32}
    constants |= sizes
    types = TYPES | {"noise": "*fp32" if sampler == "given" else "*i64"}
    signature = {arg: types.get(arg) for arg in kernel.arg_names if arg not in constants}
    assert None not in signature.values()
    compiled = compiler.compile(
        compiler.ASTSource(
            kernel,
            {arg: signature.get(arg, "constexpr") for arg in kernel.arg_names},
            {
                (kernel.arg_names.index(arg),): constants[arg]
                for arg in constants
                if arg in kernel.arg_names
            },
        ),
        target=backends.GPUTarget("cuda", capability, 32),
        options={"num_warps": max(1, constants["BLOCK"] // 64), "enable_fp_fusion": True},
    )
    assert ".local" not in compiled.asm["ptx"]  # which is slow: arrays that are no registers
    assert compiled.asm["cubin"]


@pytest.mark.cuda
@needs_cuda
class TestOnCuda:
    def test_auto_is_fused(self):
        tensors = inputs(SIZES[1])
        draws = []
        for backend in ("auto", "fused", "eager"):
            torch.manual_seed(1)
            draws.append(reparam_kl(*tensors, 5, prior_std=0.3, backend=backend)[0])
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("sampler", ["gaussian", "antithetic", "sobol"])
    def test_a_step_does_not_wait_for_the_device(self, sampler):
        tensors = inputs(SIZES[1])

        def step():
            outputs = reparam_kl(*tensors, 5, prior_std=0.3, sampler=sampler)
            return torch.autograd.grad(outputs, tensors, [torch.ones_like(x) for x in outputs])

        step()  # compiles, and keeps the Sobol net
        try:
            torch.cuda.set_sync_debug_mode("error")
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @pytest.mark.parametrize("sampler", ["gaussian", "antithetic", "sobol"])
    @pytest.mark.parametrize("backend", ["fused", "eager"])
    def test_replays_of_a_graph_draw_new_noise(self, backend, sampler):
        tensors = inputs(SIZES[1])
        upstream = [torch.randn(5, 2, 3, 37, device=DEVICE), torch.randn(2, device=DEVICE)]

        def step():
            outputs = reparam_kl(*tensors, 5, prior_std=0.3, backend=backend, sampler=sampler)
            return outputs, torch.autograd.grad(outputs, tensors, upstream)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            (contexts, kl), grads = step()

        def replay():
            graph.replay()
            return [tensor.clone() for tensor in (contexts, kl, *grads)]

        torch.manual_seed(5)
        first, second = replay(), replay()
        torch.manual_seed(5)
        torch.testing.assert_close(replay(), first, rtol=0, atol=0)
        assert not torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])  # kl does not depend on the noise
        mu, logvar, context = (tensor.detach() for tensor in tensors)
        residual = first[0][:, :, :1] - context[:1]  # (L, K, 1, D)
        eps = (residual - mu) * (-logvar / 2).exp()
        expected = reparam_kl(*tensors, 5, prior_std=0.3, eps=eps, backend="eager")
        expected_grads = torch.autograd.grad(expected, tensors, upstream)
        torch.testing.assert_close(first, [*expected, *expected_grads], rtol=1e-3, atol=1e-3)

    def test_more_than_2_to_the_31_elements(self):
        if torch.cuda.mem_get_info()[0] < 12 * 2**30:
            pytest.skip("needs 12 GiB of free CUDA memory")
        n_samples, n_rows, n_tokens, width = 45, 4096, 16, 768
        tensors = inputs((n_samples, n_rows, 1, n_tokens, width, "gaussian"))
        options = {"prior_std": 0.3, "backend": "fused", "out_dtype": torch.float16}
        contexts, _ = reparam_kl(*tensors, n_samples, **options)
        assert contexts.numel() > 2**31
        last = contexts[-1, -1].float()
        mu, logvar, context = (tensor.detach() for tensor in tensors)
        eps = ((last - context - mu[-1]) * (-logvar[-1] / 2).exp())[0]
        assert abs(eps.mean()) < 0.2 and abs(eps.std() - 1) < 0.2
        torch.testing.assert_close(last - last[:1], context - context[:1], rtol=0, atol=0.02)
        upstream = torch.zeros_like(contexts)
        upstream[-1, -1] = 1
        grads = torch.autograd.grad(contexts, tensors, upstream)
        torch.testing.assert_close(grads[0][-1, 0], torch.full_like(mu[-1, 0], n_tokens))
        torch.testing.assert_close(grads[2], torch.ones_like(context))
        assert not grads[0][:-1].any()
