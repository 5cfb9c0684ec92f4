"""Trainers by name."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

from typing import Any

from ..config import check_supported
from ..utils import Registry, check_availability

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: Any) -> Any:
    """The trainer TRAINER.NAME, built from the config.

    Raises:
        ConfigError: the name is unknown, or the config wants what the stand-in does not have.
    """
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "TRAINER.NAME")
    check_supported(cfg)
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
