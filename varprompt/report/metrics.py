"""The figures of a results.json, checked: accuracy and likelihood, calibration and rejection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import brief

_RANGES = {"accuracy": 100.0, "macro_f1": 100.0, "ece": 100.0, "nll": math.inf}
_SCORES = {  # in "uncertainty"; in % but for brier
    "brier": 2.0, "ece_10": 100.0, "ace_10": 100.0, "aurc": 100.0, "e_aurc": 100.0,
    "accuracy_80": 100.0, "auroc": 100.0, "fpr95": 100.0,
}  # fmt: skip
BEFORE = "before "  # begins the name of a figure that was measured before calibration
_ROUNDING = 1e-9  # of a difference that is 0


class NotARecord(ValueError):
    """The file holds no result; the message says why."""


def metrics_of(content: Mapping[str, Any]) -> dict[str, float]:
    """All figures that are there, by name; those from before calibration begin with `BEFORE`.

    Raises:
        NotARecord: one of them cannot be.
    """
    return {k: metric(k, content[k]) for k in _RANGES if k in content} | _scores(content)


def _scores(content: Mapping[str, Any]) -> dict[str, float]:
    """What "uncertainty" says, and, of a calibrated classifier, what it was before."""
    found = {k: metric(k, v) for k, v in _numbers(content.get("uncertainty"))}
    calibration = content.get("calibration")
    before = calibration.get("before") if isinstance(calibration, dict) else None
    if not isinstance(before, dict):
        return found
    top = [(k, before[k]) for k in _RANGES if k in before]
    known = (*top, *_numbers(before.get("uncertainty")))
    return found | {BEFORE + k: metric(k, v) for k, v in known}


def _numbers(scores: Any) -> list[tuple[str, Any]]:
    """Figures that are known here, without those that are not defined."""
    known = scores if isinstance(scores, dict) else {}
    return [(k, known[k]) for k in _SCORES if known.get(k) is not None]


def metric(name: str, value: Any) -> float:
    """One figure.

    Raises:
        NotARecord: it cannot be that.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotARecord(f"its {name} is {brief(value)}, no number")
    most = (_RANGES | _SCORES)[name]
    value = 0.0 if -_ROUNDING < value < 0 else value
    if not (0 <= value <= most and value < 1e300):
        limits = f"from 0 to {most:g}" if math.isfinite(most) else "of 0 or more"
        raise NotARecord(f"its {name} is {brief(value)}, no number {limits}")
    return float(value)
