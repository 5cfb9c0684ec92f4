"""Options that change nothing are named with the reason, and what is named changes nothing."""

import pytest
import torch
from helpers import build, command, own_cache, pictures  # noqa: F401 - fixtures

import trainers.baselines  # noqa: F401 - registers all trainers
from varprompt.settings.effects import without_effect
from varprompt.settings.merge import merge_pairs
from varprompt.settings.nodes import default_tree

TEMPLATES = ("a photo of a {}.", "a sketch of the {}.")


def found(trainer, values):
    cfg = default_tree()
    merge_pairs(cfg, [x for pair in values.items() for x in pair])
    return without_effect(cfg, trainer)


@pytest.mark.parametrize(
    ("posterior", "idle"),
    [
        ("gaussian", ["RANK"]),
        ("fixed", ["RANK"]),
        ("mixture", ["RANK"]),
        ("low_rank", []),
        ("delta", ["L", "LOGVAR_INIT", "L_TEST", "OBJECTIVE", "RANK", "SAMPLER", "TEST_SEED"]),
        ("meta_net", ["KL_WEIGHT", "L", "LOGVAR_INIT", "L_TEST", "OBJECTIVE", "RANK", "SAMPLER",
                      "TEST_SEED"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp"])
def test_options_that_a_posterior_does_not_read(trainer, posterior, idle):
    values = {"RANK": 8, "LOGVAR_INIT": -7.0, "L": 3, "L_TEST": 5, "TEST_SEED": 1}
    values |= {"SAMPLER": "antithetic", "POSTERIOR": posterior, "KL_WEIGHT": 0.1}
    values |= {"OBJECTIVE": "elbo"}
    said = found(trainer, {f"TRAINER.VPT.{k}": v for k, v in values.items()})
    assert sorted(said) == [f"TRAINER.VPT.{name}" for name in idle]
    assert set(said.values()) <= {f" with POSTERIOR {posterior}"}
    assert found(trainer, {"TRAINER.VPT.POSTERIOR": posterior}) == {}


def test_a_mixture_of_points_reads_no_noise():
    values = {"POSTERIOR": "mixture", "COMPONENT": "delta", "L": 3, "TEST_SEED": 1, "RANK": 2}
    values |= {"CTX_INIT": "art of", "TEMPLATES": ["art of {}", "{} art"], "PRIOR_STD": 2}
    said = found("VPT", {f"TRAINER.VPT.{k}": v for k, v in values.items()})
    idle = ["CTX_INIT", "L", "RANK", "TEST_SEED"]
    assert sorted(said) == [f"TRAINER.VPT.{name}" for name in idle]
    assert list(found("VPT", {"TRAINER.VPT.COMPONENT": "fixed"})) == ["TRAINER.VPT.COMPONENT"]


ROWS = [  # trainer, options, the idle one, what it could be else, why
    ("CoOp", {}, "TEST__MERGE", True, ""),
    ("CoCoOp", {}, "TEST__MERGE", True, ""),
    ("VPT", {"POSTERIOR": "delta"}, "TEST__MERGE", True, " with POSTERIOR delta"),
    ("VPT", {"POSTERIOR": "delta"}, "OBJECTIVE", "elbo", " with POSTERIOR delta"),
    ("VPT", {"L": 1}, "OBJECTIVE", "elbo", " with L 1"),
    ("VPT", {"L": 1}, "SAMPLER", "antithetic", " with L 1"),
    ("VPT", {"L_TEST": 1}, "TEST__MERGE", True, " with L_TEST 1"),
    ("VPT", {"KL_WEIGHT": 0.0}, "PRIOR_STD", 0.1, " with KL_WEIGHT 0.0"),
    ("VPT", {"KL_WEIGHT": 0.0}, "PRIOR_UNIT", "token_rms", " with KL_WEIGHT 0.0"),
    ("VPT_CoCoOp", {"KL_WEIGHT": 0.0}, "KL_REDUCTION", "sum", " with KL_WEIGHT 0.0"),
    ("VPT", {"POSTERIOR": "mixture", "TEMPLATES": TEMPLATES, "RESIDUAL": "per_token"}, "N_CTX", 7,
     " with POSTERIOR mixture"),
    ("VPT", {"POSTERIOR": "mixture", "TEMPLATES": TEMPLATES, "RESIDUAL": "per_token", "L": 2},
     "SAMPLER", "antithetic", " with L 2"),
]  # fmt: skip


@pytest.mark.parametrize(("trainer", "values", "idle", "value", "why"), ROWS)
def test_what_is_named_changes_nothing(
    trainer, values, idle, value, why, pictures, tmp_path, capsys  # noqa: F811
):  # fmt: skip
    values = {f"TRAINER__VPT__{k}": v for k, v in ({"L": 4} | values).items()}
    key = idle if "__" in idle else f"TRAINER__VPT__{idle}"
    learned, predicted = [], []
    for folder, more in (("a", {}), ("b", {key: value})):
        options = {"OPTIM__MAX_EPOCH": 1, "TRAIN__PRINT_FREQ": 1} | values | more
        run = build(command(pictures, tmp_path / folder, trainer=trainer, **options))
        run.train()
        learned.append(run.model.prompt_learner.state_dict())
        predicted.append(run.model.predictor()(torch.eye(3, 128)))
    line = f"{key.replace('__', '.')} has no effect on {trainer}{why}\n"
    assert capsys.readouterr().out.count(line) == 1
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    assert torch.equal(*predicted)


def test_amp_without_a_gpu_and_samples_that_are_rounded_up_are_said(
    pictures, tmp_path, capsys  # noqa: F811
):  # fmt: skip
    options = {"POSTERIOR": "mixture", "TEMPLATES": TEMPLATES, "RESIDUAL": "per_token", "L": 3}
    options = {f"TRAINER__VPT__{k}": v for k, v in (options | {"PREC": "amp"}).items()}
    build(command(pictures, tmp_path, **options, USE_CUDA=False))
    said = capsys.readouterr().out
    assert "starting from 2 templates (samples of each: 2 in training, 2 at test)" in said
    assert "PREC amp has no effect on the device cpu: it computes as fp32 does" in said
