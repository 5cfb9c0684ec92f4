"""Standard normal noise for the Monte Carlo samples: independent, in pairs, quasi-random."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

Shape = tuple[int, int, int, int]
MAX_SOBOL_DIMS = SobolEngine.MAXDIM
_BITS = 30  # of a Sobol point


def gaussian(shape: Shape, **options: Any) -> Tensor:
    """Independent noise, (L, K, R, D); options are `torch.randn`'s dtype, device, generator."""
    return torch.randn(shape, **options)


def antithetic(shape: Shape, **options: Any) -> Tensor:
    """Samples 2i and 2i + 1 are eps and -eps, (L, K, R, D); of an odd L the last one is alone."""
    n_samples = shape[0]
    half = gaussian(((n_samples + 1) // 2, *shape[1:]), **options)
    return torch.stack([half, -half], 1).flatten(0, 1)[:n_samples]


def sobol(shape: Shape, *, dtype: torch.dtype, **options: Any) -> Tensor:
    """Randomised Sobol points through the inverse normal CDF, (L, K, R, D).

    The L points of a row fill its R * D <= `MAX_SOBOL_DIMS` dimensions evenly (best for L a power
    of two). One net, matrix-scrambled once, serves all rows; a digital shift of its own randomises
    each row and call: every sample is standard normal, and rows and calls are independent. The
    shifts are drawn on the device, so that nothing waits for the host.
    """
    n_samples, n_rows, n_residuals, width = shape
    shift = torch.randint(2**_BITS, (n_rows, n_residuals * width), dtype=torch.int32, **options)
    return _shifted_normal(shift, n_samples, dtype).view(shape)


@lru_cache(maxsize=8)
def _net(n_samples: int, dims: int, device: torch.device) -> Tensor:
    """The digits of a matrix-scrambled Sobol net as integers, (L, R * D)."""
    points = SobolEngine(dims, scramble=True, seed=0).draw(n_samples, dtype=torch.float64)
    return (points * 2**_BITS).to(device, torch.int32)


# One opaque operator: torch.compile must neither trace the engine nor own the cached net.
@torch.library.custom_op("varprompt::sobol_normal", mutates_args=())
def _shifted_normal(shift: Tensor, n_samples: int, dtype: torch.dtype) -> Tensor:
    digits = _net(n_samples, shift.shape[1], shift.device)[:, None] ^ shift  # (L, K, R * D)
    # The leading digit is the sign and the others the tail probability in (0, 1/2): no 0, no 1, and
    # both tails equally exact in float32.
    half = 2 ** (_BITS - 1)
    normal = torch.special.ndtri(((digits & (half - 1)).to(dtype) + 0.5) / (2 * half))
    return torch.where(digits < half, normal, -normal)


@_shifted_normal.register_fake
def _(shift: Tensor, n_samples: int, dtype: torch.dtype) -> Tensor:
    return shift.new_empty((n_samples, *shift.shape), dtype=dtype)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "gaussian": gaussian,
    "antithetic": antithetic,
    "sobol": sobol,
}
