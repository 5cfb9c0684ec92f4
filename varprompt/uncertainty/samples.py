"""What every score starts from: log-probabilities of samples, checked, and figures per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..objective import average_samples

_BLOCK = 2**22  # numbers handled at a time: 32 MB in float64
_NORMALISED = 1e-2  # of the sum of probabilities; float16 is off by 1e-3


@dataclass(frozen=True)
class PerImage:
    """Figures of single predictions, float64, `(N,)` or, with one draw left out each, `(L, N)`.

    `confidence` is the largest probability, `correct` 0 or 1, `nll` minus the log-probability of
    the label in nats, `brier` the squared distance of the probabilities from the label, `entropy`
    that of the averaged probabilities and `aleatoric` the average one of the samples, in nats.
    """

    confidence: Tensor
    correct: Tensor
    nll: Tensor
    brier: Tensor
    entropy: Tensor
    aleatoric: Tensor

    def __getitem__(self, index: int) -> PerImage:
        """Of one draw that is left out."""
        return PerImage(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def as_samples(log_prob: Tensor, labels: Tensor | None = None) -> Tensor:
    """Log-probabilities `(L, N, C)`; those `(N, C)` of one predictive distribution get L = 1.

    Raises:
        ValueError: another shape, no image, labels `(N,)` that do not fit, no log-probabilities.
    """
    if log_prob.dim() not in (2, 3) or 0 in log_prob.shape:
        raise ValueError(
            f"log_prob must be (N, C) or (L, N, C), not empty, got {tuple(log_prob.shape)}"
        )
    samples = log_prob if log_prob.dim() == 3 else log_prob[None]
    total = samples[:, :64].double().exp().sum(-1)
    if not ((total - 1).abs() < _NORMALISED).all():
        raise ValueError(
            f"log_prob must be log-probabilities, but those of an image sum to "
            f"{total.flatten()[(total.flatten() - 1).abs().argmax()].item():.4g}, not 1; "
            "apply log_softmax to logits"
        )
    if labels is not None:
        _check_labels(labels, *samples.shape[1:])
    return samples


def _check_labels(labels: Tensor, n_images: int, n_classes: int) -> None:
    if labels.shape != (n_images,):
        raise ValueError(f"labels must be (N,) = ({n_images},), got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels must be whole numbers from 0 to {n_classes - 1}, got {labels.dtype} "
            f"from {labels.min().item()} to {labels.max().item()}"
        )


def blocks(samples: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Parts `(L, n, C)` of samples `(L, N, C)` that fit the memory, and which images they are."""
    n_samples, n_images, n_classes = samples.shape
    size = max(1, _BLOCK // (n_samples * n_classes))
    for start in range(0, n_images, size):
        where = slice(start, min(start + size, n_images))
        yield samples[:, where], where


def predictive(samples: Tensor) -> Tensor:
    """Log of the probabilities averaged over samples, `(L, N, C)` -> `(N, C)`, float64.

    Averaged in the numbers' own format, as everywhere: equal confidences stay equal.
    """
    return average_samples(samples).double()


def per_image(log_prob: Tensor, labels: Tensor) -> PerImage:
    """Figures of the predictive distributions, `(N,)`: log-probabilities and labels as above."""
    samples = as_samples(log_prob, labels)
    parts = []
    for part, where in blocks(samples):
        aleatoric = _entropy(part.double().exp()).mean(0) if len(part) > 1 else None
        parts.append(_of(predictive(part).exp(), labels[where], aleatoric))
    return _joined(parts)


def left_out(log_prob: Tensor, labels: Tensor) -> PerImage | None:
    """The same with each of the L draws left out, `(L, N)`; None if there is only one."""
    samples = as_samples(log_prob, labels)
    if len(samples) == 1:
        return None
    parts = []
    for part, where in blocks(samples):
        aleatoric = without_each(_entropy(part.double().exp()))
        rows = [
            _of(prob, labels[where], rest)
            for prob, rest in zip(without_each(part.double().exp()), aleatoric, strict=True)
        ]
        parts.append(PerImage(*(torch.stack(column) for column in _columns(rows))))
    return _joined(parts)


def without(samples: Tensor, index: int) -> Tensor:
    """All samples `(L, ...)` but one."""
    return torch.cat([samples[:index], samples[index + 1 :]])


def without_each(values: Tensor) -> Tensor:
    """Means of values `(L, ...)`, none negative, without each of them in turn, `(L, ...)`."""
    return ((values.sum(0) - values) / (len(values) - 1)).clamp_min(0)


def _entropy(prob: Tensor) -> Tensor:
    return torch.special.entr(prob).sum(-1)


def _of(prob: Tensor, labels: Tensor, aleatoric: Tensor | None) -> PerImage:
    confidence, predicted = prob.max(-1)
    of_label = prob.gather(-1, labels[:, None].long())[:, 0]
    entropy = _entropy(prob)
    return PerImage(
        confidence=confidence.clamp_max(1),
        correct=(predicted == labels).double(),
        nll=-of_label.log(),
        brier=prob.square().sum(-1) - 2 * of_label + 1,
        entropy=entropy,
        aleatoric=entropy if aleatoric is None else aleatoric,
    )


def _columns(parts: list[PerImage]) -> list[list[Tensor]]:
    names = PerImage.__dataclass_fields__
    return [[getattr(part, name) for part in parts] for name in names]


def _joined(parts: list[PerImage]) -> PerImage:
    return PerImage(*(torch.cat(column, -1) for column in _columns(parts)))
