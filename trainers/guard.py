"""The update of the learner, made with finite numbers only, and the record of one that is not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from varprompt import files
from varprompt.errors import VarPromptError

_IN_BUNDLE = ("img", "features", "label", "impath")
_SHOWN = 8  # image paths in a message
_UNREAD = 20  # steps on a GPU between two looks at what became of them, at most


@dataclass
class _Step:
    """A step of which the host does not know yet whether it was left out."""

    epoch: int
    batch_idx: int
    numbers: Tensor  # loss, norm of the gradient, factor of the scaler before and after
    batch: dict[str, Any]
    noise: Tensor
    before: list[tuple[Tensor, Tensor]]  # parameters and state of the optimizer, and their values


class GuardMixin:
    """Takes a step, or leaves it out and says why."""

    bad_steps = batch_idx = num_batches = 0
    _unread: tuple[_Step, ...] = ()

    @property
    def max_unread(self) -> int:
        """Steps that may wait for `check_steps`: none on a CPU, which is never ahead."""
        return _UNREAD if self.device.type == "cuda" else 0

    def update(self, loss: Tensor, batch: dict[str, Any], noise: Tensor) -> None:
        """Backward pass and step of the optimizer; no step if loss or gradient are not finite.

        The device decides that and the host does not wait for it; `check_steps` tells.

        Args:
            loss: scalar.
            batch: what the loss was computed from.
            noise: state of the generator before that.
        """
        self.optim.zero_grad(set_to_none=True)
        scale = self._scale()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optim)
        norm = nn.utils.clip_grad_norm_(
            self.model.prompt_learner.parameters(), self.cfg.TRAIN.CLIP_GRAD_NORM or math.inf
        )
        loss = loss.detach()
        before = _step_if(loss.isfinite() & norm.isfinite(), self.optim)
        self.scaler.update()
        numbers = torch.stack([loss, norm, scale, self._scale()])
        step = _Step(self.epoch, self.batch_idx, numbers, batch, noise, before)
        self._unread = (*self._unread, step)
        if len(self._unread) > self.max_unread:
            self.check_steps()

    def check_steps(self) -> None:
        """Wait for the steps made so far; write a bundle for each that was left out as bad.

        A gradient that overflowed only because the scaler had multiplied it makes no bad step:
        the scaler multiplies by less from then on.

        Raises:
            VarPromptError: more than TRAIN.MAX_BAD_STEPS such steps in the run.
        """
        steps, self._unread = self._unread, ()
        rows = torch.stack([step.numbers for step in steps]).tolist() if steps else []
        for step, (loss, norm, scale, scale_after) in zip(steps, rows, strict=True):
            overflowed = math.isfinite(loss) and scale_after < scale > 1
            if not (math.isfinite(loss + norm) or overflowed):
                self._bad_step(step, {"loss": loss, "norm of the gradient": norm}, scale)

    def _scale(self) -> Tensor:
        """The scaler's factor, on the device; 1 of a disabled one."""
        return self.scaler.scale(torch.ones((), device=self.device))

    def _bad_step(self, step: _Step, numbers: dict[str, float], scale: float) -> None:
        self.bad_steps += 1
        number = step.epoch * self.num_batches + step.batch_idx
        file = Path(self.output_dir, f"bad-step-{number}.pth.tar")
        bundle = {key: step.batch[key] for key in _IN_BUNDLE if key in step.batch}
        now = [(tensor, tensor.clone()) for tensor, _ in step.before]
        _put_back(step.before)  # of later steps nothing is in the bundle
        state = self.state(step.epoch, step.batch_idx)
        if state["scaler"]:
            state["scaler"]["scale"] = scale
        files.write(state | bundle | {"noise": step.noise}, file)
        name, size = self._largest_parameter()
        _put_back(now)
        paths = list(step.batch.get("impath", ()))
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        text = (
            f"{' and '.join(f'{k} {v}' for k, v in numbers.items())} at epoch [{step.epoch + 1}/"
            f"{self.max_epoch}] batch [{step.batch_idx + 1}/{self.num_batches}], step {number}\n"
            f"largest parameter: {name}, magnitude {size:.3g}\n"
            f"images: {', '.join(paths[:_SHOWN])}{more}\n"
            f"images, state and noise that reproduce it: {file}"
        )
        limit = self.cfg.TRAIN.MAX_BAD_STEPS
        if self.bad_steps > limit:
            raise VarPromptError(
                f"{text}\nLower OPTIM.LR, set TRAIN.CLIP_GRAD_NORM 1.0, use PREC fp32, or leave "
                f"out up to N such steps with TRAIN.MAX_BAD_STEPS N (now {limit})"
            )
        self.note(f"Step left out, {self.bad_steps} of at most {limit}: {text}")

    def _largest_parameter(self) -> tuple[str, float]:
        sizes = {
            name: parameter.detach().abs().nan_to_num(math.inf).max().item()
            for name, parameter in self.model.prompt_learner.named_parameters()
        }
        return max(sizes.items(), key=lambda item: item[1])


def count_steps_on(device: torch.device, groups: Iterable[dict[str, Any]]) -> None:
    """Have torch's Adam and its kin count their steps on `device`: one left out must not count."""
    for group in groups:
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"


@torch.no_grad()
def _step_if(finite: Tensor, optim: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
    """A step if `finite`; returns parameters and state with what they were before.

    State that the first step makes was zero before: so torch's optimizers start it, but for SGD
    with dampening, which does not dampen its first step.
    """
    old = {tensor: tensor.clone() for tensor in _tensors(optim)}
    optim.step()
    before = [(t, old[t] if t in old else torch.zeros_like(t)) for t in _tensors(optim)]
    for tensor, value in before:
        torch.where(finite, tensor, value, out=tensor)
    return before


def _tensors(optim: torch.optim.Optimizer) -> list[Tensor]:
    parameters = [p for group in optim.param_groups for p in group["params"] if p.grad is not None]
    state = [v for p in parameters for v in optim.state[p].values() if isinstance(v, Tensor)]
    return parameters + state


@torch.no_grad()
def _put_back(values: list[tuple[Tensor, Tensor]]) -> None:
    for tensor, value in values:
        tensor.copy_(value)
