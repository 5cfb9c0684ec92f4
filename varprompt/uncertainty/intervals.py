"""How sure a figure is: over other test images, and over other draws of the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

N_RESAMPLES = 1000
_BLOCK = 2**22  # weights at a time


def resampled(
    figures: Callable[[Tensor], Mapping[str, Tensor]],
    sizes: Sequence[int],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Figures of `n_resamples` test sets drawn with replacement, `(n_resamples,)` by name.

    Args:
        figures: called with weights `(b, N)`, how often each image was drawn; gives figures `(b,)`.
        sizes: number of images of each group that is drawn by itself; they add up to N.
        n_resamples: how many.
        seed: of the draws.
    """
    parts = [figures(weight) for weight in _weights(sizes, n_resamples, seed)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _weights(sizes: Sequence[int], n_resamples: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = max(1, _BLOCK // sum(sizes))
    for start in range(0, n_resamples, size):
        rows = min(size, n_resamples - start)
        offset = torch.arange(rows)[:, None]
        groups = [
            (torch.randint(n, (rows, n), generator=generator) + n * offset)
            .flatten()
            .bincount(minlength=rows * n)
            .view(rows, n)
            for n in sizes
        ]
        yield torch.cat(groups, 1).double()


def interval(
    draws: Tensor, estimate: float, *, centred: bool = False, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval (low, high) from figures of resampled test sets `(n_resamples,)`.

    Efron's percentiles; `centred`: moved so that their mean is the estimate, and at least 0. A sum
    of distances, such as the ECE, is too large on few images, and larger still on resampled ones.
    The centred interval is about the figure that is expected of test sets of this size, to be
    compared with what a calibrated classifier reads on as many images, not with 0. Test sets on
    which a figure is not defined are left out; NaN if it is defined on none.
    """
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = draws.nanquantile(tail).tolist()
    if centred:
        shift = estimate - draws.nanmean().item()
        low, high = max(0.0, low + shift), high + shift
    return low, high


def jackknife_error(left_out: Tensor) -> float:
    """Monte Carlo error of a figure of L draws, from the same with each draw left out, `(L,)`.

    The jackknife's standard error (Efron and Stein 1981); it supposes independent draws.
    """
    n_samples = len(left_out)
    return math.sqrt((n_samples - 1) * left_out.double().var(correction=0).item())
