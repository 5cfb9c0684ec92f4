"""Threads and memory: recorded; threads and budget are used again by a run that goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Resources:
    """What the last digits of floating-point sums depend on, besides the kind of device."""

    threads: int
    mem_budget: int  # bytes, which decide how texts are grouped
    device: str

    @classmethod
    def of(cls, text_encoder: Any, device: torch.device) -> Resources:
        """Those in use now."""
        return cls(
            torch.get_num_threads(),
            int(getattr(text_encoder, "resolved_budget", text_encoder.mem_budget)),
            device.type,
        )

    def record(self) -> dict[str, Any]:
        """For a state or results."""
        return vars(self).copy()

    def restore(
        self, recorded: Any, text_encoder: Any, keep_budget: bool, note: Callable[[str], None]
    ) -> None:
        """Use those that a state records again, if it is of the same kind of device.

        Args:
            recorded: of the state; anything else is ignored.
            text_encoder: gets the memory budget.
            keep_budget: whether the budget was asked for by the user, and stays as it is.
            note: takes a line for the log.
        """
        if not isinstance(recorded, dict) or recorded.get("device") != self.device:
            return
        threads, budget = recorded.get("threads"), recorded.get("mem_budget")
        if type(threads) is int and 0 < threads <= 4096 and threads != self.threads:
            note(f"{threads} threads as in the run's beginning, not {self.threads}")
            torch.set_num_threads(threads)
        if type(budget) is int and budget > 0 and budget != self.mem_budget and not keep_budget:
            note(
                f"Memory budget {budget:,} bytes as in the run's beginning, not {self.mem_budget:,}"
            )
            text_encoder.mem_budget = budget


def most_memory(device: torch.device) -> dict[str, int]:
    """Bytes that this process has had at most, by what a sweep calls them; {} where nobody tells.

    On a GPU what torch reserved, beside all that it has: a context takes some hundred MB more.
    """
    found = {}
    if device.type == "cuda":
        found["peak_gpu_bytes"] = torch.cuda.max_memory_reserved(device)
        found["gpu_bytes"] = torch.cuda.get_device_properties(device).total_memory
    with contextlib.suppress(ImportError):  # on Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1 << 10
        found["peak_host_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return found


def precision_on(device: torch.device, precision: str) -> str:
    """What is to be said of a number format on a device; "" if nothing is."""
    if device.type != "cuda" and precision == "amp":
        return f"PREC amp has no effect on the device {device.type}: it computes as fp32 does"
    if device.type == "cpu" and precision == "fp16":
        return "PREC fp16 is slow on a CPU: set PREC to fp32 there"
    return ""
