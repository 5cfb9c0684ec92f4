"""Sampling the contexts and their KL divergence in one step, on the backend that suits."""

import math
import os

import torch
from torch import Tensor

from . import eager
from .eager import gaussian_kl
from .sampling import MAX_SOBOL_DIMS, SAMPLERS

BACKENDS = ("auto", "eager", "fused")

__all__ = ["BACKENDS", "MAX_SOBOL_DIMS", "SAMPLERS", "gaussian_kl", "reparam_kl"]


def reparam_kl(
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    n_samples: int,
    *,
    prior_std: float,
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
    sampler: str = "gaussian",
    backend: str = "auto",
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw L residuals per row, add them to the context, and measure the KL from N(0, prior_std^2).

    Computes in float32 (float64 if mu is float64); differentiable once in mu, logvar and context.

    Args:
        mu: Posterior mean, (K, R, D); R is 1 (one residual for all context tokens) or M.
        logvar: Posterior log-variance, (K, R, D), in mu's dtype.
        context: Context vectors, (M, D).
        n_samples: L.
        prior_std: The prior's standard deviation.
        eps: Standard normal noise to use, (L, K, R, D); None draws it.
        generator: Where noise is drawn from, on mu's device; None is the device's global generator.
        sampler: "gaussian" (independent), "antithetic" (pairs eps, -eps; of an odd L the last is
            alone) or "sobol" (randomised quasi-Monte Carlo, drawn outside the kernel on every
            backend; R * D is at most 21201). Not used if eps is given.
        backend: "eager", "fused" (one Triton kernel each way; not for float64) or "auto": fused on
            CUDA if Triton and a compiler are there (a log line says if not), else eager, as on
            Apple's GPUs. For the same generator state the backends draw different noise, except
            that of "sobol".
        out_dtype: Dtype of the contexts; None is that of `context`.

    Returns:
        contexts (L, K, M, D) and kl (K,) in nats, summed over R and D.

    Raises:
        ValueError: Before anything is launched, with all problems at once, if a shape, dtype,
            device, name or number is not as above.
    """
    out_dtype = out_dtype or context.dtype
    fuse = backend == "fused" or (backend == "auto" and mu.is_cuda and not _fused_problems(mu))
    problems = [
        *_shape_problems(mu, logvar, context, n_samples, eps),
        *_type_problems(mu, logvar, context, eps, generator),
        *_option_problems(prior_std, sampler, backend, out_dtype),
    ]
    if fuse:
        problems += _fused_problems(mu)
    dims = math.prod(mu.shape[1:])
    if eps is None and sampler == "sobol" and dims > MAX_SOBOL_DIMS:
        problems.append(
            f"sampler 'sobol' has at most {MAX_SOBOL_DIMS} dimensions, got R * D = {dims}; "
            "share one residual (R = 1) or choose 'antithetic'"
        )
    if problems:
        raise ValueError("reparam_kl: " + "; ".join(problems))

    if fuse and eps is None and sampler != "sobol":
        from . import fused

        noise = fused.draw_seed(mu.device, generator)  # the kernels make the noise of it
    elif eps is None:
        dtype = torch.float64 if mu.dtype == torch.float64 else torch.float32
        shape = (n_samples, *mu.shape)
        noise = SAMPLERS[sampler](shape, dtype=dtype, device=mu.device, generator=generator)
        sampler = "given"
    else:
        noise, sampler = eps, "given"
    if not fuse:
        return eager.reparam_kl(mu, logvar, context, noise, prior_std, out_dtype)
    from . import fused

    return fused.reparam_kl(mu, logvar, context, noise, n_samples, sampler, prior_std, out_dtype)


def _shape_problems(
    mu: Tensor, logvar: Tensor, context: Tensor, n_samples: int, eps: Tensor | None
) -> list[str]:
    problems = []
    if mu.dim() != 3 or 0 in mu.shape:
        problems.append(f"mu must be (K, R, D), not empty, got {tuple(mu.shape)}")
    elif context.dim() != 2 or context.shape[1] != mu.shape[2] or 0 in context.shape:
        problems.append(
            f"context must be (M, D) with D = {mu.shape[2]} as in mu, got {tuple(context.shape)}"
        )
    elif mu.shape[1] not in (1, context.shape[0]):
        problems.append(f"R of mu must be 1 or M = {context.shape[0]}, got {mu.shape[1]}")
    if logvar.shape != mu.shape:
        problems.append(f"logvar must be {tuple(mu.shape)} as mu, got {tuple(logvar.shape)}")
    if n_samples < 1:
        problems.append(f"n_samples must be at least 1, got {n_samples}")
    elif eps is not None and eps.shape != (n_samples, *mu.shape):
        problems.append(
            f"eps must be (L, K, R, D) = {(n_samples, *mu.shape)}, got {tuple(eps.shape)}"
        )
    return problems


def _type_problems(
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    eps: Tensor | None,
    generator: torch.Generator | None,
) -> list[str]:
    problems = []
    tensors = {"mu": mu, "logvar": logvar, "context": context}
    if eps is not None:
        tensors["eps"] = eps
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            problems.append(f"{name} must be floating point, got {tensor.dtype}")
        if tensor.device != mu.device:
            problems.append(f"{name} must be on {mu.device} as mu, got {tensor.device}")
    if logvar.dtype != mu.dtype:
        problems.append(f"logvar must be {mu.dtype} as mu, got {logvar.dtype}")
    if eps is not None and eps.requires_grad:
        problems.append("eps must not require a gradient: it is noise, not a parameter")
    if generator is not None and generator.device.type != mu.device.type:
        problems.append(f"generator must be on {mu.device} as mu, got {generator.device}")
    return problems


def _option_problems(
    prior_std: float, sampler: str, backend: str, out_dtype: torch.dtype
) -> list[str]:
    problems = []
    if not 0 < prior_std < math.inf:
        problems.append(f"prior_std must be positive and finite, got {prior_std}")
    if sampler not in SAMPLERS:
        problems.append(f"sampler {sampler!r} is unknown; choose from {list(SAMPLERS)}")
    if backend not in BACKENDS:
        problems.append(f"backend {backend!r} is unknown; choose from {list(BACKENDS)}")
    if not out_dtype.is_floating_point:
        problems.append(f"out_dtype must be floating point, got {out_dtype}")
    return problems


def _fused_problems(mu: Tensor) -> list[str]:
    problems = []
    if mu.dtype == torch.float64:
        problems.append("backend 'fused' computes in float32, got mu in float64; choose 'eager'")
    if not (mu.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        problems.append(f"backend 'fused' needs CUDA tensors, got {mu.device}; choose 'eager'")
    else:
        from . import support  # not before it is needed: it imports Triton

        if support.PROBLEM:
            problems.append(
                "backend 'fused' needs Triton 3.3 or later, a C compiler and Python.h, but "
                f"{support.PROBLEM}; install it or choose 'eager'"
            )
    return problems
