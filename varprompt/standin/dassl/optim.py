"""Optimizers and schedules from the OPTIM config node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from varprompt.run.schedule import build_lr_scheduler

from .utils import check_availability

__all__ = ["build_lr_scheduler", "build_optimizer"]


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: Any, param_groups: Any = None
) -> torch.optim.Optimizer:
    """Optimizer OPTIM.NAME over `param_groups`, or else all parameters of `model`.

    Raises:
        ValueError: OPTIM.NAME is unknown.
    """
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    momentum = optim_cfg.MOMENTUM
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": partial(torch.optim.Adam, betas=betas),
        "amsgrad": partial(torch.optim.Adam, betas=betas, amsgrad=True),
        "sgd": partial(
            torch.optim.SGD,
            momentum=momentum,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        ),
        "rmsprop": partial(torch.optim.RMSprop, momentum=momentum, alpha=optim_cfg.RMSPROP_ALPHA),
        "radam": partial(torch.optim.RAdam, betas=betas, decoupled_weight_decay=True),
        "adamw": partial(torch.optim.AdamW, betas=betas),
    }
    check_availability(optim_cfg.NAME, list(makers), "OPTIM.NAME")
    if param_groups is None:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    return makers[optim_cfg.NAME](
        param_groups, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY
    )
