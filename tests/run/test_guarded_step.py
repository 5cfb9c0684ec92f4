"""A step that is not finite leaves nothing behind: here with nothing but PyTorch."""

import copy
import math

import pytest
import torch

from varprompt.errors import VarPromptError
from varprompt.run.guard import GuardedStep, StepRecord

OFF = torch.amp.GradScaler("cpu", enabled=False)


def made(tmp_path, optimizer=torch.optim.Adam, scaler=OFF, clip_norm=0.0, max_bad_steps=0):
    torch.manual_seed(0)
    learner = torch.nn.Linear(3, 2)
    saved, notes = [], []

    def save(record, scale):
        saved.append((record.number, scale, copy.deepcopy(learner.state_dict())))
        return tmp_path / f"bundle-{record.number}"

    step = GuardedStep(
        optimizer(learner.parameters(), lr=0.1), scaler, learner,
        clip_norm=clip_norm, max_bad_steps=max_bad_steps, save=save, note=notes.append,
    )  # fmt: skip
    step.saved, step.notes = saved, notes
    return step


def record(number):
    batch = {"impath": [f"{i}.png" for i in range(11)]}
    return StepRecord(number // 4, number % 4, 4, 2, batch, torch.zeros(1))


def loss_of(step, factor=1.0):
    return factor * step.learner(torch.arange(6.0).view(2, 3)).square().sum()


def values(step):
    return copy.deepcopy([*step.learner.parameters()])


def test_steps_are_the_optimizers(tmp_path):
    step, plain = made(tmp_path), made(tmp_path)
    for number in range(3):
        step(loss_of(step), record(number))
        plain.optimizer.zero_grad()
        loss_of(plain).backward()
        plain.optimizer.step()
    assert all(map(torch.equal, values(step), values(plain)))
    assert step.bad_steps == 0 and not step.saved


def test_a_bad_step_says_all_and_ends_the_run(tmp_path):
    step = made(tmp_path)
    step(loss_of(step), record(0))
    before = values(step)
    with pytest.raises(VarPromptError) as caught:
        step(loss_of(step, math.nan), record(6))
    text = str(caught.value)
    for part in (
        "loss nan and norm of the gradient nan at epoch [2/2] batch [3/4], step 6",
        "largest parameter: ", "0.png, 1.png", "7.png and 3 more", "bundle-6",
        "TRAIN.MAX_BAD_STEPS N (now 0)",
    ):  # fmt: skip
        assert part in text
    assert all(map(torch.equal, values(step), before))


@pytest.mark.parametrize("max_unread", [0, 3])
def test_what_is_saved_is_from_before_the_step(tmp_path, max_unread):
    """Whenever the host looks."""
    step = made(tmp_path, max_bad_steps=2)
    step.max_unread = max_unread
    step(loss_of(step), record(0))
    before = copy.deepcopy(step.learner.state_dict())
    step(loss_of(step, math.inf), record(1))
    step(loss_of(step), record(2))
    after = values(step)
    assert step.n_unread == min(3, max_unread)
    step.check()
    assert (step.bad_steps, step.n_unread) == (1, 0) and len(step.notes) == 1
    ((number, scale, learned),) = step.saved
    assert (number, scale) == (1, 1.0)
    assert all(torch.equal(learned[name], before[name]) for name in before)
    assert all(map(torch.equal, values(step), after))


def test_gradient_is_clipped(tmp_path):
    step = made(tmp_path, torch.optim.SGD, clip_norm=0.01)
    before = values(step)
    step(loss_of(step), record(0))
    moved = torch.cat([(a - b).flatten() for a, b in zip(values(step), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_an_overflow_of_the_scaler_is_no_bad_step(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)
    step = made(tmp_path, torch.optim.SGD, scaler)
    before = values(step)
    step(loss_of(step), record(0))
    assert step.bad_steps == 0 and scaler.get_scale() == 2.0**126
    assert all(map(torch.equal, values(step), before))
