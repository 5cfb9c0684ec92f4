"""How sure a run's model was of validation images, and whether rightly: what "unsure" needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .folder import HELD_OUT
from .kept import read_kept, write_kept


@dataclass(frozen=True)
class KeptScores:
    """What was said of N images that the model has not learned from and is not tested on.

    Attributes:
        confidence: probability of the predicted class, calibrated.
        correct: whether it is the right one.
        temperature: that the log-probabilities were divided by.
        checkpoint: digest of the model's file.
    """

    confidence: list[float]
    correct: list[bool]
    temperature: float
    checkpoint: str

    def write(self, folder: str | Path) -> None:
        """Keep them in a run's folder."""
        write_kept(Path(folder, HELD_OUT), asdict(self))


def kept_scores(folder: str | Path) -> KeptScores | None:
    """What a run has kept; None if it has kept nothing.

    Raises:
        CheckpointError: the file is damaged.
    """
    advice = "delete it, and nothing is known of the errors of this model"
    return read_kept(Path(folder, HELD_OUT), _checked, advice)


def _checked(content: Mapping[str, Any]) -> KeptScores:
    confidence = [float(value) for value in content["confidence"]]
    correct = list(content["correct"])
    if not confidence or len(confidence) != len(correct):
        raise ValueError(f"{len(confidence)} confidences of {len(correct)} images")
    if not all(0 <= value <= 1 + 1e-6 for value in confidence):  # also NaN
        raise ValueError("a confidence is no probability")
    if not all(isinstance(value, bool) for value in correct):
        raise ValueError("correct is neither true nor false")
    temperature, checkpoint = float(content["temperature"]), str(content["checkpoint"])
    return KeptScores(confidence, correct, temperature, checkpoint)
