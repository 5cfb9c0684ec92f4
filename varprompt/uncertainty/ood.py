"""Telling images of other classes from images of the classifier's own.

Near-OOD that needs no further data: the classifier of the base classes sees the test images of the
base classes and those of the new ones, which are none of its classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .decompose import decompose
from .intervals import N_RESAMPLES, interval, jackknife_error, resampled
from .rejection import auroc, fpr95
from .samples import as_samples, blocks, predictive, without


def _max_probability(log_prob: Tensor) -> Tensor:
    samples = as_samples(log_prob)
    return torch.cat([predictive(part).exp().amax(-1) for part, _ in blocks(samples)])


OOD_SCORES: dict[str, Callable[[Tensor], Tensor]] = {  # of log-probabilities, high = known class
    "max_probability": _max_probability,
    "entropy": lambda log_prob: -decompose(log_prob).total,
    "mutual_information": lambda log_prob: -decompose(log_prob).epistemic,
}
OOD_LOGIT_SCORES: dict[str, Callable[[Tensor], Tensor]] = {  # of logits, averaged over samples
    "max_logit": lambda logits: logits.double().amax(-1).mean(0),
    "energy": lambda logits: logits.double().logsumexp(-1).mean(0),
}


def ood_scores(log_prob: Tensor, logits: Tensor | None = None) -> dict[str, Tensor]:
    """Scores `(N,)` by name, high for images that seem to be of a known class.

    `max_probability` (Hendrycks and Gimpel 2017, arXiv 1610.02136), minus the `entropy` of the mean
    and minus the `mutual_information` of the samples; with logits also `max_logit` (Hendrycks et
    al. 2022, arXiv 1911.11132) and `energy`, logsumexp of the logits at temperature 1 (Liu et al.
    2020, arXiv 2010.03759). Mutual information is 0 for a single sample.

    Args:
        log_prob: `(L, N, C)` or `(N, C)`.
        logits: of the same images, before the softmax took their size away.
    """
    scores = {name: score(log_prob) for name, score in OOD_SCORES.items()}
    if logits is not None:
        each = logits if logits.dim() == 3 else logits[None]
        scores |= {name: score(each) for name, score in OOD_LOGIT_SCORES.items()}
    return scores


def near_ood(
    known: Tensor,
    unknown: Tensor,
    known_logits: Tensor | None = None,
    unknown_logits: Tensor | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """AUROC and FPR95 in percent of images of known against those of unknown classes.

    Keys are `ood_SCORE_auroc` and `ood_SCORE_fpr95` for each name of `ood_scores`, with `_low` and
    `_high`, the 95 % bootstrap interval over the images of either group, and `_mc_error`, the
    jackknife's error over draws, for two samples or more. FPR95 is the part of the unknown images
    that passes where 95 % of the known ones do.

    Args:
        known: log-probabilities `(L, N, C)` or `(N, C)` of images of the classifier's classes.
        unknown: of images of other classes, by the same classifier.
        known_logits: logits of the former; with `unknown_logits` for two scores more.
        unknown_logits: of the latter.
        n_resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.

    Raises:
        ValueError: no log-probabilities, or logits of one group only.
    """
    if (known_logits is None) != (unknown_logits is None):
        raise ValueError("give logits of both groups or of neither")
    inside = ood_scores(known.cpu(), None if known_logits is None else known_logits.cpu())
    outside = ood_scores(unknown.cpu(), None if unknown_logits is None else unknown_logits.cpu())
    sizes = [len(inside["entropy"]), len(outside["entropy"])]

    def figures(weight: Tensor | None) -> dict[str, Tensor]:
        return _figures(inside, outside, weight)

    flat = {name: value.item() for name, value in figures(None).items()}
    if n_resamples:
        for name, draws in resampled(figures, sizes, n_resamples, seed).items():
            flat[f"{name}_low"], flat[f"{name}_high"] = interval(draws, flat[name])
    if known.dim() == 3 and len(known) == len(unknown) > 1:
        rows = [
            _figures(
                _without_draw(known, known_logits, index),
                _without_draw(unknown, unknown_logits, index),
                None,
            )
            for index in range(len(known))
        ]
        for name in rows[0]:
            flat[f"{name}_mc_error"] = jackknife_error(torch.stack([row[name] for row in rows]))
    return flat


def _without_draw(log_prob: Tensor, logits: Tensor | None, index: int) -> dict[str, Tensor]:
    rest = None if logits is None else without(logits, index).cpu()
    return ood_scores(without(log_prob, index).cpu(), rest)


def _figures(
    inside: Mapping[str, Tensor], outside: Mapping[str, Tensor], weight: Tensor | None
) -> dict[str, Tensor]:
    """AUROC and FPR95 of each score, `(...)`; weights `(..., N)` of the known, then the others."""
    found = {}
    for name in inside:
        score = torch.cat([inside[name], outside[name]])
        known = torch.cat([torch.ones_like(inside[name]), torch.zeros_like(outside[name])])
        found[f"ood_{name}_auroc"] = 100 * auroc(score, known, weight)
        found[f"ood_{name}_fpr95"] = 100 * fpr95(score, known, weight)
    return found
