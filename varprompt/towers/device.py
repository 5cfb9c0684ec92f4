"""Which device is meant, and which CPU this is."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch

from ..errors import ConfigError


def device_of(name: str) -> str:
    """The device that a name means; "auto" is a GPU if there is one.

    Raises:
        ConfigError: it is unknown or not there.
    """
    available = {
        "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True,
    }  # fmt: skip
    if name == "auto":
        return next(device for device, there in available.items() if there)
    if not available.get(str(name).partition(":")[0], False):
        there = [device for device in available if available[device]]
        raise ConfigError(f"device is {name!r}; choose from auto, {', '.join(there)}")
    return name


@functools.cache
def cpu_name() -> str:
    """What the CPU calls itself, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
