"""Learning rates: Dassl's sequences to 1e-12, and continuation after a resume."""

import importlib
import io
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from varprompt.errors import ConfigError
from varprompt.run.schedule import build_lr_scheduler

# Measured with Dassl 0.6.3 and a shim for torch 2.11; LR 0.002, 10 epochs, cosine.
MEASURED = {
    "constant 1": "1e-5 2e-3 1.9510565163e-3 1.8090169944e-3 1.5877852523e-3 1.3090169944e-3 "
    "1e-3 6.9098300563e-4 4.1221474771e-4 1.9098300563e-4",
    "none": "2e-3 1.9511e-3 1.8090e-3 1.5878e-3 1.3090e-3 1e-3 6.9098e-4 4.1221e-4 1.9098e-4 "
    "4.8943e-5",
    "constant 2": "1e-5 1e-5 2e-3 1.9511e-3 1.8090e-3 1.5878e-3 1.3090e-3 1e-3 6.9098e-4 4.1221e-4",
    "linear 3": "1e-5 6.6667e-4 1.3333e-3 2e-3 1.9511e-3 1.8090e-3 1.5878e-3 1.3090e-3 1e-3 "
    "6.9098e-4",
    "constant 1, no recount": "1e-5 2e-3 1.8544e-3 1.6276e-3 1.3419e-3 1.0251e-3 7.0832e-4 "
    "4.2256e-4 1.9577e-4 5.0171e-5",
}
CASES = {
    "constant 1": {"WARMUP_EPOCH": 1},
    "none": {"WARMUP_EPOCH": -1},
    "constant 2": {"WARMUP_EPOCH": 2},
    "linear 3": {"WARMUP_EPOCH": 3, "WARMUP_TYPE": "linear"},
    "constant 1, no recount": {"WARMUP_EPOCH": 1, "WARMUP_RECOUNT": False},
}


def optim_cfg(**changes):
    defaults = {
        "LR_SCHEDULER": "cosine",
        "STEPSIZE": (-1,),
        "GAMMA": 0.1,
        "MAX_EPOCH": 10,
        "WARMUP_EPOCH": 1,
        "WARMUP_TYPE": "constant",
        "WARMUP_CONS_LR": 1e-5,
        "WARMUP_MIN_LR": 1e-5,
        "WARMUP_RECOUNT": True,
    }
    return SimpleNamespace(**{**defaults, **changes})


def make_optimizer(lr=0.002):
    return SGD([torch.nn.Parameter(torch.zeros(3))], lr=lr)


def rates(build, cfg, epochs=None):
    optimizer = make_optimizer()
    schedule = build(optimizer, cfg)
    sequence = []
    for _ in range(epochs or cfg.MAX_EPOCH):
        sequence.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return sequence


def recursive(cfg):
    """Dassl's definition: torch's own schedule, stepped behind a warm-up."""
    optimizer = make_optimizer()
    inner = {
        "single_step": lambda: StepLR(
            optimizer, cfg.STEPSIZE[-1] if cfg.STEPSIZE[-1] > 0 else cfg.MAX_EPOCH, cfg.GAMMA
        ),
        "multi_step": lambda: MultiStepLR(optimizer, cfg.STEPSIZE, cfg.GAMMA),
        "cosine": lambda: CosineAnnealingLR(optimizer, float(cfg.MAX_EPOCH)),
    }[cfg.LR_SCHEDULER]()
    base, warmup = optimizer.param_groups[0]["lr"], max(cfg.WARMUP_EPOCH, 0)
    if warmup and not cfg.WARMUP_RECOUNT:
        inner.last_epoch = warmup
    sequence = []
    for epoch in range(cfg.MAX_EPOCH):
        if epoch >= warmup:
            sequence.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            inner.step()
        elif cfg.WARMUP_TYPE == "constant":
            sequence.append(cfg.WARMUP_CONS_LR)
        else:
            sequence.append(base * epoch / warmup if epoch else cfg.WARMUP_MIN_LR)
    return sequence


@pytest.mark.parametrize("case", MEASURED)
def test_measured_sequences(case):
    sequence = rates(build_lr_scheduler, optim_cfg(**CASES[case]))
    measured = [float(text) for text in MEASURED[case].split()]
    digits = 1e-10 if case == "constant 1" else 5e-5
    assert sequence == pytest.approx(measured, rel=digits, abs=0)


schedules = st.fixed_dictionaries(
    {
        "LR_SCHEDULER": st.sampled_from(["single_step", "multi_step", "cosine"]),
        "STEPSIZE": st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
        "GAMMA": st.sampled_from([0.1, 0.5]),
        "MAX_EPOCH": st.integers(1, 11),
        "WARMUP_EPOCH": st.integers(-1, 12),
        "WARMUP_TYPE": st.sampled_from(["constant", "linear"]),
        "WARMUP_RECOUNT": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(schedules)
def test_closed_form_equals_the_recursion(changes):
    cfg = optim_cfg(**changes)
    assert rates(build_lr_scheduler, cfg) == pytest.approx(recursive(cfg), rel=0, abs=1e-12)


@pytest.mark.parametrize("steps", [(-1,), (3,)], ids=["at the end only", "every 3"])
def test_single_step(steps):
    cfg = optim_cfg(LR_SCHEDULER="single_step", STEPSIZE=steps, WARMUP_EPOCH=-1, MAX_EPOCH=5)
    late = 0.002 if steps == (-1,) else 0.0002
    assert rates(build_lr_scheduler, cfg) == pytest.approx([0.002] * 3 + [late] * 2, abs=1e-12)


def test_equals_real_dassl(stand_in, monkeypatch):
    if stand_in:
        pytest.skip("the real Dassl is not active: set DASSL_ROOT")
    real = importlib.import_module("dassl.optim.lr_scheduler")

    def without_verbose(self, optimizer, last_epoch=-1, verbose=False):
        LRScheduler.__init__(self, optimizer, last_epoch)

    monkeypatch.setattr(real._LRScheduler, "__init__", without_verbose)
    for kind in ("cosine", "multi_step", "single_step"):
        for case, changes in CASES.items():
            cfg = optim_cfg(**changes, LR_SCHEDULER=kind, STEPSIZE=(2, 5))
            theirs = pytest.approx(rates(real.build_lr_scheduler, cfg), rel=0, abs=1e-12)
            assert rates(build_lr_scheduler, cfg) == theirs, (kind, case)


@pytest.mark.parametrize("done", [0, 1, 4])
def test_resume_continues_exactly(done):
    cfg = optim_cfg()
    whole = rates(build_lr_scheduler, cfg)
    first = make_optimizer()
    schedule = build_lr_scheduler(first, cfg)
    for _ in range(done):
        first.step()
        schedule.step()
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "scheduler": schedule.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    second = make_optimizer()
    resumed = build_lr_scheduler(second, cfg)
    second.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["scheduler"])
    rest = []
    for _ in range(done, cfg.MAX_EPOCH):
        rest.append(second.param_groups[0]["lr"])
        second.step()
        resumed.step()
    assert rest == whole[done:]
    assert resumed.get_last_lr() == [second.param_groups[0]["lr"]]


def test_loaded_state_sets_the_rate_by_itself():
    schedule = build_lr_scheduler(make_optimizer(), optim_cfg(WARMUP_EPOCH=-1))
    schedule.optimizer.step()
    schedule.step()
    fresh = make_optimizer()
    build_lr_scheduler(fresh, optim_cfg(WARMUP_EPOCH=-1)).load_state_dict(schedule.state_dict())
    assert fresh.param_groups[0]["lr"] == schedule.get_last_lr()[0] != 0.002


def test_state_is_numbers():
    state = build_lr_scheduler(make_optimizer(), optim_cfg()).state_dict()
    for value in state.values():
        assert all(type(v) in (int, float) for v in (value if isinstance(value, list) else [value]))


def test_every_group_keeps_its_ratio():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = SGD([{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:]}], lr=1.0)
    schedule = build_lr_scheduler(optimizer, optim_cfg(WARMUP_EPOCH=-1, MAX_EPOCH=4))
    optimizer.step()
    schedule.step()
    low, high = (group["lr"] for group in optimizer.param_groups)
    assert low == pytest.approx(0.1 * high) and high < 1.0


def test_no_warnings_and_no_verbose():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = build_lr_scheduler(make_optimizer(), optim_cfg())
    assert not getattr(built, "verbose", False)  # old versions of torch have it, switched off


def test_unknown_names_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        build_lr_scheduler(make_optimizer(), optim_cfg(LR_SCHEDULER="cos", WARMUP_TYPE="fast"))
    assert len(caught.value.problems) == 2
    assert "'cos'" in str(caught.value) and "OPTIM.WARMUP_TYPE" in str(caught.value)


def test_warmup_type_matters_only_with_warmup():
    cfg = optim_cfg(WARMUP_TYPE="fast", WARMUP_EPOCH=0)
    assert rates(build_lr_scheduler, cfg)[0] == 0.002
