"""A step of the optimizer that is taken with finite numbers only, and the record of the others.

The decision is made on the device, and the host does not wait for it: to ask a GPU for the loss
after each step would leave it idle while the next one is prepared. So the step is always computed
and then undone where loss or gradient were NaN or infinite; the host hears of it later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import VarPromptError

_SHOWN = 8  # image paths in a message
_UNREAD = 20  # steps on a GPU between two looks at what became of them, at most

Values = list[tuple[Tensor, Tensor]]  # tensors, and the values that they had before a step


@dataclass(frozen=True)
class StepRecord:
    """What a step was made of, to be written down if it is left out.

    Attributes:
        epoch: from 0.
        batch_idx: from 0 in its epoch.
        n_batches: of an epoch.
        n_epochs: of the run.
        batch: what the loss was computed from; "impath" holds the paths of its images.
        noise: state of the generator before the loss was computed.
    """

    epoch: int
    batch_idx: int
    n_batches: int
    n_epochs: int
    batch: dict[str, Any]
    noise: Tensor

    @property
    def number(self) -> int:
        """Of the step in the run, from 0."""
        return self.epoch * self.n_batches + self.batch_idx

    def __str__(self) -> str:
        return (
            f"epoch [{self.epoch + 1}/{self.n_epochs}] batch [{self.batch_idx + 1}/"
            f"{self.n_batches}], step {self.number}"
        )


@dataclass(frozen=True)
class _Unread:
    """A step of which the host does not know yet whether it was left out."""

    record: StepRecord
    numbers: Tensor  # loss, norm of the gradient, factor of the scaler before and after
    before: Values


class GuardedStep:
    """Takes the optimizer's step, or leaves it out and says why.

    Args:
        optimizer: of the learner's parameters.
        scaler: multiplies the loss in half precision; may be disabled.
        learner: what is learned.
        clip_norm: largest norm of the gradient, 0 = any.
        max_bad_steps: steps with a NaN or infinite loss or gradient that may be left out.
        save: ``(record, scale)`` writes all that reproduces a bad step, with the scaler's factor
            in it, and returns where; called while the learner is as it was before that step.
        note: takes a line for the log.

    Attributes:
        bad_steps: left out so far.
        max_unread: steps that may wait for `check`; none on a CPU, which is never ahead.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scaler: torch.amp.GradScaler,
        learner: nn.Module,
        *,
        clip_norm: float,
        max_bad_steps: int,
        save: Callable[[StepRecord, float], Path],
        note: Callable[[str], None],
    ):
        self.optimizer = optimizer
        self.scaler = scaler
        self.learner = learner
        self.clip_norm = clip_norm or math.inf
        self.max_bad_steps = max_bad_steps
        self.save = save
        self.note = note
        self.bad_steps = 0
        self.device = next(learner.parameters()).device
        self.max_unread = _UNREAD if self.device.type == "cuda" else 0
        self._unread: list[_Unread] = []
        count_steps_on(self.device, optimizer.param_groups)

    @property
    def n_unread(self) -> int:
        """Steps of which the host has not heard yet."""
        return len(self._unread)

    def __call__(self, loss: Tensor, record: StepRecord) -> None:
        """Backward pass and step of the optimizer; no step if loss or gradient are not finite.

        Args:
            loss: scalar.
            record: what it was computed from.

        Raises:
            VarPromptError: as `check` does, for steps that have waited long enough.
        """
        self.optimizer.zero_grad(set_to_none=True)
        scale = self._scale()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip_norm)
        loss = loss.detach()
        # not scaler.step, which asks the device whether to step and waits for the answer
        before = _step_if(loss.isfinite() & norm.isfinite(), self.optimizer)
        self.scaler.update()
        numbers = torch.stack([loss, norm, scale, self._scale()])
        self._unread.append(_Unread(record, numbers, before))
        if len(self._unread) > self.max_unread:
            self.check()

    def check(self) -> None:
        """Wait for the steps made so far, and have each that was left out as bad saved.

        A gradient that overflowed only because the scaler had multiplied it makes no bad step:
        the scaler multiplies by less from then on.

        Raises:
            VarPromptError: more such steps than may be left out.
        """
        steps, self._unread = self._unread, []
        if not steps:
            return
        rows = torch.stack([step.numbers for step in steps]).tolist()
        for step, (loss, norm, scale, scale_after) in zip(steps, rows, strict=True):
            # the scaler lowers its factor after an overflow; at 1 there is nothing to lower
            overflowed = math.isfinite(loss) and scale_after < scale > 1
            if not (math.isfinite(loss + norm) or overflowed):
                self._bad_step(step, {"loss": loss, "norm of the gradient": norm}, scale)

    def _scale(self) -> Tensor:
        """The scaler's factor, on the device; 1 of a disabled one.

        Its get_scale() would wait for the device.
        """
        return self.scaler.scale(torch.ones((), device=self.device))

    def _bad_step(self, step: _Unread, numbers: dict[str, float], scale: float) -> None:
        self.bad_steps += 1
        # steps after this one may have been taken already: nothing of them belongs in the record
        now = [(tensor, tensor.clone()) for tensor, _ in step.before]
        _put_back(step.before)
        file = self.save(step.record, scale)
        name, size = self._largest_parameter()
        _put_back(now)
        paths = list(step.record.batch.get("impath", ()))
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        text = (
            f"{' and '.join(f'{k} {v}' for k, v in numbers.items())} at {step.record}\n"
            f"largest parameter: {name}, magnitude {size:.3g}\n"
            f"images: {', '.join(paths[:_SHOWN])}{more}\n"
            f"images, state and noise that reproduce it: {file}"
        )
        if self.bad_steps > self.max_bad_steps:
            raise VarPromptError(
                f"{text}\nLower OPTIM.LR, set TRAIN.CLIP_GRAD_NORM 1.0, use PREC fp32, or leave "
                f"out up to N such steps with TRAIN.MAX_BAD_STEPS N (now {self.max_bad_steps})"
            )
        self.note(f"Step left out, {self.bad_steps} of at most {self.max_bad_steps}: {text}")

    def _largest_parameter(self) -> tuple[str, float]:
        sizes = {
            name: parameter.detach().abs().nan_to_num(math.inf).max().item()
            for name, parameter in self.learner.named_parameters()
        }
        return max(sizes.items(), key=lambda item: item[1])


def count_steps_on(device: torch.device, groups: Iterable[dict[str, Any]]) -> None:
    """Keep Adam's step counter on the device, so that a skipped step can be undone.

    By default torch counts on the host, where a step that the device undoes has been counted.
    """
    for group in groups:
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"


@torch.no_grad()
def _step_if(finite: Tensor, optimizer: Optimizer) -> Values:
    """A step if `finite`; returns parameters and state with what they were before.

    State that the first step makes was zero before: so torch's optimizers start it, but for SGD
    with dampening, which does not dampen its first step.
    """
    old = {tensor: tensor.clone() for tensor in _tensors(optimizer)}
    optimizer.step()
    before = [(t, old[t] if t in old else torch.zeros_like(t)) for t in _tensors(optimizer)]
    for tensor, value in before:
        # a choice made by the device: an if would have to wait for `finite`
        torch.where(finite, tensor, value, out=tensor)
    return before


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    """All that a step of the optimizer changes."""
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    state = [
        v for p in parameters for v in optimizer.state[p].values() if isinstance(v, Tensor)
    ]  # fmt: skip
    return parameters + state


@torch.no_grad()
def _put_back(values: Values) -> None:
    for tensor, value in values:
        tensor.copy_(value)
