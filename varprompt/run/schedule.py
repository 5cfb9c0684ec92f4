"""Learning rates per epoch: Dassl's schedules as closed forms of the epoch index."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import ConfigError

SCHEDULES = ("single_step", "multi_step", "cosine")
WARMUPS = ("constant", "linear")

_STATE = ("last_epoch", "base_lrs", "_step_count", "_last_lr")


class EpochLR(LRScheduler):
    """Sets every group's rate to ``rate(epoch, base_lr)``; stepped once per epoch.

    The rate depends on nothing but its arguments, so a loaded state continues exactly. The state
    holds plain numbers only.
    """

    def __init__(self, optimizer: Optimizer, rate: Callable[[int, float], float]):
        self._rate = rate
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Rates of the current epoch, one per parameter group."""
        return [self._rate(self.last_epoch, float(base_lr)) for base_lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Epoch, base rates and last rates."""
        return {key: getattr(self, key) for key in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state and set the optimizer's rates to it."""
        for key in _STATE:
            setattr(self, key, state_dict[key])
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: Any) -> EpochLR:
    """Schedule of the OPTIM config node: warm-up epochs, then steps or a half cosine.

    With WARMUP_RECOUNT the schedule behind the warm-up starts from its own beginning; without, it
    starts at the base rate and decays as it would from epoch WARMUP_EPOCH on.

    Raises:
        ConfigError: unknown LR_SCHEDULER or WARMUP_TYPE.
    """
    warmup = max(optim_cfg.WARMUP_EPOCH, 0)
    problems = []
    if optim_cfg.LR_SCHEDULER not in SCHEDULES:
        problems.append(
            f"schedule {optim_cfg.LR_SCHEDULER!r} is unknown; "
            f"choose from {list(SCHEDULES)} (OPTIM.LR_SCHEDULER)"
        )
    if warmup and optim_cfg.WARMUP_TYPE not in WARMUPS:
        problems.append(
            f"warm-up {optim_cfg.WARMUP_TYPE!r} is unknown; "
            f"choose from {list(WARMUPS)} (OPTIM.WARMUP_TYPE)"
        )
    if problems:
        raise ConfigError(problems)

    decay = _decay(optim_cfg)
    start = 0 if optim_cfg.WARMUP_RECOUNT else warmup

    def rate(epoch: int, base_lr: float) -> float:
        if epoch >= warmup:
            return base_lr * decay(start, epoch - warmup + start)
        if optim_cfg.WARMUP_TYPE == "constant":
            return optim_cfg.WARMUP_CONS_LR
        return base_lr * epoch / warmup if epoch else optim_cfg.WARMUP_MIN_LR

    return EpochLR(optimizer, rate)


def _decay(optim_cfg: Any) -> Callable[[int, int], float]:
    """The factor by which the schedule changes the rate between two of its own epochs."""
    gamma, length, steps = optim_cfg.GAMMA, optim_cfg.MAX_EPOCH, optim_cfg.STEPSIZE
    steps = list(steps) if isinstance(steps, (list, tuple)) else [steps]

    def single_step(start: int, end: int) -> float:
        size = steps[-1] if steps[-1] > 0 else max(length, 1)
        return gamma ** (end // size - start // size)

    def multi_step(start: int, end: int) -> float:
        return gamma ** sum(start < step <= end for step in steps)

    def cosine(start: int, end: int) -> float:
        if start == end:
            return 1.0
        if end > length:  # behind its minimum torch's recursion rises towards the base rate
            start = 0
        return (1 + math.cos(math.pi * end / length)) / (1 + math.cos(math.pi * start / length))

    return {"single_step": single_step, "multi_step": multi_step, "cosine": cosine}[
        optim_cfg.LR_SCHEDULER
    ]
