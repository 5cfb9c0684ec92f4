"""Checkpoints that hold tensors and numbers only."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import os
import warnings
from typing import Any

from torch import nn

from varprompt.common import files

BEST = "model-best.pth.tar"
POINTER = "checkpoint"  # text file that names the checkpoint saved last


def save_checkpoint(state: dict[str, Any], save_dir: str, model_name: str = "") -> None:
    """Write `state` to `save_dir` as `model_name`, by default ``model.pth.tar-<epoch>``.

    Args:
        state: has at least the keys `state_dict`, from whose names DataParallel's "module." is
            stripped, and `epoch`.
        save_dir: made if missing.
        model_name: file name.
    """
    state = {**state, "state_dict": _without_module(state["state_dict"])}
    path = os.path.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    files.write(state, path)
    print(f"Checkpoint saved to {path}")
    name = f"{os.path.basename(path)}\n".encode()
    files.write_atomic(os.path.join(save_dir, POINTER), lambda file: file.write(name))


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """Load a checkpoint onto the CPU.

    Raises:
        ValueError: no path.
        FileNotFoundError: no file.
        CheckpointError: damaged, or needs more than tensors and numbers.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    return files.read(fpath)


def resume_from_checkpoint(
    fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None
) -> int:
    """Load the checkpoint saved last in `fdir`, all of it; returns the number of epochs done."""
    with open(os.path.join(fdir, POINTER), encoding="utf-8") as file:
        path = os.path.join(fdir, file.readline().strip())
    print(f'Loading checkpoint from "{path}"')
    state = load_checkpoint(path)
    model.load_state_dict(state["state_dict"])
    print("Loaded model weights")
    for key, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is not None and state.get(key) is not None:
            target.load_state_dict(state[key])
            print(f"Loaded {key}")
    print(f"Previous epoch: {state['epoch']}")
    return state["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the tensors of a checkpoint or state dict that fit `model` in name and size."""
    state = load_checkpoint(weight_path)
    state = _without_module(state.get("state_dict", state))
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        warnings.warn(
            f"nothing loaded from {weight_path}: no tensor fits by name and size", stacklevel=2
        )
        return
    model.load_state_dict({**own, **fitting})
    print(f"Successfully loaded pretrained weights from {weight_path}")
    discarded = [name for name in state if name not in fitting]
    if discarded:
        print(f"Left out for their name or size: {discarded}")


def _without_module(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("module."): value for name, value in state_dict.items()}
