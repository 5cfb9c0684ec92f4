"""Seconds, peak memory, the machine's matrix products, and the operations of a step."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from varprompt.model import PromptedCLIP
from varprompt.towers.memory import give_back
from varprompt.towers.tokens import encode


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds of `work` on the clock and of this process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - processor


def undisturbed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of `work` on the clock; of one thread on a CPU those of the processor.

    In those other programs do not count, as far as they leave the caches alone.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return timed(work, device)[alone]


class PeakMemory:
    """Context whose `peak` is the largest number of bytes in use above those at its start.

    On CPU the resident memory of the process (on Linux; elsewhere its largest value since the
    start of the process), on CUDA what torch allocated.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.peak = 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        give_back()  # else the next one to take it would seem to take nothing
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
        else:
            _reset_high_water_mark()
            self._start = _high_water_mark()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device) - self._start
        else:
            self.peak = _high_water_mark() - self._start


def matmul_peak(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Operations per second of large matrix products: torch's, and on CPU oneDNN's."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    products: dict[str, Callable[[], Any]] = {"torch": lambda: a @ a}
    if device.type == "cpu" and dtype == torch.float32:
        products["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], "")
    return {
        k: 2 * n**3 / min(undisturbed(f, device) for _ in range(9)) for k, f in products.items()
    }


def floor_flops(model: PromptedCLIP, names: list[str], n_prompts: int) -> float:
    """Operations of the text tower for one step, forward and backward: C names, `n_prompts` = L K.

    A token costs 24 D^2 a layer each way: 6 for query, key and value, 2 for the output
    projection, 16 for the MLP. In the last layer whatever is not an end-of-text token costs 4 D^2
    (key and value); in the first one query, key and value of a name are needed once for all
    prompts, and have no gradient. Attention to k keys costs 4 k D.
    """
    encoder = model.towers.encode_text
    width, layers, shared = encoder.positions.shape[1], len(encoder.blocks), model.tokens.n_lead + 1
    own = [len(encode(f"{name.replace('_', ' ')}.")) + 1 for name in names]
    n_tokens = shared + sum(own)
    keys = sum(n * shared + n * (n + 1) / 2 for n in own) + shared * (shared + 1) / 2
    matrices = 24 * n_tokens * (layers - 1) + 4 * n_tokens + 20 * len(names) - 6 * sum(own)
    per_prompt = matrices * width**2 + 4 * keys * width * layers
    return 2 * n_prompts * per_prompt + 6 * sum(own) * width**2


def _reset_high_water_mark() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _high_water_mark() -> int:
    """Largest resident memory in bytes since the last reset."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
