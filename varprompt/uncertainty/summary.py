"""All figures of a test, flat: what evaluators, results files and reports ask for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import calibration as calib
from . import rejection
from .conformal import CONFORMAL, conformal_sets
from .intervals import N_RESAMPLES, interval, jackknife_error, resampled
from .neighbours import piece
from .samples import PerImage, as_samples, left_out, per_image, without
from .scores import weighted_mean

_CLASSWISE_RESAMPLES = 200  # each costs as much as all other figures together
_DISTANCES = ("ece", "ace", "mce", "piece", "classwise_ece")  # too large on few images


def summary(
    log_prob: Tensor,
    labels: Tensor,
    *,
    calibration: tuple[Tensor, Tensor] | None = None,
    proximity: Tensor | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, float | None]:
    """Every figure of predictions by its key, with its interval and its Monte Carlo error.

    Of each figure `KEY` there is `KEY_low` and `KEY_high`, the 95 % bootstrap interval over images,
    and for two samples or more `KEY_mc_error`, the standard error over draws of the samples, by the
    jackknife. Keys (percent, but for `nll`, `brier` and entropies):

    * `accuracy`, `nll` (nats), `brier`, `confidence` (mean),
    * `ece` (15 bins of equal width), `ece_10`, `ece_20`, `ace` (15, of equal mass), `ace_10`,
      `ace_20`, `mce` (15, largest gap), `mce_10`, `mce_weighted_10` (gap times share: DAC, TCPT),
      `classwise_ece` (15), `piece` (10 x 10; with `proximity` only),
    * `aurc`, `e_aurc`, `accuracy_80` (of the 80 % most confident), `auroc` and `fpr95` of right
      against wrong predictions,
    * `entropy`, `aleatoric`, `epistemic` (nats, means over images; see `decompose`).

    Besides, without interval: `ece_if_calibrated_mean`, `_low`, `_high` (see there), `n_images`,
    `n_classes`, `n_samples`; and, with `calibration`, of sets at alpha 0.1 `lac_coverage`,
    `lac_size` (classes a set), the same of `aps` and `raps`, with intervals.

    Args:
        log_prob: of samples `(L, N, C)`, or of one predictive distribution `(N, C)`.
        labels: `(N,)`.
        calibration: log-probabilities and labels of other images of the same classes, for
            conformal sets.
        proximity: of each image, `(N,)`, from the function of this name.
        n_resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of bootstrap and conformal sets.

    Returns:
        Numbers; None where a figure is not defined (AUROC if all predictions are right).

    Raises:
        ValueError: shapes, labels or probabilities do not fit.
    """
    samples, labels = as_samples(log_prob, labels).cpu(), labels.cpu()
    whole = per_image(samples, labels)
    sets = _set_figures(samples, labels, calibration, seed)

    def figures(weight: Tensor | None) -> dict[str, Tensor]:
        means = {name: weighted_mean(value, weight) for name, value in sets.items()}
        return {**_of_images(whole, proximity, weight), **means}

    def classwise(weight: Tensor | None) -> dict[str, Tensor]:
        return {"classwise_ece": 100 * calib.classwise_ece(samples, labels, weight=weight)}

    found = {name: value.item() for name, value in (figures(None) | classwise(None)).items()}
    flat: dict[str, float] = dict(found)
    if n_resamples:
        n = [len(labels)]
        draws = resampled(figures, n, n_resamples, seed)
        draws |= resampled(classwise, n, min(n_resamples, _CLASSWISE_RESAMPLES), seed)
        for name, values in draws.items():
            low, high = interval(values, found[name], centred=name.startswith(_DISTANCES))
            flat[f"{name}_low"], flat[f"{name}_high"] = low, high
    flat |= _monte_carlo_errors(samples, labels, calibration, proximity, seed)
    chance = calib.ece_if_calibrated(whole.confidence)
    flat |= {f"ece_if_calibrated_{name}": value for name, value in chance.items()}
    sizes = zip(("n_samples", "n_images", "n_classes"), samples.shape, strict=True)
    return {name: _defined(value) for name, value in flat.items()} | dict(sizes)


def _monte_carlo_errors(
    samples: Tensor,
    labels: Tensor,
    calibration: tuple[Tensor, Tensor] | None,
    proximity: Tensor | None,
    seed: int,
) -> dict[str, float]:
    rest = left_out(samples, labels)
    if rest is None:
        return {}
    rows = []
    for index in range(len(samples)):
        row = _of_images(rest[index], proximity, None)
        if calibration is not None:
            known = _without_draw(calibration, index, len(samples))
            sets = _set_figures(without(samples, index), labels, known, seed)
            row |= {name: value.mean() for name, value in sets.items()}
        rows.append(row)
    left = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    left["classwise_ece"] = 100 * calib.classwise_left_out(samples, labels)
    return {f"{name}_mc_error": jackknife_error(value) for name, value in left.items()}


def _of_images(
    images: PerImage, proximity: Tensor | None, weight: Tensor | None
) -> dict[str, Tensor]:
    """Figures that follow from single images, `(...)`; percent, nats, or the Brier score."""
    pair = images.confidence, images.correct
    parts = {
        "accuracy": weighted_mean(images.correct, weight),
        "confidence": weighted_mean(images.confidence, weight),
        "aurc": rejection.aurc(*pair, weight),
        "e_aurc": rejection.e_aurc(*pair, weight),
        "accuracy_80": rejection.accuracy_at_coverage(*pair, 0.8, weight),
        "auroc": rejection.auroc(*pair, weight),
        "fpr95": rejection.fpr95(*pair, weight),
        "mce_weighted_10": calib.mce_weighted(*pair, 10, weight),
        "mce": calib.mce(*pair, 15, weight),
        "mce_10": calib.mce(*pair, 10, weight),
    }
    for n_bins, suffix in ((10, "_10"), (15, ""), (20, "_20")):
        parts[f"ece{suffix}"] = calib.ece(*pair, n_bins, weight)
        parts[f"ace{suffix}"] = calib.ace(*pair, n_bins, weight)
    if proximity is not None:
        parts["piece"] = piece(*pair, proximity, weight=weight)
    percent = {name: 100 * value for name, value in parts.items()}
    return {
        **percent,
        "nll": weighted_mean(images.nll, weight),
        "brier": weighted_mean(images.brier, weight),
        "entropy": weighted_mean(images.entropy, weight),
        "aleatoric": weighted_mean(images.aleatoric, weight),
        "epistemic": weighted_mean((images.entropy - images.aleatoric).clamp_min(0), weight),
    }


def _set_figures(
    samples: Tensor, labels: Tensor, calibration: tuple[Tensor, Tensor] | None, seed: int
) -> dict[str, Tensor]:
    """Per image `(N,)`: whether its set holds its label (100 or 0), and how many classes."""
    if calibration is None:
        return {}
    found = {}
    for method in CONFORMAL:
        known = calibration[0].cpu(), calibration[1].cpu()
        sets = conformal_sets(samples, known, method, seed=seed)
        covered = sets.gather(-1, labels[:, None].long())[:, 0]
        found[f"{method}_coverage"] = 100 * covered.double()
        found[f"{method}_size"] = sets.sum(-1).double()
    return found


def _without_draw(
    calibration: tuple[Tensor, Tensor], index: int, n_samples: int
) -> tuple[Tensor, Tensor]:
    """The same draw left out, if the calibration images were predicted by the same samples."""
    log_prob, labels = calibration
    same = log_prob.dim() == 3 and len(log_prob) == n_samples
    return (without(log_prob, index) if same else log_prob), labels


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
