"""The update of the learner, made with finite numbers only, and the record of one that is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from varprompt import checkpoint
from varprompt.errors import VarPromptError

_IN_BUNDLE = ("img", "features", "label", "impath")
_SHOWN = 8  # image paths in a message


class GuardMixin:
    """Takes a step, or leaves it out and says why."""

    bad_steps = batch_idx = num_batches = 0

    def update(self, loss: Tensor, batch: dict[str, Any], noise: Tensor) -> None:
        """Backward pass and step of the optimizer; no step if loss or gradient are not finite.

        The host waits here for two numbers of each step. Waiting less often would mean to find
        the images of a bad step gone and the parameters spoilt; precisions fp16 and amp wait in
        their scaler anyway. A gradient that overflowed only because the scaler had multiplied it
        is no bad step: the scaler leaves it out and multiplies by less.

        Args:
            loss: scalar.
            batch: what the loss was computed from.
            noise: state of the generator before that.

        Raises:
            VarPromptError: more than TRAIN.MAX_BAD_STEPS such steps.
        """
        self.optim.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optim)
        norm = nn.utils.clip_grad_norm_(
            self.model.prompt_learner.parameters(), self.cfg.TRAIN.CLIP_GRAD_NORM or math.inf
        )
        numbers = dict(zip(("loss", "norm of the gradient"),
                           torch.stack([loss.detach(), norm]).tolist(), strict=True))  # fmt: skip
        if all(map(math.isfinite, numbers.values())) or self._overflowed(loss):
            self.scaler.step(self.optim)
        else:
            self._bad_step(numbers, batch, noise)
        self.scaler.update()

    def _overflowed(self, loss: Tensor) -> bool:
        return self.scaler.get_scale() > 1 and bool(loss.isfinite())  # a disabled one says 1

    def _bad_step(self, numbers: dict[str, float], batch: dict[str, Any], noise: Tensor) -> None:
        self.bad_steps += 1
        step = self.epoch * self.num_batches + self.batch_idx
        file = Path(self.output_dir, f"bad-step-{step}.pth.tar")
        bundle = {key: batch[key] for key in _IN_BUNDLE if key in batch}
        checkpoint.write(self.state(self.epoch, self.batch_idx) | bundle | {"noise": noise}, file)
        name, size = self._largest_parameter()
        paths = list(batch.get("impath", ()))
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        text = (
            f"{' and '.join(f'{k} {v}' for k, v in numbers.items())} at epoch [{self.epoch + 1}/"
            f"{self.max_epoch}] batch [{self.batch_idx + 1}/{self.num_batches}], step {step}\n"
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
