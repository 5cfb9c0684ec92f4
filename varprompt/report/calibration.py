"""What an expected calibration error (ECE) is worth on a small test set.

Its bins hold few images there, and their accuracies scatter: the error is far from 0 even for a
perfectly calibrated classifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..common.checks import N_BINS
from .runs import Run

SMALL = 1000  # test images, below which the scatter is a matter of several per cent
SMALL_SET = "small test set"


def expected_ece(accuracy: float, n_images: int, n_bins: int = N_BINS) -> float:
    r"""An upper bound (%) of the ECE that a perfectly calibrated classifier reads on average.

    The sum of confidence minus correctness over the n_b images of a bin has the variance
    :math:`\sum p (1 - p)`, and a normal variable of that variance the mean distance
    :math:`\sqrt{2 / \pi}` times its root from 0. By Cauchy-Schwarz the roots of `n_bins` bins
    add up to at most the root of `n_bins` times the whole variance, and that is at most
    ``n_images`` a (1 - a), since confidences are on average the accuracy a. Up to 40 images a bin
    can be few for the normal; the bound holds roughly.

    Args:
        accuracy: in %.
        n_images: number of test images.
        n_bins: bins of the ECE.
    """
    share = accuracy / 100
    variance = share * (1 - share) / n_images
    return min(100.0, 100 * math.sqrt(2 / math.pi * n_bins * variance))


def small_sets(runs: Iterable[Run]) -> dict[str, str]:
    """Small data sets and what a perfectly calibrated classifier reads on each, in words."""
    sizes: dict[str, int] = {}
    recorded: dict[str, list[float]] = {}
    bounds: dict[str, list[float]] = {}
    for run in runs:
        n = run.record.data.n_total if run.record else 0
        if run.record is None or not 0 < n < SMALL or "ece" not in run.metrics:
            continue
        sizes[run.dataset] = n
        bounds.setdefault(run.dataset, []).append(expected_ece(run.metrics["accuracy"], n))
        if run.record.calibrated_ece is not None:
            recorded.setdefault(run.dataset, []).append(run.record.calibrated_ece)
    found = {}
    for name, n in sizes.items():
        values = recorded.get(name, [])
        if len(values) == len(bounds[name]):
            low, high = f"{min(values):.1f}", f"{max(values):.1f}"
            reads = low if low == high else f"{low} to {high}"
        else:
            reads = f"at most about {max(bounds[name]):.1f}"
        found[name] = f"{name} ({n} images) {reads}"
    return found


def calibration_notes(small: dict[str, str]) -> list[str]:
    """The note under a table with such sets."""
    if not small:
        return []
    sets = "; ".join(small.values())
    return [
        f"ECE on a {SMALL_SET}: a perfectly calibrated classifier would read, on average, on "
        f"{sets}. Compare methods with each other, not with 0."
    ]
