"""A predictor behind a calibrator, and the temperature that a run keeps for later tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..uncertainty import Calibrator, Temperature
from .evaluate import Predictor
from .folder import CALIBRATION
from .kept import read_kept, write_kept
from .tally import Tally


class Calibrated:
    """Calibrates what a predictor says, and tallies what it said before.

    Args:
        predictor: says log-probabilities `(L, B, C)`.
        calibrator: changes them; it sees nothing else.
        labels: of all images that it will be asked for, in order, `(N,)`: for the tally only.

    Attributes:
        before: figures of what the predictor has said.
    """

    def __init__(self, predictor: Predictor, calibrator: Calibrator, labels: Tensor):
        self.predictor = predictor
        self.calibrator = calibrator
        self.labels = labels
        self.drawn = predictor.drawn
        self.before = Tally(keep=True, drawn=predictor.drawn)
        self._n_seen = 0

    def samples(self, features: Tensor) -> Tensor:
        """Calibrated log-probabilities `(L, B, C)` by each of the samples."""
        samples = self.predictor.samples(features)
        labels = self.labels[self._n_seen : self._n_seen + len(features)]
        self._n_seen += len(features)
        self.before.update(samples, labels.to(samples.device))
        return self.calibrator(samples)

    def similarity(self, features: Tensor) -> float:
        """That of the predictor."""
        return self.predictor.similarity(features)


@dataclass(frozen=True)
class KeptTemperature:
    """A temperature, and what it belongs to.

    Attributes:
        temperature: what the logits are divided by.
        n_samples: L, whose mean it was fitted to.
        fitted_on: "val", "train" (nothing was trained on them) or "train, in N folds".
        n_images: how many those are.
        checkpoint: digest of the model's file; "" if there is none.
    """

    temperature: float
    n_samples: int
    fitted_on: str
    n_images: int
    checkpoint: str

    @property
    def calibrator(self) -> Temperature:
        """What applies it."""
        return Temperature(self.temperature, self.n_samples)

    def record(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)

    def write(self, folder: str | Path) -> None:
        """Keep it in a run's folder, for tests of its model."""
        write_kept(Path(folder, CALIBRATION), self.record())


def kept_temperature(folder: str | Path) -> KeptTemperature | None:
    """What a run has kept; None if it has kept nothing.

    Raises:
        CheckpointError: the file is damaged.
    """
    advice = "delete it, and the temperature is fitted again"
    return read_kept(Path(folder, CALIBRATION), _checked, advice)


def _checked(content: Mapping[str, Any]) -> KeptTemperature:
    kinds: dict[str, Callable[[Any], Any]] = {
        "temperature": float, "n_samples": int, "fitted_on": str, "n_images": int,
        "checkpoint": str,
    }  # fmt: skip
    kept = KeptTemperature(**{name: kind(content[name]) for name, kind in kinds.items()})
    if not (0 < kept.temperature < math.inf and kept.n_samples > 0):
        raise ValueError(f"its temperature is {kept.temperature} of {kept.n_samples} samples")
    return kept
