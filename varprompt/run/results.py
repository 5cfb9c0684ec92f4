"""What a test found, in full precision, as a file beside the log."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.files import write_atomic
from .identity import is_record

FILE_NAME = "results.json"
_PACKAGES = ("torch", "torchvision", "clip-anytorch", "numpy", "pillow", "yacs")


def write_results(folder: str | Path, results: Mapping[str, Any]) -> None:
    """Write `results` with date, versions and commit to ``results.json``, whole or not at all."""
    content = {**results, **provenance()}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    data = text.encode(errors="backslashreplace")  # of class names that are no text: \udcff
    write_atomic(Path(folder) / FILE_NAME, lambda file: file.write(data))


def read_results(folder: str | Path) -> dict[str, Any] | None:
    """The results in `folder`; None if there are none or the file is damaged."""
    try:
        content = json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def damage(results: Mapping[str, Any]) -> str:
    """Why results cannot be those of any run; "" if they can."""
    value = results.get("accuracy", "missing")
    if type(value) not in (int, float) or not 0 <= value <= 100:  # also NaN
        return f"its accuracy is {str(value)[:20]}"
    if not is_record(results.get("identity", {})):  # 0.1.0 wrote none
        return "it does not say what was tested"
    return ""


def provenance() -> dict[str, Any]:
    """When, with which versions and from which commit."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(timespec="seconds"),
        "versions": dict(_versions()),
        "git_commit": _git_commit(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


@functools.cache
def _git_commit() -> str:
    """Commit of the source tree, with + if it has changes; empty outside a checkout.

    As it is when it is first asked for: what has been imported does not change with the files.
    """
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
