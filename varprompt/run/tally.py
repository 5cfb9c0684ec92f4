"""What a test counts, batch by batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..objective import average_samples
from ..uncertainty import (
    Uncertainty,
    decompose,
    ece,
    ece_if_calibrated,
    jackknife_error,
    per_image,
    reliability_points,
    risk_coverage,
    summary,
)

_STEPS = 20  # of risk-coverage curves
_MOST_KEPT = 2**28  # numbers: 1 GB


def too_many(n_images: int, n_classes: int) -> bool:
    """Whether the distributions of a test, `(N, C)`, are more than the 1 GB that is kept."""
    return n_images * n_classes > _MOST_KEPT


class Tally:
    """Collects log-probabilities batch by batch.

    Keeps, per image, its label, its predicted class, the confidence in it and the log-probability
    of the label; for `uncertainty` also the whole distribution.

    Args:
        keep: whether `uncertainty` is wanted. The distributions of all samples are kept as long as
            they take no more than 1 GB, then only that of their average, and if that becomes more,
            none: see `too_many`.
        drawn: whether the samples are draws, so that there is an error over draws.

    Attributes:
        keep: whether distributions are still kept.
    """

    def __init__(self, keep: bool = False, drawn: bool = True) -> None:
        self.keep = keep
        self.drawn = drawn
        self._samples: list[Tensor] = []
        self._parts: list[Uncertainty] = []
        self._n_samples = 0
        self._rows: list[Tensor] = []
        self._left_out: list[Tensor] = []

    def update(self, samples: Tensor, labels: Tensor) -> Tensor:
        """Add log-probabilities `(L, B, C)` and labels `(B,)`; returns their average `(B, C)`."""
        log_prob = average_samples(samples)
        if self.keep:
            self._keep(samples.detach().float().cpu())
        if len(samples) > 1 and self.drawn:
            prob = samples.exp()
            hits = (prob.sum(0) - prob).argmax(-1) == labels  # (L, B), each without one sample
            self._left_out.append(hits.cpu().double().sum(1))
        confidence, predicted = log_prob.max(-1)
        of_label = log_prob.gather(-1, labels[:, None])[:, 0]
        self._rows.append(torch.stack([labels, predicted, confidence.exp(), of_label], 1).cpu())
        return log_prob

    def _keep(self, samples: Tensor) -> None:
        self._n_samples = len(samples)
        self._samples.append(samples)
        if self._parts or self._too_many():
            self._average()
        if self._too_many():
            self.keep = False
            self._samples.clear()
            self._parts.clear()

    def _too_many(self) -> bool:
        return sum(kept.numel() for kept in self._samples) > _MOST_KEPT

    def _average(self) -> None:
        """Of what has not been averaged yet keep the average, and the entropies of the samples."""
        for place in range(len(self._parts), len(self._samples)):
            samples = self._samples[place]
            if samples.isnan().any():  # the nll says so
                self._parts.append(Uncertainty(*samples.new_full((3, samples.shape[1]), math.nan)))
            else:
                self._parts.append(decompose(samples))
            self._samples[place] = average_samples(samples)[None]

    @property
    def samples(self) -> Tensor:
        """All that was kept, `(L, N, C)`; of too many their average, `(1, N, C)`."""
        return torch.cat(self._samples, 1)

    @property
    def parts(self) -> Uncertainty:
        """Entropies of each image's samples, `(N,)`."""
        if not self._parts:
            return decompose(self.samples)
        columns = zip(*(vars(part).values() for part in self._parts), strict=True)
        return Uncertainty(*map(torch.cat, columns))

    @property
    def labels(self) -> Tensor:
        """`(N,)`, int64."""
        return torch.cat(self._rows)[:, 0].long()

    def summary(self, classnames: list[str]) -> dict[str, Any]:
        """Accuracy, negative log-likelihood (nats), calibration error, and accuracy by class.

        `ece` is the expected calibration error in percent over 15 bins of equal width (Guo et al.
        2017, arXiv 1706.04599): bin-weighted mean distance of confidence from accuracy.
        `accuracy_mc_error` is the standard error of the accuracy over draws of the samples, by the
        jackknife (Efron and Stein 1981): how far another TEST_SEED may be expected to take it. It
        supposes independent draws; None without any, as for the components of a mixture.
        `ece_if_calibrated` is what a perfectly calibrated classifier with these confidences would
        read as `ece`: on few images, far from 0.
        `per_class` also counts how often each class was predicted for the images of a class (by
        label: a row of the confusion matrix without its zeros); for `reliability` see there.
        """
        rows = torch.cat(self._rows).double()
        labels, predicted, confidence, of_label = rows.unbind(1)
        correct = (labels == predicted).double()
        per_class = {}  # by label: two classes may have one name
        kinds, totals = labels.long().unique(return_counts=True)
        images_of = labels.argsort(stable=True).split(totals.tolist())
        for label, mine in zip(kinds.tolist(), images_of, strict=True):
            found, counts = predicted[mine].long().unique(return_counts=True)
            per_class[str(label)] = {
                "name": classnames[label],
                "accuracy": 100 * correct[mine].mean().item(),
                "total": len(mine),
                "predicted": dict(zip(map(str, found.tolist()), counts.tolist(), strict=True)),
            }
        return {
            "accuracy": 100 * correct.mean().item(),
            "nll": -of_label.mean().item(),
            "ece": 100 * ece(confidence, correct).item(),
            "ece_if_calibrated": ece_if_calibrated(confidence),
            "accuracy_mc_error": self._monte_carlo_error(len(rows)),
            "n_total": len(rows),
            "n_correct": int(correct.sum()),
            "per_class": per_class,
            "reliability": reliability_points(confidence, correct),
        }

    def uncertainty(self) -> dict[str, Any]:
        """All figures of `varprompt.uncertainty.summary`, and what their pictures are drawn from.

        `uncertainty` holds the figures, `risk_coverage` the error in percent of the surest 5, 10,
        ..., 100 % of the images. Nothing if no distributions were kept.
        """
        if not self._samples:
            return {}
        samples, labels = self.samples, self.labels
        figures: dict[str, Any] = {**summary(samples, labels)}
        if not self.drawn:
            figures = {key: v for key, v in figures.items() if not key.endswith("_mc_error")}
        means = {name: value.mean().item() for name, value in vars(self.parts).items()}
        figures |= {"aleatoric": means["aleatoric"], "epistemic": means["epistemic"]}
        figures["n_samples"] = self._n_samples
        images = per_image(samples, labels)
        _, risk = risk_coverage(images.confidence, images.correct)
        steps = [-(-len(risk) * step // _STEPS) - 1 for step in range(1, _STEPS + 1)]
        return {
            "uncertainty": figures,
            "risk_coverage": {
                "coverage": [100 * step / _STEPS for step in range(1, _STEPS + 1)],
                "risk": [100 * risk[step].item() for step in steps],
            },
        }

    def _monte_carlo_error(self, n_images: int) -> float | None:
        if not self._left_out:
            return None
        return jackknife_error(100 * torch.stack(self._left_out).sum(0) / n_images)  # of (L,)
