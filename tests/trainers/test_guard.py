"""A step that is not finite leaves nothing behind, and a step waits for nobody."""

import copy
import math
import re

import pytest
import torch
from helpers import build, command
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeCopyMode,
    FakeTensorMode,
)

from trainers.base import PromptTrainer
from varprompt.common import files
from varprompt.run.guard import GuardedStep

OPTIMIZERS = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")
TRAINERS = ("VPT", "VPT_CoCoOp", "CoOp", "CoCoOp")
N_BATCHES = 3  # of an epoch here


def trained(folder, pictures, poisoned=(), max_unread=0, **options):
    """A run of 3 epochs in which the images of the steps `poisoned` are no numbers."""
    options = {"TRAIN__MAX_BAD_STEPS": len(poisoned), "DATALOADER__NUM_WORKERS": 0} | options
    trainer = build(command(pictures, folder, **options))
    trainer.take_step.max_unread = max_unread
    original = trainer.forward_backward

    def forward_backward(batch):
        if trainer.epoch * N_BATCHES + trainer.batch_idx in poisoned:
            batch["img"][1, 0, 0, 0] = math.nan
        return original(batch)

    trainer.forward_backward = forward_backward
    trainer.train()
    assert (trainer.num_batches, trainer.bad_steps) == (N_BATCHES, len(poisoned))
    return trainer


def values(trainer):
    """Parameters, buffers and optimizer, copied."""
    learner = trainer.model.prompt_learner.state_dict()
    return copy.deepcopy({"learner": learner, "optimizer": trainer.optim.state_dict()})


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return one == other


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_of_a_bad_step_remains(optimizer, first, pictures, tmp_path):
    """The next one is what it would have been without: for every optimizer of Dassl."""
    options = {"OPTIM__NAME": optimizer, "OPTIM__LR": 0.01, "TRAIN__MAX_BAD_STEPS": 2}
    trainers = [build(command(pictures, tmp_path / n, **options)) for n in ("with", "without")]
    if type(trainers[0].optim).__module__.startswith("dassl."):
        pytest.skip("the real Dassl's own RAdam counts its steps on the host, left out or not")
    trainers[1].model.prompt_learner.load_state_dict(trainers[0].model.prompt_learner.state_dict())
    for trainer in trainers:
        trainer.num_batches, trainer.epoch = N_BATCHES, 0
        batches = list(trainer.train_loader_x)
        if not first:
            one_step(trainer, batches[0])
        if trainer is trainers[0]:
            for _ in range(2):
                one_step(trainer, batches[1] | {"img": batches[1]["img"] * math.nan})
        start = values(trainer)
        one_step(trainer, batches[2])
        assert not equal(values(trainer), start)
    assert trainers[0].bad_steps == 2
    assert equal(*map(values, trainers))


def one_step(trainer, batch):
    trainer.noise.manual_seed(0)
    trainer.forward_backward(batch)


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp"])
def test_a_late_look_changes_nothing(trainer, pictures, tmp_path, capsys):
    """On a GPU the host hears of a bad step when it prints: same steps, messages and bundles."""
    outcomes = []
    for max_unread in (0, 16):
        folder = tmp_path / str(max_unread)
        run = trained(
            folder, pictures, (1, 6), max_unread, trainer=trainer, TRAIN__PRINT_FREQ=3,
            TRAIN__MAX_BAD_STEPS=3,
        )  # fmt: skip
        said = re.findall(r"Step left out.*\n.*\n.*", capsys.readouterr().out)
        assert len(said) == 2 and "batch [2/3], step 1" in said[0]
        bundles = [files.read(folder / f"bad-step-{n}.pth.tar") for n in (1, 6)]
        assert all(b.pop("img").isnan().any() and b.pop("config") for b in bundles)
        outcomes.append({"said": said, "end": values(run)} | dict(enumerate(bundles)))
    assert equal(*outcomes)


def test_the_bundle_has_the_factor_of_its_step(pictures, tmp_path):
    """Not the one that the scaler has when the host looks."""
    trainer = build(command(pictures, tmp_path, TRAIN__MAX_BAD_STEPS=1))
    trainer.take_step.max_unread = 16
    trainer.take_step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    trainer.num_batches, trainer.epoch = N_BATCHES, 0
    batch = next(iter(trainer.train_loader_x))
    for trainer.batch_idx, spoilt in enumerate((1, math.nan, 1, 1)):
        one_step(trainer, batch | {"img": batch["img"] * spoilt})
    assert trainer.take_step.scaler.get_scale() == 32  # 8, 16, and 8, 16 after the bad one
    trainer.take_step.check()
    assert files.read(tmp_path / "bad-step-1.pth.tar")["scaler"]["scale"] == 16


def test_a_saved_state_holds_no_unseen_bad_step(pictures, tmp_path, monkeypatch):
    """The host looks before it saves."""
    seen, original = [], PromptTrainer.save_resume_state

    def save_resume_state(self, epoch, batch):
        seen.append((self.take_step.n_unread, self.bad_steps))
        original(self, epoch, batch)

    monkeypatch.setattr(PromptTrainer, "save_resume_state", save_resume_state)
    trained(tmp_path, pictures, (4,), 16, TRAIN__PRINT_FREQ=3, TRAIN__CHECKPOINT_STEPS=2)
    assert (0, 1) in seen and {unread for unread, _ in seen} == {0}


def faked(trainer):
    """Replace every tensor of a trainer by one without values: to ask for one fails."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        trainer.model = copy.deepcopy(trainer.model)
    trainer.towers = trainer.model.towers
    learner = trainer.model.prompt_learner
    trainer.optim = type(trainer.optim)(learner.parameters(), **trainer.optim.defaults)
    trainer.take_step = GuardedStep(
        trainer.optim, trainer.take_step.scaler, learner,
        clip_norm=0.0, max_bad_steps=0, save=trainer.save_bad_step, note=trainer.note,
    )  # fmt: skip
    trainer.take_step.max_unread = N_BATCHES
    return mode


@pytest.mark.parametrize("name", TRAINERS)
def test_a_step_waits_for_nobody(name, pictures, tmp_path):
    """No number is read from the device: several steps run on tensors that have no values."""
    trainer = build(command(pictures, tmp_path, trainer=name))
    trainer.num_batches, trainer.epoch = N_BATCHES, 0
    batches = list(trainer.train_loader_x)
    with faked(trainer) as mode:
        for batch in batches:
            scalars = trainer.forward_backward(
                batch | {k: mode.from_tensor(batch[k]) for k in ("img", "label")}
            )
        assert all(scalar.shape == () for scalar in scalars.values())
        with pytest.raises(DataDependentOutputException):
            trainer.take_step.check()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and -m cuda")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "amp", "bf16"])
def test_a_step_waits_for_nobody_on_cuda(precision, optimizer, pictures, tmp_path):
    """Neither here nor in torch; the first step may: it sets up what the others use."""
    options = {"OPTIM__NAME": optimizer, "TRAINER__VPT__PREC": precision}
    trainer = build(command(pictures, tmp_path, **options))
    trainer.num_batches, trainer.epoch = N_BATCHES, 0
    for index, batch in enumerate(trainer.train_loader_x):
        try:
            torch.cuda.set_sync_debug_mode("error" if index else "default")
            trainer.forward_backward(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    trainer.take_step.check()
    assert trainer.bad_steps == 0
