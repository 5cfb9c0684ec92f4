"""Products with frozen weights, by the library that this CPU is faster with.

torch hands float32 products to MKL, which on AMD's CPUs has half the speed of oneDNN. Which of the
two is faster is measured when the first product is asked for, in 0.1 s, and remembered on disk.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.files import cache_file, write_atomic
from .device import cpu_name

REMEMBERED = "products.json"
# oneDNN is what is taken unless torch needs less than this share of its time: what is nearly equal
# shall not be decided by chance, since the two differ in the last digits.
_CLEARLY = 0.9
_SIZES = 256, 768, 3072  # rows, inputs and outputs of a layer of ViT-B
_REPEATS = 5
_MOST = 100  # machines remembered


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` by the faster library, differentiable in x any number of times."""
    if takes_onednn(x, weight):
        return _OneDNNLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` gives this product to oneDNN: on a CPU, in float32, to frozen weights."""
    return bool(
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and x.dtype == weight.dtype == torch.float32
        and not (weight.requires_grad or torch.is_autocast_enabled("cpu"))
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and onednn_is_faster()
    )


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this CPU is faster with oneDNN; measured if nobody has on this machine.

    False where this torch lacks the operator, which is none of its public ones.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    with contextlib.suppress(OSError, RuntimeError):  # no home folder, or one that is read-only
        path = cache_file(REMEMBERED)
        known = _remembered(path)
        if machine not in known:
            # written first to last: who finds the file gone or damaged measures anew
            known = dict([*known.items(), (machine, _measure())][-_MOST:])
            text = json.dumps(known, indent=1).encode()
            write_atomic(path, lambda file: file.write(text))
        return known[machine]
    return _measure()


def _remembered(path: Path) -> dict[str, bool]:
    """What was measured before; nothing if the file is damaged."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: value for name, value in known.items() if isinstance(value, bool)}


@torch.no_grad()
def _measure() -> bool:
    """Time both libraries with a layer of ViT-B; other programs on the machine do not count."""
    rows, inputs, outputs = _SIZES
    # constants, so that no generator is touched: neither library looks at the numbers
    x, weight = torch.full((rows, inputs), 0.5), torch.full((outputs, inputs), 0.5)
    try:
        times = _least(lambda: _onednn(x, weight, None), lambda: F.linear(x, weight))
    except RuntimeError:  # built for other CPUs
        return False
    return times[1] > _CLEARLY * times[0]


def _least(*functions: Callable[[], Any]) -> list[float]:
    """Processor seconds of each, the least of several calls that take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + _REPEATS):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [min(own[1:]) for own in times]


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


class _OneDNNLinear(torch.autograd.Function):
    """`x W^T + b`, differentiable in x any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # autograd knows no derivative of the operator and would take it for a constant: the
        # product of the backward has to be this function again to have a derivative of its own
        (weight,) = ctx.saved_tensors
        return _OneDNNLinear.apply(grad, weight.t(), None), None, None
