"""What whole runs print and leave behind, seen from outside only."""

# ruff: noqa: F811 - imported fixtures

import itertools
import json
import re
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import reference
import torch
from dassl.engine import TRAINER_REGISTRY
from helpers import CLASSES, N_IMAGES, build, command, images, own_cache, pictures, prompted  # noqa: F401
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
import trainers.baselines  # noqa: F401 - registers the trainers
from varprompt.common import files
from varprompt.config import PromptConfig
from varprompt.ops import SAMPLERS
from varprompt.run.interrupt import EXIT_RESUMABLE
from varprompt.towers.load import load_clip

EPOCHS, BATCHES = 3, 3  # fifteen training images in batches of four, the last one dropped


def run(root, output, *flags, **options):
    """Train and test in this process; the results, or None if the run was interrupted."""
    try:
        assert train.main(command(root, output, *flags, **options)) == 0
    except SystemExit as left:
        assert left.code == EXIT_RESUMABLE
        return None
    return json.loads((Path(output) / "results.json").read_text())


def without_identity(results):
    return {k: results[k] for k in ("accuracy", "nll", "ece")}


def test_the_seed_of_the_command_line_is_used(pictures, tmp_path):
    """The first context is drawn from it; without training nothing else depends on a seed."""
    options = {"OPTIM__MAX_EPOCH": 0, "TRAINER__COOP__CTX_INIT": "", "trainer": "CoOp"}
    figures = [
        without_identity(run(pictures, tmp_path / name, seed=seed, **options))
        for name, seed in (("a", 1), ("b", 2), ("c", 2))
    ]
    assert figures[0] != figures[1] == figures[2]


def test_the_best_model_outlives_an_interruption(pictures, tmp_path, monkeypatch):
    """It was the first epoch's; a worse one after resuming does not take its place."""
    trainer = TRAINER_REGISTRY.get("VPT")
    test, scores = trainer.test, iter([60.0, 40.0, 50.0])
    step = trainer.forward_backward
    monkeypatch.setattr(
        trainer, "test", lambda self, split=None: next(scores) if split == "val" else test(self)
    )

    def interrupted(self, batch):
        if self.epoch == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    options = {"TEST__FINAL_MODEL": "best_val", "OPTIM__MAX_EPOCH": EPOCHS}
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "forward_backward", interrupted)
        assert run(pictures, tmp_path, **options) is None
    assert run(pictures, tmp_path, **options)["checkpoint_epoch"] == 1
    best = files.read(tmp_path / "prompt_learner/model-best.pth.tar")
    assert (best["epoch"], best["val_result"]) == (1, 60.0)


@pytest.fixture
def other_weights(tmp_path):
    """A file: the embedded CLIP with the output of its image tower in another order."""
    clip = load_clip("embedded")
    state = {k: v.clone() for k, v in getattr(clip, "clip", clip).state_dict().items()}
    state["visual.attnpool.c_proj.weight"] = state["visual.attnpool.c_proj.weight"].flip(0)
    torch.save(state, tmp_path / "other.pt")
    return tmp_path / "other.pt"


def test_features_of_another_clip_are_not_taken(pictures, tmp_path, other_weights):
    """Two CLIPs share a cache: each gets what it gets without one."""
    options = {"trainer": "ZeroshotCLIP"}
    other = options | {
        "MODEL__BACKBONE__PATH": other_weights, "MODEL__BACKBONE__ACTIVATION": "quick_gelu",
    }  # fmt: skip
    first = without_identity(run(pictures, tmp_path / "first", **options))
    second = without_identity(run(pictures, tmp_path / "second", **other))
    alone = without_identity(run(pictures, tmp_path / "alone", "--no-cache", **other))
    assert first != second == alone


def progress(text):
    """(epoch, batch, eta in seconds, last accuracy) of each line of progress."""
    pattern = r"^epoch \[(\d+)/.*? batch \[(\d+)/.* acc (\S+) .* eta (\d+):(\d\d):(\d\d)$"
    for e, b, acc, *eta in re.findall(pattern, text, re.MULTILINE):
        hours, minutes, seconds = map(int, eta)
        left = timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        yield int(e), int(b), left, float(acc)


def test_time_left_and_tensorboard(pictures, tmp_path, monkeypatch, capsys):
    """The estimate covers the epochs to come; every epoch has its own place on the axis."""
    ticks = itertools.count(step=10)  # seconds between two looks at any clock
    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: float(next(ticks)))
    options = {"OPTIM__MAX_EPOCH": EPOCHS, "TRAIN__PRINT_FREQ": 1, "TEST__FINAL_MODEL": "best_val"}
    run(pictures, tmp_path, **options)
    lines = list(progress(capsys.readouterr().out))
    assert [line[:2] for line in lines] == list(
        itertools.product(range(1, EPOCHS + 1), range(1, BATCHES + 1))
    )
    left = [eta for *_, eta, _ in lines]
    assert left[-1] == 0
    assert left[BATCHES - 1] >= 10 * (EPOCHS - 1) * BATCHES  # at the end of the first epoch

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert steps["val/accuracy"] == list(range(EPOCHS)) and steps["test/accuracy"] == [EPOCHS - 1]
    assert steps["train/loss"] == steps["train/lr"] == list(range(EPOCHS * BATCHES))


def test_training_accuracy(pictures, tmp_path):
    """In percent, of the average over the samples, which differ."""
    n_train = len(CLASSES) * N_IMAGES["train"]
    options = {"TRAINER__VPT__LOGVAR_INIT": 2.0, "TRAINER__VPT__L": 7}
    trainer = build(command(pictures, tmp_path, DATALOADER__TRAIN_X__BATCH_SIZE=n_train, **options))
    trainer.num_batches, trainer.epoch = 1, 0
    batch = next(iter(trainer.train_loader_x))
    state = trainer.noise.get_state()
    with torch.no_grad():
        logits, _ = trainer.model.logits(batch["img"], generator=trainer.noise)
    trainer.noise.set_state(state)
    right = [(p.argmax(-1) == batch["label"]).float().mean().item()
             for p in (logits.softmax(-1).mean(0), logits[0])]  # fmt: skip
    assert right[0] != right[1] and 0 < right[0] < 1
    scalars = trainer.forward_backward(batch)
    assert float(scalars["acc"]) == pytest.approx(100 * right[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_test_draws_with_the_sampler_of_the_configuration(sampler):
    n_samples, seed = 4, 3
    config = PromptConfig(posterior="gaussian", sampler=sampler, logvar_init=0.0)
    model, x = prompted(config), images(2)
    width = model.prompt_learner.ctx.shape[-1]
    eps = SAMPLERS[sampler](
        (n_samples, 1, 1, width), dtype=torch.float32, device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    logits, _ = model.logits(x, n_samples, eps=eps)
    got = model.predictor(n_samples, seed)(model.towers.encode_image(x))
    assert torch.allclose(got, reference.predictive(logits.double()).float(), atol=1e-5)


@pytest.mark.parametrize("precision, scaled", [("fp16", True), ("amp", True), ("fp32", False)])
def test_half_precision_on_a_gpu_scales_the_loss(
    pictures, tmp_path, monkeypatch, precision, scaled
):
    """Small gradients would be zero in half precision. Only the device's name is a GPU's here."""
    made, cpu = [], torch.Generator
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "Generator", lambda device=None: cpu("cpu"))
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled=True: made.append((device, enabled))
    )
    trainer = TRAINER_REGISTRY.get("VPT")
    monkeypatch.setattr(trainer, "load_clip", lambda self: load_clip("embedded"))
    build(command(pictures, tmp_path, TRAINER__VPT__PREC=precision))
    assert made == [("cuda", scaled)]


def test_collapse_is_said(pictures, tmp_path):
    """And nothing else is taken for it: in other tests every warning is an error."""
    trainer = build(command(pictures, tmp_path))
    model, text = trainer.model, trainer.model.towers.encode_text.forward

    def all_the_same(*args, **kwargs):
        features = text(*args, **kwargs)  # (S, C, E)
        return features[:, :1].expand_as(features)

    trainer.test(split="val")
    model.towers.encode_text.forward = all_the_same
    with pytest.warns(UserWarning, match="training has collapsed"):
        trainer.test(split="val")
