"""How much of a prediction's uncertainty the samples agree on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .samples import as_samples, blocks


@dataclass(frozen=True)
class Uncertainty:
    """Entropies in nats, float64, `(N,)` each; `total` = `aleatoric` + `epistemic`.

    `total` is the entropy of the averaged probabilities, `aleatoric` the average entropy of the
    samples, `epistemic` the mutual information of the label and the sample: what the samples
    disagree about. It is 0 for a single sample and at most log L.
    """

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def decompose(log_prob: Tensor) -> Uncertainty:
    """Total, aleatoric and epistemic uncertainty of log-probabilities `(L, N, C)` or `(N, C)`.

    H(mean p) = mean H(p) + I (Depeweg et al. 2018, arXiv 1710.07283; Houlsby et al. 2011, arXiv
    1112.5745).

    Raises:
        ValueError: no log-probabilities of one of these shapes.
    """
    samples = as_samples(log_prob)
    total, aleatoric = [], []
    for part, _ in blocks(samples):
        prob = part.double().exp()
        total.append(torch.special.entr(prob.mean(0)).sum(-1))
        aleatoric.append(torch.special.entr(prob).sum(-1).mean(0))
    whole, expected = torch.cat(total), torch.cat(aleatoric)
    epistemic = (whole - expected).clamp_min(0)  # rounding may leave -1e-17
    return Uncertainty(whole, whole - epistemic, epistemic)
