"""Time, bandwidth and memory of the sampling + KL step: eager, torch.compile'd eager, fused.

    python benchmarks/reparam_kl.py --output benchmarks/results/reparam_kl.json    # on CUDA
    python benchmarks/reparam_kl.py --device cpu                     # eager and compiled only

Bytes are the least that must be moved (inputs read once, outputs written once); the share is of
the copy bandwidth that is measured in the same run. "call" is what a Python loop sees, launches
included; "graph" replays a CUDA graph, which shows the kernels alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._report import device_name, environment, percentiles, write_json  # noqa: E402
from varprompt.ops import reparam_kl  # noqa: E402

SIZES = [(10, 1, 4, 512), (10, 8, 4, 512), (20, 32, 4, 512), (40, 32, 16, 768), (40, 256, 16, 768)]
CPU_SIZES = SIZES[:3]
PRIOR_STD = 0.05


def main() -> None:
    """Measure every size and backend, print a table, write the JSON."""
    args = _arguments()
    device = torch.device(args.device)
    report = {
        "environment": environment(device),
        "copy_bytes_per_s": copy_bandwidth(device, args.repeats),
        "fused": "measured" if "fused" in args.backends else "not measured",
        "rows": [],
    }
    if device.type != "cuda":
        report["fused"] = "not measured: needs CUDA; the time of Triton's interpreter means nothing"
        report["memory"] = "not measured: needs CUDA"
    print(f"copy: {report['copy_bytes_per_s'] / 1e9:.0f} GB/s")
    print(f"{'L,K,M,D':>14} {'R':>2} {'backend':>8} {'pass':>8} {'mode':>5} {'ms':>9} {'share':>6}")
    for size in args.sizes:
        for n_residuals in sorted({1, size[2]}):
            for backend in args.backends:
                rows = measure(size, n_residuals, backend, device, args.repeats)
                for row in rows:
                    row["share_of_copy"] = row["bytes_per_s"] / report["copy_bytes_per_s"]
                    _print_row(row)
                report["rows"] += rows
    if args.output:
        write_json(args.output, report)


def measure(
    size: tuple[int, int, int, int],
    n_residuals: int,
    backend: str,
    device: torch.device,
    repeats: int,
) -> list[dict[str, Any]]:
    """Rows for the forward alone and with the backward, called and (CUDA) replayed."""
    tensors, forward = problem(size, n_residuals, backend, device)
    upstream = [torch.randn_like(out) for out in forward(*tensors)]

    def both() -> tuple[list[Tensor], list[Tensor]]:
        outputs = forward(*tensors)
        return outputs, torch.autograd.grad(outputs, tensors, upstream)

    outputs, grads = map(_n_bytes, both())
    passes = {
        "forward": (lambda: forward(*tensors), _n_bytes(tensors) + outputs),
        "both": (both, _n_bytes([*tensors, *tensors[:2]]) + 2 * outputs + grads),
    }
    common = {"size": dict(zip("LKMD", size, strict=True)), "R": n_residuals, "backend": backend}
    common["peak_bytes"] = peak_memory(both, device)
    common["output_and_gradient_bytes"] = outputs + grads
    rows = []
    for name, (step, moved) in passes.items():
        modes = {"call": step} | ({"graph": _graphed(step)} if device.type == "cuda" else {})
        for mode, run in modes.items():
            ms = percentiles(milliseconds(run, device, repeats))
            speed = {"bytes": moved, "bytes_per_s": moved / ms["p50"] * 1e3}
            rows.append({**common, "pass": name, "mode": mode, "ms": ms, **speed})
    return rows


def problem(
    size: tuple[int, int, int, int], n_residuals: int, backend: str, device: torch.device
) -> tuple[list[Tensor], Callable[..., tuple[Tensor, Tensor]]]:
    """mu, logvar, context, and the step; contexts in float16 on CUDA, as of a text tower there."""
    n_samples, n_rows, n_tokens, width = size
    draw = torch.Generator(device).manual_seed(0)
    shapes = [(n_rows, n_residuals, width)] * 2 + [(n_tokens, width)]
    tensors = [torch.randn(shape, device=device, generator=draw) for shape in shapes]
    out_dtype = torch.float16 if device.type == "cuda" else torch.float32

    def forward(mu: Tensor, logvar: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return reparam_kl(
            mu, logvar, context, n_samples, prior_std=PRIOR_STD, out_dtype=out_dtype,
            backend="eager" if backend == "compiled" else backend,
        )  # fmt: skip

    if backend == "compiled":
        torch._dynamo.reset()
        forward = torch.compile(forward, fullgraph=True)
    return [tensor.requires_grad_() for tensor in tensors], forward


def milliseconds(run: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Times of `repeats` runs after three warm-up runs, on CUDA each with a cold L2 cache."""
    for _ in range(3):
        run()
    times = []
    if device.type != "cuda":
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return times
    flush = torch.empty(2**28, dtype=torch.int8, device=device)
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes read and written a second by a copy that is much larger than the caches."""
    source = torch.zeros(2**29 if device.type == "cuda" else 2**27, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    times = milliseconds(lambda: target.copy_(source), device, repeats)
    return 2 * source.numel() / percentiles(times)["p50"] * 1e3


def peak_memory(run: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that a run takes at most beyond what was there before; None without CUDA."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _graphed(run: Callable[[], Any]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _n_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _print_row(row: dict[str, Any]) -> None:
    size = ",".join(str(n) for n in row["size"].values())
    print(
        f"{size:>14} {row['R']:>2} {row['backend']:>8} {row['pass']:>8} {row['mode']:>5} "
        f"{row['ms']['p50']:>9.4f} {row['share_of_copy']:>6.1%}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    on_cuda = torch.cuda.is_available()
    parser.add_argument("--device", type=device_name, default="cuda" if on_cuda else "cpu")
    parser.add_argument("--output", help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=100, help="timed runs (default 100)")
    parser.add_argument("--sizes", type=_size, nargs="+", help="L,K,M,D ... (default: a range)")
    parser.add_argument(
        "--backends", nargs="+", choices=["eager", "compiled", "fused"], help="default: all"
    )
    args = parser.parse_args()
    on_cuda = torch.device(args.device).type == "cuda"
    args.sizes = args.sizes or (SIZES if on_cuda else CPU_SIZES)
    args.backends = args.backends or ["eager", "compiled", "fused"][: 3 if on_cuda else 2]
    if "fused" in args.backends and not on_cuda:
        parser.error("fused needs CUDA: the time of Triton's interpreter means nothing")
    return args


def _size(text: str) -> tuple[int, ...]:
    size = tuple(int(number) for number in text.split(","))
    if len(size) != 4:
        raise ValueError(text)
    return size


if __name__ == "__main__":
    main()
