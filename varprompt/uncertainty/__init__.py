"""What a prediction is worth: scores, calibration, rejection, other classes, prediction sets.

Pure functions over log-probabilities `(L, N, C)` of L samples or `(N, C)` of one predictive
distribution, and labels `(N,)`. `summary` gives all figures at once.
"""

from .calibration import (
    Bins,
    ace,
    classwise_ece,
    ece,
    ece_if_calibrated,
    mce,
    mce_weighted,
    reliability,
    reliability_points,
)
from .calibrators import (
    CALIBRATORS,
    Calibrator,
    DistanceScale,
    Evidence,
    Identity,
    fit_distance,
)
from .conformal import CONFORMAL, conformal_sets, conformal_threshold
from .decompose import Uncertainty, decompose
from .intervals import interval, jackknife_error, resampled
from .neighbours import piece, proximity
from .ood import near_ood, ood_scores
from .rejection import (
    RiskThreshold,
    accuracy_at_coverage,
    aurc,
    auroc,
    e_aurc,
    fpr95,
    risk_coverage,
    risk_threshold,
)
from .samples import PerImage, left_out, per_image
from .scores import accuracy, brier, nll
from .summary import summary
from .temperature import (
    Temperature,
    cross_validated_temperature,
    fit_temperature,
    stratified_folds,
)

__all__ = [
    "CALIBRATORS",
    "CONFORMAL",
    "Bins",
    "Calibrator",
    "DistanceScale",
    "Evidence",
    "Identity",
    "PerImage",
    "RiskThreshold",
    "Temperature",
    "Uncertainty",
    "accuracy",
    "accuracy_at_coverage",
    "ace",
    "aurc",
    "auroc",
    "brier",
    "classwise_ece",
    "conformal_sets",
    "conformal_threshold",
    "cross_validated_temperature",
    "decompose",
    "e_aurc",
    "ece",
    "ece_if_calibrated",
    "fit_distance",
    "fit_temperature",
    "fpr95",
    "interval",
    "jackknife_error",
    "left_out",
    "mce",
    "mce_weighted",
    "near_ood",
    "nll",
    "ood_scores",
    "per_image",
    "piece",
    "proximity",
    "reliability",
    "reliability_points",
    "resampled",
    "risk_coverage",
    "risk_threshold",
    "stratified_folds",
    "summary",
]
