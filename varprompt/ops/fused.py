"""The reparameterised step as one Triton kernel each way; noise is regenerated, never stored."""

import math
import struct
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from . import kernels

_MAX_TOKENS = 16  # of a program of the backward, which keeps their sums in registers
# Enough to fill a GPU, and the same on every GPU: the order of a sum depends on it.
_FORWARD_PROGRAMS, _BACKWARD_PROGRAMS = 2048, 768


def draw_seed(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A seed (1,) from torch's generator; it stays on the device and is new in each replay."""
    return torch.randint(2**63 - 1, (1,), dtype=torch.int64, device=device, generator=generator)


def noise(seed: Tensor, shape: tuple[int, int, int, int], sampler: str = "gaussian") -> Tensor:
    """The noise (L, K, R, D), in float32, that `reparam_kl` makes of a seed."""
    eps = torch.empty(shape, device=seed.device)
    size = eps[0].numel()
    grid = (triton.cdiv(size, 256), triton.cdiv(shape[0], 4))
    with torch.cuda.device_of(seed):
        kernels.write_noise[grid](eps, seed, shape[0], size, sampler, 256, enable_fp_fusion=True)
    return eps


def reparam_kl(
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    noise: Tensor,
    n_samples: int,
    sampler: str,
    prior_std: float,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """`eager.reparam_kl` in float32, with noise that is made from a seed.

    Args:
        mu: Posterior mean, (K, R, D).
        logvar: Posterior log-variance, (K, R, D).
        context: Context vectors, (M, D).
        noise: A seed as of `draw_seed`, or the noise itself, (L, K, R, D).
        n_samples: L.
        sampler: "gaussian" or "antithetic"; "given" if `noise` is the noise itself.
        prior_std: The prior's standard deviation.
        out_dtype: Dtype of the contexts.

    Returns:
        contexts (L, K, M, D) and kl (K,) in nats.
    """
    return _ReparamKL.apply(mu, logvar, context, noise, n_samples, sampler, prior_std, out_dtype)


class _ReparamKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mu, logvar, context, noise, n_samples, sampler, prior_std, out_dtype):
        # `noise` is the seed, if none was given: the backward makes the noise (L, K, R, D) again
        # instead of keeping it
        ctx.save_for_backward(mu, logvar, context, noise)
        ctx.options = (sampler, prior_std)
        return _forward_op(mu, logvar, context, noise, n_samples, sampler, prior_std, out_dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable  # a second derivative raises, it is not 0
    def backward(ctx, grad_contexts, grad_kl):
        grads = _backward_op(grad_contexts, grad_kl, *ctx.saved_tensors, *ctx.options)
        return *grads, None, None, None, None, None


def _layout(mu: Tensor, n_tokens: int) -> tuple[int, dict[str, int]]:
    """Programs for all rows, and the kernels' sizes."""
    n_rows, n_residuals, width = mu.shape
    per_residual = n_tokens // n_residuals
    tiles = triton.cdiv(per_residual, _MAX_TOKENS)
    block = 128 if mu.numel() >= 2**14 else 32  # of little work rather more programs
    sizes = {
        "R": n_residuals,
        "P": per_residual,
        "D": width,
        "TOKENS": triton.cdiv(per_residual, tiles),
        "BLOCK": block,
        "num_warps": triton.cdiv(block, 64),
        "enable_fp_fusion": True,  # Triton's default changes from 3.9 to 3.10: not our last digits
    }
    return n_rows * n_residuals * tiles * triton.cdiv(width, block), sizes


def _forward(
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    noise: Tensor,
    n_samples: int,
    sampler: str,
    prior_std: float,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    contexts, kl = _empty_outputs(mu, logvar, context, noise, n_samples, out_dtype)
    n_rows, n_groups = len(mu), triton.cdiv(n_samples, 4)
    programs, sizes = _layout(mu, len(context))
    groups = max(1, programs * n_groups // _FORWARD_PROGRAMS)  # of one program
    # the first n_rows programs reduce the KL: one launch does both
    grid = (n_rows + programs * triton.cdiv(n_groups, groups),)
    # kernels compute addresses from shapes alone
    inputs = (tensor.contiguous() for tensor in (mu, logvar, context, noise))
    prior = _prior(prior_std)
    with torch.cuda.device_of(mu):  # Triton launches on the current GPU, not on the tensors'
        kernels.forward[grid](
            contexts, kl, *inputs, n_samples, n_rows, mu.numel(), *prior,
            GROUPS=groups, SAMPLER=sampler, **sizes,
        )  # fmt: skip
    return contexts, kl


def _backward(
    grad_contexts: Tensor,
    grad_kl: Tensor,
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    noise: Tensor,
    sampler: str,
    prior_std: float,
) -> tuple[Tensor, Tensor, Tensor]:
    n_samples, n_rows = grad_contexts.shape[:2]
    programs, sizes = _layout(mu, len(context))
    rows = max(1, programs // _BACKWARD_PROGRAMS)  # of one program
    runs = triton.cdiv(n_rows, rows)
    tiles = triton.cdiv(sizes["P"], sizes["TOKENS"])
    # Programs that share a sum store a part each, added below: atomics would add in any order.
    grad_mu = mu.new_empty((tiles, *mu.shape), dtype=torch.float32)
    grad_logvar = torch.empty_like(grad_mu)
    grad_context = mu.new_empty((runs, *context.shape), dtype=torch.float32)
    inputs = (tensor.contiguous() for tensor in (grad_contexts, grad_kl, mu, logvar, noise))
    prior = _prior(prior_std)
    with torch.cuda.device_of(mu):
        kernels.backward[(programs // n_rows * runs,)](
            grad_mu, grad_logvar, grad_context, *inputs, n_samples, n_rows, mu.numel(), *prior,
            ROWS=rows, GROUPS=triton.cdiv(n_samples, 4), SAMPLER=sampler, **sizes,
        )  # fmt: skip
    return (
        _add_partial(grad_mu, mu.dtype),
        _add_partial(grad_logvar, logvar.dtype),
        _add_partial(grad_context, context.dtype),
    )


def _prior(std: float) -> tuple[float, float, float]:
    """The prior's log-variance, what float32 loses of it, and the inverse of its variance.

    Near the prior the KL hangs on the difference of two log-variances. With the lost part (up to
    5e-7 at a standard deviation of 0.01) subtracted as well, the difference is exact.
    """
    logvar = 2 * math.log(std)
    (rounded,) = struct.unpack("f", struct.pack("f", logvar))
    return rounded, logvar - rounded, std**-2


def _add_partial(sums: Tensor, dtype: torch.dtype) -> Tensor:
    return (sums[0] if len(sums) == 1 else sums.sum(0)).to(dtype)


def _empty_outputs(
    mu: Tensor, logvar: Tensor, context: Tensor, noise: Tensor, n_samples: int, *options: Any
) -> tuple[Tensor, Tensor]:
    contexts = mu.new_empty((n_samples, len(mu), *context.shape), dtype=options[-1])
    return contexts, mu.new_empty(len(mu), dtype=torch.float32)


def _empty_grads(
    grad_contexts: Tensor, grad_kl: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:3])


def _operator(name: str, signature: str, launch: Callable, shapes: Callable) -> Callable:
    """Make an operator of a launch: torch.compile takes it as a whole, knowing only the shapes.

    `torch.library.custom_op` does the same with 20 us more on each call (torch 2.11, one CPU core).
    """
    torch.library.define(f"varprompt::{name}", signature)
    torch.library.impl(f"varprompt::{name}", "CompositeExplicitAutograd", launch)
    torch.library.register_fake(f"varprompt::{name}", shapes)
    return getattr(torch.ops.varprompt, name).default


_forward_op = _operator(
    "reparam_kl",
    "(Tensor mu, Tensor logvar, Tensor context, Tensor noise, int n_samples, str sampler, "
    "float prior_std, ScalarType out_dtype) -> (Tensor, Tensor)",
    _forward,
    _empty_outputs,
)
_backward_op = _operator(
    "reparam_kl_backward",
    "(Tensor grad_contexts, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor context, "
    "Tensor noise, str sampler, float prior_std) -> (Tensor, Tensor, Tensor)",
    _backward,
    _empty_grads,
)
