"""What training changes: put together for a state, checked and put back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import brief
from .guard import count_steps_on

# keys of the state of an unfinished run; what later versions have added is looked for with get
STATE_KEYS = (
    "state_dict", "epoch", "batch", "optimizer", "scheduler", "scaler", "noise", "seed",
    "bad_steps", "best_result", "val_result", "trainer", "weights_sha256", "classnames", "config",
)  # fmt: skip
_SIZES_OF_NOISE = (5056, 16)  # of a generator's state on a CPU and on a GPU
# options of an optimizer's group that another device, epoch or version of torch sets otherwise
_FREE_OPTIONS = {"params", "lr", "initial_lr", "capturable", "foreach", "fused"}


@dataclass(frozen=True)
class TrainingParts:
    """The objects that a step or an epoch changes."""

    learner: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    noise: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """Their values, by the names that Dassl uses."""
        return {
            "state_dict": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "noise": self.noise.get_state(),
        }

    def problems(self, state: Mapping[str, Any], n_epochs: int, n_batches: int) -> list[str]:
        """Why a state cannot be one of a run of `n_epochs` with `n_batches` each; [] if it can."""
        found = list(_wrong_numbers(state, n_epochs, n_batches))
        found += _wrong_optimizer(state["optimizer"], self.optimizer)
        found += _wrong_schedule(state["scheduler"], self.scheduler, state["epoch"])
        scale = state["scaler"].get("scale", 1.0) if isinstance(state["scaler"], dict) else None
        if not (_is_rate(scale) and scale):
            found.append(f"the factor of its scaler is {brief(scale)}")
        noise = state["noise"]
        if not (isinstance(noise, Tensor) and noise.dtype == torch.uint8 and noise.dim() == 1):
            found.append(f"its noise is {brief(noise)}, not the state of a generator")
        return found

    def load(self, state: Mapping[str, Any], new_seed: int, note: Callable[[str], None]) -> None:
        """Put back all but the learner's values, which `varprompt.learner_state` checks.

        Args:
            state: without `problems`.
            new_seed: of the noise, where the state is of another kind of device.
            note: takes a line for the log.
        """
        count_steps_on(self.noise.device, state["optimizer"]["param_groups"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"]:  # else of a run on a CPU, which needs none
            self.scaler.load_state_dict(state["scaler"])
        size = len(state["noise"])
        if size == len(self.noise.get_state()) or size not in _SIZES_OF_NOISE:
            self.noise.set_state(state["noise"])
        else:
            note("The state is of another kind of device: the noise is drawn anew")
            self.noise.manual_seed(new_seed)


def _wrong_numbers(state: Mapping[str, Any], n_epochs: int, n_batches: int) -> Iterator[str]:
    limits = {
        "epoch": (0, n_epochs, f"of a run of {n_epochs} epochs (OPTIM.MAX_EPOCH)"),
        "batch": (0, n_batches - 1, f"of epochs of {n_batches} batches"),
        "seed": (0, 2**32 - 1, "of a generator"),
        "bad_steps": (0, math.inf, "of a run"),
    }
    for name, (least, most, what) in limits.items():
        value = state[name]
        if type(value) is not int or not least <= value <= most:
            yield f"its {name} is {brief(value)}, which cannot be one {what}"
    if not _is_number(state["best_result"]) or math.isnan(state["best_result"]):
        yield f"its best_result is {brief(state['best_result'])}, not a number"


def _wrong_optimizer(state: Any, optimizer: Optimizer) -> Iterator[str]:
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        yield "its optimizer is none"
        return
    ours = optimizer.state_dict()["param_groups"]
    groups = state["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(ours):
        yield f"its optimizer has other groups of parameters than {len(ours)}"
        return
    for theirs, own in zip(groups, ours, strict=True):
        yield from _wrong_group(theirs, own)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = state["state"]
    if not isinstance(kept, dict) or not set(kept) <= set(range(len(parameters))):
        yield "its optimizer has values for other parameters"
        return
    for number, values in kept.items():
        yield from _wrong_values(values, tuple(parameters[number].shape))


def _wrong_group(theirs: Any, own: dict[str, Any]) -> Iterator[str]:
    if not isinstance(theirs, dict):
        yield f"its optimizer has a group {brief(theirs)}"
        return
    for key in own.keys() & theirs.keys() - _FREE_OPTIONS:
        if theirs[key] != own[key]:
            yield f"its optimizer's {key} is {brief(theirs[key])} instead of {own[key]}"
    if theirs.get("params") != own["params"]:
        yield "its optimizer is of other parameters"
    for key in ("lr", "initial_lr"):
        if key in own and not _is_rate(theirs.get(key)):
            yield f"its optimizer's {key} is {brief(theirs.get(key))}"
    for key in ("capturable", "foreach", "fused"):
        if type(theirs.get(key)) not in (bool, type(None)):
            yield f"its optimizer's {key} is {brief(theirs[key])}"


def _wrong_values(values: Any, shape: tuple[int, ...]) -> Iterator[str]:
    """What an optimizer keeps of one parameter is of its shape, or a single number."""
    if not isinstance(values, dict):
        yield f"its optimizer keeps {brief(values)} of a parameter"
        return
    for name, value in values.items():
        if name == "step":
            if not (_is_number(value) or isinstance(value, Tensor) and value.dim() == 0):
                yield f"its optimizer has counted {brief(value)} steps"
            continue
        if value is None and name == "momentum_buffer":  # of SGD without momentum
            continue
        if not isinstance(value, Tensor):
            yield f"its {name} is {brief(value)}"
        elif tuple(value.shape) != shape:
            yield f"its {name} has the shape {tuple(value.shape)} where {shape} is needed"
        elif value.is_meta or not value.isfinite().all():
            yield f"its {name} has no finite numbers"


def _wrong_schedule(state: Any, scheduler: LRScheduler, epoch: Any) -> Iterator[str]:
    ours = scheduler.state_dict()
    if not isinstance(state, dict) or not ours.keys() <= state.keys():
        yield f"its schedule is {brief(state)}"
        return
    if state["last_epoch"] != epoch:
        yield f"its schedule is in epoch {brief(state['last_epoch'])}, not {brief(epoch)}"
    if state["base_lrs"] != ours["base_lrs"]:
        yield f"its schedule is of the rates {brief(state['base_lrs'])}, not {ours['base_lrs']}"
    if type(state["_step_count"]) is not int:
        yield f"its schedule has counted {brief(state['_step_count'])} steps"
    rates = state["_last_lr"]
    if not isinstance(rates, list) or len(rates) != len(ours["_last_lr"]):
        yield f"its schedule has the rates {brief(rates)}"
    elif not all(map(_is_rate, rates)):
        yield f"its schedule has the rates {brief(rates)}"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf
