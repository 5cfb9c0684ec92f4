"""How much memory a device has left, how much of it activations may take, and work in chunks."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

_SHARE_OF_FREE_MEMORY = 0.5
# Less than this saves nothing: it is about what the smallest chunk of a ViT-B text tower takes.
_LEAST_BUDGET = 16 << 20
_UNKNOWN = 8 << 30  # free memory where nobody tells, as on Windows

# What a token of a layer keeps for the backward pass, in units of the width: the inputs of the two
# normalisations in float32; in the number format of the tower query, attention output, key and
# value with their share of the shared ones, and the hidden layer of the MLP. And the intermediates
# of the layer at work. Measured: tests/towers/test_text.py, tests/towers/test_image.py.
_KEPT_FLOAT32 = 2
_KEPT = 9
_WORKING = 18

# On CPU a chunk's hidden layer stays below this, in bytes, whenever there must be chunks or they
# cost nothing: beyond, caches overflow and every tensor is new memory from the system.
CPU_CHUNK = 16 << 20

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# Names of limit, use, and the part of the use that is a cache the kernel gives up when asked:
# in version 2 of control groups and in version 1.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@torch.compiler.assume_constant_result  # it reads files: torch.compile must not look inside
def automatic_budget(device: torch.device) -> int:
    """Half of the bytes that are free on `device`, rounded down to a power of two.

    Free memory is never twice the same. The number of chunks must be, or a repeated run would add
    its gradients in another order and end with other last digits: hence the coarse rounding.
    """
    share = int(_SHARE_OF_FREE_MEMORY * free_memory(device))
    return max(_LEAST_BUDGET, 1 << max(0, share.bit_length() - 1))


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors on `device` can take; 8 GiB where nobody tells."""
    if device.type in ("cuda", "xpu"):
        gpu = getattr(torch, device.type)
        # what torch has freed but not given back to the driver counts as free, too
        cached = gpu.memory_reserved(device) - gpu.memory_allocated(device)
        return gpu.mem_get_info(device)[0] + cached
    if device.type == "mps":  # the GPU of a Mac takes its share of the only memory there is
        left = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(0, min(left, _free_on_host()))
    return _free_on_host()


def _free_on_host() -> int:
    """What the machine has left, or less if this process is in a container that may have less."""
    return max(0, min([_free_in_machine(), *_free_in_groups()]))


def _free_in_machine() -> int:
    try:
        sizes = dict(line.split(":", 1) for line in _MEMINFO.read_text("ascii").splitlines())
        return int(sizes["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError):  # no Linux, or one that does not say
        pass
    try:  # macOS says how much there is, but not how much is free: half is a cautious guess
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _free_in_groups() -> Iterator[int]:
    """Bytes left in every limited control group around this process: its own and those above.

    The folders above matter for two reasons: their limits count as well, and in a container
    /proc/self/cgroup may name a path of the host, while the own group is mounted as the root.
    """
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:  # version 2, which has one tree for everything
            root, names = _GROUPS, _V2
        elif "memory" in controllers.split(","):
            root, names = _GROUPS / "memory", _V1
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (root / group, *(root / parent for parent in group.parents)):
            left = _left(folder, *names)
            if left is not None:
                yield left


def _left(group: Path, limit: str, used: str, cache: str) -> int | None:
    """Limit minus use of one control group; None if it has no limit (or none of these files)."""
    try:
        allowed, taken = int((group / limit).read_text()), int((group / used).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
    try:
        rows = (row.split() for row in (group / "memory.stat").read_text().splitlines())
        taken -= int(dict(rows)[cache])
    except (OSError, ValueError, KeyError):
        pass
    return allowed - taken


def activation_bytes(width: int, itemsize: int, n_layers: int) -> int:
    """Bytes that a token takes in a transformer.

    Args:
        width: of the tower.
        itemsize: bytes of a number in it.
        n_layers: whose activations are kept for a backward pass, 0 without one.
    """
    kept = 4 * _KEPT_FLOAT32 + itemsize * _KEPT
    return width * (_WORKING * itemsize + kept * n_layers)


def directly(function: Any, *args: Any) -> Any:
    """The function's result, what it computes on the way is kept for the backward pass."""
    return function(*args)


@torch.compiler.disable
def recomputed(function: Any, *args: Any) -> Any:
    """The same, but what it computes on the way is computed again there.

    The first of `args` is a tensor. Chunks are large enough to keep a device busy: torch.compile
    leaves them as they are.
    """
    return checkpoint(_afresh, function, *args, use_reentrant=False, preserve_rng_state=False)


def _afresh(function: Any, *args: Any) -> Any:
    """The function's result; what the chunk before it has freed is the system's again by then."""
    if args[0].device.type == "cpu":
        give_back()
    return function(*args)


def give_back() -> None:
    """Let glibc return what was freed on the CPU.

    Before version 2.38 it finds freed blocks that were aligned, as all of torch's are, only now and
    then fit for the next aligned one: without this, every chunk takes some new memory (measured:
    90 MB of 0.5 GB), which exceeds any budget when there are hundreds.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    """The function of the C library; None where it has none."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def slices(total: int, size: int) -> Iterator[slice]:
    """Ranges of nearly equal length, `size` at most; one, empty, of nothing."""
    if not total:
        return iter([slice(0, 0)])
    size = -(-total // -(-total // size))
    return (slice(i, min(i + size, total)) for i in range(0, total, size))
