"""Optimizers and schedules from the OPTIM config node."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
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
    makers = {
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
        param_groups = _param_groups(model, optim_cfg)
    elif optim_cfg.STAGED_LR:
        warnings.warn("OPTIM.STAGED_LR is ignored: param_groups are given", stacklevel=2)
    return makers[optim_cfg.NAME](
        param_groups, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY
    )


def _param_groups(model: nn.Module | Iterable[Any], optim_cfg: Any) -> Any:
    if not optim_cfg.STAGED_LR:
        return model.parameters() if isinstance(model, nn.Module) else model
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs a module, got {type(model).__name__}")
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = [new_layers] if isinstance(new_layers, str) else list(new_layers)
    module = model.module if isinstance(model, nn.DataParallel) else model
    base, new = [], []
    for name, child in module.named_children():
        (new if name in new_layers else base).extend(child.parameters())
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
