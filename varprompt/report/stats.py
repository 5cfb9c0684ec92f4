"""Means, intervals and the harmonic mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean and half the width of its Student t interval; None for a single value."""
    if len(values) < 2:
        return statistics.fmean(values), None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, (1 + level) / 2))
    return statistics.fmean(values), quantile * statistics.stdev(values) / len(values) ** 0.5


def harmonic(base: float, new: float) -> float:
    """Harmonic mean of two accuracies; 0 when one of them is."""
    return 2 * base * new / (base + new) if base > 0 and new > 0 else 0.0
