"""What the JSON of every benchmark has: command, commit, date, machine, versions."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from varprompt.towers.device import cpu_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "triton", "clip-anytorch", "numpy", "onnx", "onnxruntime")


def environment(device: torch.device) -> dict[str, Any]:
    """Command, commit, date, machine and versions of a measurement on `device`."""
    return {
        "command": " ".join(
            ["python", os.path.relpath(sys.argv[0], ROOT), *map(shown, sys.argv[1:])]
        ),
        "commit": _commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": f"{os.cpu_count()} x {cpu_name()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def write_json(path: str | Path, report: dict[str, Any]) -> None:
    """Write `report` to `path`, entirely or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def device_name(text: str) -> str:
    """What a flag names, "cpu" or "cuda".

    Raises:
        argparse.ArgumentTypeError: it is something else, or there is no GPU.
    """
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch sees no CUDA device")
    return text


def shown(argument: str) -> str:
    """A path as it is in any checkout; of a place elsewhere on this machine its last part."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name)


def percentiles(values: list[float]) -> dict[str, float]:
    """The 20th, 50th and 80th percentile, named p20, p50, p80."""
    quantiles = torch.tensor(values, dtype=torch.float64).quantile(
        torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    )
    return dict(zip(("p20", "p50", "p80"), quantiles.tolist(), strict=True))


def _commit() -> str | None:
    """The checked-out commit, with a + if tracked files were changed since; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None

    def run(*command: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed commands
            [git, "-C", str(ROOT), *command], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = run("rev-parse", "HEAD")
    changed = run("status", "--porcelain", "--untracked-files=no")
    return commit + "+" * bool(changed) if commit else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
