"""A training step and a first test beside the authors' own code, from a checkout of it.

Each side is a process of its own that keeps its model; they take turns, so that whatever else the
machine does meets both. Their process imports the checkout's ``clip`` and ``trainers``. Both have
the same random weights, images, labels and noise; loss and gradients are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks._authors import SIDES, TEST_IMAGES
from benchmarks._measure import PeakMemory, floor_flops, matmul_peak, timed
from benchmarks._report import environment, percentiles, shown
from benchmarks._setup import class_names
from benchmarks._turns import Process, answer

CPU = torch.device("cpu")
FIRST_TEST = 200  # images; time is taken of fewer, the others are like them


def serve(side: str, args: argparse.Namespace, n_classes: int, pipe: Any) -> None:
    """In a process of its own: do what `pipe` says and answer with seconds and what was found."""
    names = class_names(args.names, n_classes)
    model = SIDES[side](args, names)
    resolution = model.resolution
    draw = torch.Generator().manual_seed(args.seed)
    images = torch.randn(TEST_IMAGES, 3, resolution, resolution, generator=draw)
    labels = torch.randint(len(names), (args.B,), generator=draw)

    def step() -> dict[str, Any]:
        torch.manual_seed(args.seed)
        with PeakMemory(CPU) as memory:
            seconds = timed(lambda: found.update(loss=model.step(images[: args.B], labels)), CPU)
        gradients = {name: g.tolist() for name, g in model.gradients().items()}
        return {"seconds": seconds, "peak": memory.peak, "loss": found["loss"].item(),
                "gradients": gradients}  # fmt: skip

    def test() -> dict[str, Any]:
        count = model.images_at_once
        texts, image = timed(model.texts, CPU), timed(lambda: model.test(images[:count]), CPU)
        return {"texts": texts, "image": [seconds / count for seconds in image]}

    def floor() -> dict[str, Any]:
        image = timed(lambda: model.model.encode_image(images[: args.B]), CPU)
        return {"image": image, "flops": floor_flops(model.model, names, args.L),
                "peak": matmul_peak(CPU, torch.float32)}  # fmt: skip

    found: dict[str, Any] = {}
    work: dict[str, Callable[[], Any]] = {"step": step, "test": test, "floor": floor}
    answer(pipe, work)


def against(args: argparse.Namespace) -> dict[str, Any]:
    """Steps of both sides in turn, then first tests of both; the whole report."""
    where = environment(CPU)
    where["command"] = where["command"].replace(shown(args.against), "CHECKOUT")
    report: dict[str, Any] = {"environment": where}
    report["step"] = steps(args)
    report["first_test"] = tests(args)
    return report


def steps(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, peak memory and differences of a step."""
    sides = {name: Process(serve, name, args, args.classes) for name in SIDES}
    first = {name: side.do("step") for name, side in sides.items()}
    rows: dict[str, list[Any]] = {name: [] for name in sides}
    floors = []
    for _ in range(args.repeats):
        for name, side in sides.items():
            rows[name].append(side.do("step"))
        floors.append(sides["ours"].do("floor"))
    for side in sides.values():
        side.close()
    found: dict[str, Any] = {
        name: {
            "seconds": [row["seconds"][0] for row in own],
            "cpu_s": [row["seconds"][1] for row in own],
            "median_s": percentiles([row["seconds"][0] for row in own])["p50"],
            "peak_bytes": max(row["peak"] for row in [first[name], *own]),
        }
        for name, own in rows.items()
    }
    theirs, ours = found["theirs"], found["ours"]
    found["ratio"] = {
        "time": theirs["median_s"] / ours["median_s"],
        "cpu_time": percentiles(theirs["cpu_s"])["p50"] / percentiles(ours["cpu_s"])["p50"],
        "peak_memory": theirs["peak_bytes"] / ours["peak_bytes"],
    }
    found["floor"] = floor_of(floors, ours)
    found["difference"] = differences(first["ours"], first["theirs"])
    return found


def floor_of(rows: list[dict[str, Any]], step: dict[str, Any]) -> dict[str, float]:
    """What arithmetic takes: the text tower's operations at the best rate, and the image tower."""
    rate = max(max(row["peak"].values()) for row in rows)
    image, image_cpu = (percentiles([row["image"][i] for row in rows])["p50"] for i in (0, 1))
    text, cpu = rows[0]["flops"] / rate, percentiles(step["cpu_s"])["p50"]
    return {"flops_per_s": rate, "text_flops": rows[0]["flops"], "text_s": text,
            "image_s": image, "image_cpu_s": image_cpu,
            "step_over_floor": step["median_s"] / (text + image),
            "cpu_step_over_floor": cpu / (text + image_cpu)}  # fmt: skip


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Of the loss, and of the gradients in relative norm."""
    flat = [
        torch.cat([torch.tensor(side["gradients"][n]).flatten() for n in sorted(side["gradients"])])
        for side in (ours, theirs)
    ]
    return {
        "loss": abs(ours["loss"] - theirs["loss"]) / abs(theirs["loss"]),
        "gradient": float((flat[0] - flat[1]).norm() / flat[1].norm()),
    }


def tests(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds for texts, for an image, and for 200 images of a first test."""
    sides = {name: Process(serve, name, args, args.test_classes) for name in SIDES}
    for side in sides.values():
        side.do("test")
    rows: dict[str, list[Any]] = {name: [] for name in sides}
    for _ in range(args.repeats):
        for name, side in sides.items():
            rows[name].append(side.do("test"))
    for side in sides.values():
        side.close()
    found: dict[str, Any] = {"classes": args.test_classes, "images": FIRST_TEST}
    for name, own in rows.items():
        found[name] = {"rows": own}
        for place, unit in enumerate(("s", "cpu_s")):
            texts, image = (
                percentiles([row[kind][place] for row in own])["p50"] for kind in ("texts", "image")
            )
            found[name] |= {f"texts_{unit}": texts, f"image_{unit}": image,
                            f"all_{unit}": texts + FIRST_TEST * image}  # fmt: skip
    theirs, ours = found["theirs"], found["ours"]
    found["ratio"] = theirs["all_s"] / ours["all_s"]
    found["ratio_cpu"] = theirs["all_cpu_s"] / ours["all_cpu_s"]
    return found
