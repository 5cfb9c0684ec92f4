"""Intervals and harmonic means."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from varprompt.report.stats import harmonic, mean_interval

ROOT = Path(__file__).resolve().parents[2]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_interval_is_students(values):
    mean, half = mean_interval(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert mean == pytest.approx(np.mean(values))
    quantile = scipy_stats.t.ppf(0.975, len(values) - 1)
    assert half == pytest.approx(quantile * error, abs=1e-9)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_harmonic_mean(base, new):
    assert 1 / harmonic(base, new) == pytest.approx((1 / base + 1 / new) / 2)
    assert harmonic(base, 0.0) == 0.0


def test_one_value_has_no_interval():
    assert mean_interval([45.0]) == (45.0, None)
