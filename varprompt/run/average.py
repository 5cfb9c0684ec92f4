"""A weighted average, over the epochs of a run, of what is learned (arXiv 2307.06948)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import brief


class WeightedAverage:
    """Adds up what a learner is after each epoch, and puts it into the learner after the last.

    Args:
        learner: its parameters are averaged.
        weights: of the epochs, in order; they should add up to 1.
    """

    def __init__(self, learner: nn.Module, weights: Sequence[float]):
        self.learner = learner
        self.weights = list(weights)
        self.total = {
            name: torch.zeros_like(p, requires_grad=False) for name, p in self._parameters().items()
        }

    def _parameters(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.learner.named_parameters()}

    def end_epoch(self, epoch: int) -> None:
        """Add what the learner is after `epoch` (from 0); replace it if that is the last."""
        for name, value in self._parameters().items():
            self.total[name] += self.weights[epoch] * value
        if epoch + 1 == len(self.weights):
            for name, value in self._parameters().items():
                value.copy_(self.total[name])

    def state_dict(self) -> dict[str, Tensor]:
        """What was added up so far."""
        return dict(self.total)

    def problem(self, state: Any) -> str:
        """Why `state` cannot be one of this average; "" if it can."""
        if not isinstance(state, dict) or state.keys() != self.total.keys():
            return f"its average over epochs is {brief(state)}"
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.shape != self.total[name].shape:
                return f"its average of {name} has another shape"
            if value.is_meta or not value.isfinite().all():
                return f"its average of {name} has no finite numbers"
        return ""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state without a `problem`."""
        for name, value in state.items():
            self.total[name].copy_(value)
