"""States that somebody has made are refused by name."""

import copy
import math
import re

import pytest
import torch
from yacs.config import CfgNode

from varprompt.run.schedule import build_lr_scheduler
from varprompt.run.state import TrainingParts

EPOCHS, BATCHES = 3, 5


def parts(optimizer="SGD"):
    torch.manual_seed(0)
    learner = torch.nn.Linear(3, 2)
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    optim = getattr(torch.optim, optimizer)(learner.parameters(), lr=0.1, **options)
    node = CfgNode(
        {"LR_SCHEDULER": "cosine", "MAX_EPOCH": EPOCHS, "STEPSIZE": (-1,), "GAMMA": 0.1,
         "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5,
         "WARMUP_MIN_LR": 1e-5, "WARMUP_RECOUNT": True}
    )  # fmt: skip
    return TrainingParts(
        learner, optim, build_lr_scheduler(optim, node),
        torch.amp.GradScaler("cpu", enabled=False), torch.Generator(),
    )  # fmt: skip


def trained(optimizer="SGD"):
    """Parts after an epoch, and their state."""
    made = parts(optimizer)
    made.learner(torch.ones(1, 3)).sum().backward()
    made.optimizer.step()
    made.scheduler.step()
    numbers = {"epoch": 1, "batch": 2, "seed": 1, "bad_steps": 0, "best_result": -math.inf}
    return made, copy.deepcopy(made.state_dict()) | numbers


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "RAdam"])
def test_a_state_is_put_back(optimizer):
    made, state = trained(optimizer)
    fresh = parts(optimizer)
    assert fresh.problems(state, EPOCHS, BATCHES) == []
    fresh.load(state, 0, pytest.fail)
    got, want = fresh.state_dict(), made.state_dict()
    assert got["scheduler"] == want["scheduler"]
    assert got["optimizer"]["param_groups"] == want["optimizer"]["param_groups"]
    assert str(got["optimizer"]["state"]) == str(want["optimizer"]["state"])


def put(*path):
    """A change of a state: the value at a path."""
    *path, value = path

    def change(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


MADE = {
    "momentum of another shape": (
        put("optimizer", "state", 0, "momentum_buffer", torch.ones(7)), r"momentum_buffer .*\(7,\)",
    ),
    "momentum that is NaN": (
        put("optimizer", "state", 0, "momentum_buffer", torch.full((2, 3), math.nan)),
        "momentum_buffer has no finite numbers",
    ),
    "momentum without values": (
        put("optimizer", "state", 0, "momentum_buffer", torch.ones(2, 3, device="meta")),
        "momentum_buffer has no finite numbers",
    ),
    "momentum of nobody": (put("optimizer", "state", 9, {}), "values for other parameters"),
    "batch before the first": (put("batch", -2), "its batch is -2"),
    "batch behind the last": (put("batch", BATCHES), "its batch is 5"),
    "epoch behind the last": (put("epoch", 10**6), r"its epoch is 1000000, .*of 3 epochs"),
    "epoch before the first": (put("epoch", -1), "its epoch is -1"),
    "epoch in words": (put("epoch", "two"), "its epoch is 'two'"),
    "epoch in halves": (put("epoch", 1.5), "its epoch is 1.5"),
    "epoch that is true": (put("epoch", True), "its epoch is True"),
    "seed below zero": (put("seed", -1), "its seed is -1"),
    "bad steps below zero": (put("bad_steps", -1), "its bad_steps is -1"),
    "best result that is NaN": (put("best_result", math.nan), "its best_result is nan"),
    "best result in words": (put("best_result", "good"), "its best_result is 'good'"),
    "another rate": (put("optimizer", "param_groups", 0, "lr", "fast"), "lr is 'fast'"),
    "another momentum": (put("optimizer", "param_groups", 0, "momentum", 99), "momentum is 99"),
    "no groups": (put("optimizer", "param_groups", []), "other groups of parameters"),
    "no optimizer": (put("optimizer", {}), "its optimizer is none"),
    "schedule of another epoch": (put("scheduler", "last_epoch", 7), "schedule is in epoch 7"),
    "schedule of other rates": (put("scheduler", "base_lrs", [5.0]), "of the rates .5.0."),
    "schedule in words": (put("scheduler", "cosine"), "its schedule is 'cosine'"),
    "infinite rate": (put("scheduler", "_last_lr", [math.inf]), "has the rates .inf."),
    "scaler at zero": (put("scaler", {"scale": 0.0}), "factor of its scaler is 0.0"),
    "noise in words": (put("noise", "loud"), "its noise is 'loud'"),
}  # fmt: skip


GROUP = ("optimizer", "param_groups", 0)
MOMENTUM = ("optimizer", "state", 0, "momentum_buffer")
MADE |= {
    "momentum that is no tensor": (put(*MOMENTUM, -1), "momentum_buffer is -1"),
    "momentum of one number": (put(*MOMENTUM, torch.tensor(1.0)), r"shape \(\)"),
    "a switch that is a list": (put(*GROUP, "foreach", [1]), "foreach is \\[1\\]"),
    "a first rate that is none": (put(*GROUP, "initial_lr", []), "initial_lr is"),
    "a group that is none": (put("optimizer", "param_groups", [3]), "a group 3"),
}


@pytest.mark.parametrize("name", MADE)
def test_made_states_are_refused_by_name(name):
    change, message = MADE[name]
    made, state = trained()
    change(state)
    problems = made.problems(state, EPOCHS, BATCHES)
    assert problems
    assert any(re.search(message, problem) for problem in problems), problems
