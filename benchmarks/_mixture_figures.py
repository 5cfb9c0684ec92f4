"""Every figure of what a method has learned of a task."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks._mixture_methods import Learned
from benchmarks._mixture_rows import Bed
from benchmarks._mixture_tasks import Part, Task
from varprompt.uncertainty import accuracy, aurc, ece, fit_temperature, nll

TEMPERATURES = torch.logspace(-0.5, 0.5, 21).tolist()  # of the best one in hindsight, 0.3 to 3.2


@torch.no_grad()
def figures(bed: Bed, task: Task, found: Learned) -> dict[str, float]:
    """Accuracies in %, ECE and AURC in %, NLL in nats.

    "base" and "new" are classified among classes of their own kind; "all/base" and "all/new" among
    both. "best" is at the temperature of the least NLL on the very images, which nobody knows: it
    says what no temperature can give. "t" is at that of the validation images of base classes.
    Temperatures divide the averaged log-probabilities.
    """
    row: dict[str, float] = {}
    log_prob = {part: found.log_prob(bed, images, part) for part, images in task.test.items()}
    fitted = fit_temperature(found.log_prob(bed, task.val, "base"), task.val.labels).value
    row["temperature"] = fitted
    for part, images in task.test.items():
        plain = log_prob[part]
        row |= {f"{part}/{k}": v for k, v in _scores(plain, images.labels).items()}
        tempered = _scores(_at(plain, fitted), images.labels)
        row |= {f"{part}/t/{k}": tempered[k] for k in ("nll", "ece")}
        row[f"{part}/best/nll"] = min(nll(_at(plain, t), images.labels) for t in TEMPERATURES)
        own = images.labels + (len(task.names["base"]) if part == "new" else 0)
        whole = found.log_prob(bed, Part(images.features, own), "all")
        row[f"all/{part}"] = 100 * _share(whole, own)
    return row


def _at(log_prob: Tensor, temperature: float) -> Tensor:
    return (log_prob / temperature).log_softmax(-1)


def _share(log_prob: Tensor, labels: Tensor) -> float:
    return (log_prob.argmax(-1) == labels).double().mean().item()


def _scores(log_prob: Tensor, labels: Tensor) -> dict[str, float]:
    confidence, predicted = log_prob.exp().max(-1)
    correct = predicted == labels
    return {
        "accuracy": 100 * accuracy(log_prob, labels), "nll": nll(log_prob, labels),
        "ece": 100 * ece(confidence, correct).item(),
        "aurc": 100 * aurc(confidence, correct).item(),
    }  # fmt: skip
