"""A step of each trainer is the textbook's, and options reach the model."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import reference
import torch
from helpers import CLASSES, N_IMAGES, ROOT, build, command, error, textbook_clip  # noqa: F401
from helpers import textbook as textbook_step
from safetensors.torch import save_file

from varprompt.embedded import tiny_clip_state_dict
from varprompt.errors import ConfigError
from varprompt.images.loaders import derive_seed
from varprompt.objective import kl_scale
from varprompt.ops import SAMPLERS
from varprompt.towers.load import load_clip

N_TRAIN = len(CLASSES) * N_IMAGES["train"]
LR, DECAY = 0.05, 5e-4
ONE_STEP = {
    "INPUT__TRANSFORMS": ["normalize"], "DATALOADER__TRAIN_X__BATCH_SIZE": N_TRAIN,
    "OPTIM__MAX_EPOCH": 1, "OPTIM__WARMUP_EPOCH": 0, "OPTIM__LR": LR,
}  # fmt: skip
SCALED = {
    "TRAINER__VPT__OBJECTIVE": "elbo", "TRAINER__VPT__KL_REDUCTION": "elbo",
    "TRAINER__VPT__KL_WEIGHT": 1.0, "TRAINER__VPT__PRIOR_STD": 0.2,
    "TRAINER__VPT__LOGVAR_INIT": -6.0, "TRAINER__VPT__RESIDUAL": "per_token",
    "TRAINER__VPT__LEARN_CONTEXT": False,
}  # fmt: skip
OFFICIAL = {"TRAINER__VPT__LOGVAR_INIT": -3.0}
STEPS = {
    "VPT": ("VPT", OFFICIAL),
    "VPT-scaled": ("VPT", SCALED),
    "VPT-delta": ("VPT", SCALED | {"TRAINER__VPT__POSTERIOR": "delta"}),
    "VPT-sobol": ("VPT", OFFICIAL | {"TRAINER__VPT__SAMPLER": "sobol"}),
    "VPT-compiled": ("VPT", OFFICIAL | {"TRAIN__COMPILE": True}),
    "VPT_CoCoOp": ("VPT_CoCoOp", OFFICIAL),
    "VPT_CoCoOp-scaled": (
        "VPT_CoCoOp", SCALED | {"TRAINER__VPT__KL_REDUCTION": "sum_per_image"},
    ),
    "CoOp": ("CoOp", {"TRAINER__COOP__N_CTX": 3}),
    "CoOp-middle-csc": (
        "CoOp", {"TRAINER__COOP__CLASS_TOKEN_POSITION": "middle", "TRAINER__COOP__CSC": True,
                 "TRAINER__COOP__N_CTX": 3},
    ),
    "CoCoOp": ("CoCoOp", {"TRAINER__COCOOP__CTX_INIT": "a photo of a"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def embedded():
    return reference.double(load_clip("embedded"))


def shallow(path):
    """Options for the embedded CLIP with one layer of text: compiling takes seconds a layer."""
    layer = re.compile(r"transformer\.resblocks\.[1-9]")
    kept = {k: v for k, v in tiny_clip_state_dict().items() if not layer.match(k)}
    save_file(kept, path)
    return {"MODEL__BACKBONE__PATH": path, "MODEL__BACKBONE__ACTIVATION": "quick_gelu"}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch.compile
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.filterwarnings("ignore:Skipping serialization")  # torch 2.6
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_textbooks(name, pictures, tmp_path, embedded, monkeypatch):
    if name == "VPT-compiled" and not shutil.which("g++"):
        pytest.skip("needs a C++ compiler: install g++")
    trainer_name, options = STEPS[name]
    if name == "VPT-compiled":
        path = str(tmp_path / "shallow.safetensors")
        options, embedded = (
            options | shallow(path),
            reference.double(load_clip("embedded", path, activation="quick_gelu")),
        )
    trainer = build(command(pictures, tmp_path, trainer=trainer_name, **ONE_STEP, **options))
    model, config = trainer.model, trainer.prompt_config
    trainer.num_batches, trainer.epoch = 1, 0
    batch = next(iter(trainer.train_loader_x))
    shape = model.prompt_learner.posterior.shape if config.posterior else (1, 1)
    noise = torch.Generator().manual_seed(derive_seed(1, 0, "noise"))
    n_rows = N_TRAIN if config.conditional else 1
    eps = SAMPLERS[config.sampler](
        (config.n_samples, n_rows, *shape), dtype=torch.float32, device="cpu", generator=noise
    )
    monkeypatch.setattr("helpers.N_TRAIN", N_TRAIN)
    before = {n: p.detach().double() for n, p in model.prompt_learner.named_parameters()}
    _, loss, gradients = textbook_step(
        model, config, batch["img"], batch["label"], eps, list(CLASSES_SORTED), embedded
    )
    trainer.before_epoch()
    scalars = trainer.forward_backward(batch)
    assert error(scalars["loss"], loss) < 1e-5
    for parameter, value in model.prompt_learner.named_parameters():
        want = before[parameter] - LR * (gradients[parameter] + DECAY * before[parameter])
        moved = (want - before[parameter]).abs().max()
        assert moved > 0
        assert (value.detach() - want).abs().max() < 1e-5 * moved + 1e-7 * want.abs().max(), (
            parameter
        )


CLASSES_SORTED = sorted(CLASSES)


def test_compiling_needs_a_compiler(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="TRAIN.COMPILE needs a C"):
        build(command(pictures, tmp_path, TRAIN__COMPILE=True))


def test_objective_of_the_configuration(pictures, tmp_path):
    trainer = build(command(pictures, tmp_path, **SCALED))
    n_dims = 4 * trainer.model.prompt_learner.ctx.shape[1]
    assert trainer.objective.objective == "elbo"
    assert trainer.objective.kl_scale == kl_scale(1.0, "elbo", n_dims, N_TRAIN) == 1 / N_TRAIN
    official = build(command(pictures, tmp_path))
    assert official.objective.kl_scale == 0.001 / (n_dims / 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "amp"])
@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp", "CoOp", "CoCoOp"])
def test_learned_values_and_their_optimizer_are_float32(trainer, precision, pictures, tmp_path):
    node = {"CoOp": "COOP", "CoCoOp": "COCOOP"}.get(trainer, "VPT")
    made = build(
        command(pictures, tmp_path, trainer=trainer, **{f"TRAINER__{node}__PREC": precision})
    )
    made.num_batches, made.epoch = 3, 0
    made.before_epoch()
    before = {n: p.detach().clone() for n, p in made.model.prompt_learner.named_parameters()}
    made.forward_backward(next(iter(made.train_loader_x)))
    for name, p in made.model.prompt_learner.named_parameters():
        assert p.dtype == torch.float32 and not torch.equal(p, before[name])
    kinds = {v.dtype for s in made.optim.state.values() for v in s.values() if torch.is_tensor(v)}
    assert kinds == {torch.float32}
    towers = {p.dtype for p in made.towers.parameters()}
    half = {"fp16": {torch.float16}, "bf16": {torch.bfloat16}}.get(precision, set())
    assert towers == {torch.float32} | half


def test_gradient_is_clipped(pictures, tmp_path):
    steps = []
    for limit in (0.0, 1e-3):
        trainer = build(command(pictures, tmp_path, TRAIN__CLIP_GRAD_NORM=limit, **ONE_STEP))
        trainer.num_batches, trainer.epoch = 1, 0
        trainer.before_epoch()
        trainer.forward_backward(next(iter(trainer.train_loader_x)))
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.prompt_learner.parameters()])
        steps.append(gradient.norm().item())
    assert steps[0] > 1e-2 and steps[1] == pytest.approx(1e-3, rel=1e-3)


def test_test_options_reach_the_predictor(pictures, tmp_path):
    options = {"TRAINER__VPT__L_TEST": 2, "TRAINER__VPT__TEST_SEED": 5}
    trainer = build(command(pictures, tmp_path, **options))
    features = trainer.encode_image(next(iter(trainer.test_loader))["img"])
    want = trainer.model.predictor(n_samples=2, seed=5)(features)
    assert torch.equal(trainer.predictor()(features), want)


CLASH = """
import varprompt.standin.which
varprompt.standin.which.ensure_dassl()
from dassl.engine import TRAINER_REGISTRY, TrainerX
@TRAINER_REGISTRY.register()
class VPT(TrainerX): ...
"""
EXPLAINED = """
try:
    {}
except Exception as error:
    print(type(error).__name__, error)
"""
THEIRS = """
from dassl.engine import TRAINER_REGISTRY, TrainerX
@TRAINER_REGISTRY.register()
class VPT(TrainerX): ...
"""


def test_name_taken_by_visual_prompt_tuning(tmp_path):
    """Whichever is imported first."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    for code, first, second in (
        (CLASH + EXPLAINED.format("import trainers"), "__main__", "trainers.vpt"),
        ("import trainers" + EXPLAINED.format("import theirs"), "trainers.vpt", "theirs"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert f"ConfigError the trainer name 'VPT' is already taken by {first}" in done.stdout
        assert f"so that {second} cannot have it" in done.stdout and "MaPLe" in done.stdout
