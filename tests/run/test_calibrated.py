"""A predictor behind a calibrator, and the temperature that a run keeps."""

import json

import pytest
import torch

from varprompt.errors import CheckpointError
from varprompt.run.calibrated import Calibrated, KeptTemperature, kept_temperature
from varprompt.uncertainty import Temperature

KEPT = KeptTemperature(1.75, 3, "train, in 4 folds", 80, "ab" * 32)


class Linear:
    """Says `features` through three matrices."""

    def __init__(self):
        self.weight = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))

    def samples(self, features):
        return (features @ self.weight).log_softmax(-1)

    def similarity(self, features):
        return 0.25

    drawn = False


def test_says_what_the_calibrator_makes_of_it_and_keeps_what_was_said():
    features = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(7) % 5
    plain, calibrated = Linear(), Calibrated(Linear(), Temperature(1.75, 3), labels)
    parts = [calibrated.samples(part) for part in features.split(3)]
    want = (features @ plain.weight / 1.75).log_softmax(-1)
    assert torch.allclose(torch.cat(parts, 1), want, atol=1e-6)
    assert torch.equal(calibrated.before.samples, plain.samples(features))
    assert torch.equal(calibrated.before.labels, labels)
    assert calibrated.similarity(features) == 0.25


def test_kept_temperature_comes_back(tmp_path):
    assert kept_temperature(tmp_path) is None
    KEPT.write(tmp_path)
    assert kept_temperature(tmp_path) == KEPT
    assert KEPT.calibrator == Temperature(1.75, 3)


@pytest.mark.parametrize(
    "change",
    ["", "[]", "{", {"temperature": 0}, {"temperature": "NaN"}, {"n_samples": 0}, {"n_images": []}],
)
def test_damage_is_told(change, tmp_path):
    text = change if isinstance(change, str) else json.dumps(KEPT.record() | change)
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration.json is damaged .*: delete it"):
        kept_temperature(tmp_path)
