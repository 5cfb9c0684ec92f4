"""The nodes that are added to Dassl's, their validated form, and the files that fill them."""

from pathlib import Path

import pytest
import yaml
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY

import trainers.baselines  # noqa: F401 - registers all trainers
from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.settings.merge import merge_file, merge_pairs
from varprompt.settings.nodes import extend_cfg, prompt_config

LEARNERS = (  # whose nodes are there only if they are registered
    "KgCoOp", "MaPLe", "IVLP", "PromptSRC", "VPT_KgCoOp", "VPT_MaPLe", "VPT_PromptSRC",
)  # fmt: skip
TRAINERS = ("VPT", "VPT_CoCoOp", "CoOp", "CoCoOp", "ZeroshotCLIP", "ZeroshotCLIP2", *LEARNERS)
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def make(*pairs):
    cfg = get_cfg_default()
    extend_cfg(cfg)
    for name in LEARNERS:
        TRAINER_REGISTRY.get(name).extend_cfg(cfg)
    merge_pairs(cfg, pairs)
    return cfg


@pytest.mark.parametrize("trainer", TRAINERS)
def test_defaults_are_valid(trainer):
    assert isinstance(prompt_config(make(), trainer), PromptConfig)


def test_defaults_are_the_official_recipe():
    """CoOp's own defaults, and of the authors' published VPT runs."""
    cfg = make()
    assert (cfg.TRAINER.COOP.N_CTX, cfg.TRAINER.COOP.CSC, cfg.TRAINER.COOP.PREC) == (
        16,
        False,
        "fp16",
    )
    assert (cfg.TRAINER.COOP.CTX_INIT, cfg.TRAINER.COOP.CLASS_TOKEN_POSITION) == ("", "end")
    assert (cfg.TRAINER.COCOOP.N_CTX, cfg.TRAINER.COCOOP.PREC) == (16, "fp16")
    config = prompt_config(cfg, "VPT")
    assert (config.n_samples, config.n_samples_test, config.ctx_init) == (10, 0, "a photo of a")
    assert (config.objective, config.kl_weight, config.kl_reduction) == ("iwae", 0.001, "mean")
    assert (config.posterior, config.prior_std, config.logvar_init) == ("gaussian", 1.0, None)
    assert (config.residual, config.learn_context, config.precision) == ("shared", True, "fp16")


def test_what_trainers_read():
    pairs = {"TRAINER.VPT.L": 3, "TRAINER.VPT.L_TEST": 5, "TRAINER.COCOOP.PREC": "bf16"}
    pairs |= {"TRAINER.COOP.CTX_INIT": "a_photo_of_a", "TRAINER.COOP.CLASS_TOKEN_POSITION": "front"}
    cfg = make(*(x for pair in pairs.items() for x in pair))
    assert not prompt_config(cfg, "VPT").conditional
    assert prompt_config(cfg, "VPT_CoCoOp").conditional
    assert prompt_config(cfg, "VPT").n_samples_test == 5
    coop = prompt_config(cfg, "CoOp")
    assert (coop.position, coop.posterior, coop.kl_weight) == ("front", "", 0)
    assert coop.ctx_init == "a photo of a"
    cocoop = prompt_config(cfg, "CoCoOp")
    assert (cocoop.posterior, cocoop.conditional, cocoop.precision) == ("meta_net", True, "bf16")


def test_extending_keeps_what_is_there():
    """In a CoOp checkout its own train.py has added its nodes before."""
    cfg = make()
    cfg.TRAINER.COOP.N_CTX, cfg.DATASET.SUBSAMPLE_CLASSES = 4, "new"
    extend_cfg(cfg)
    assert (cfg.TRAINER.COOP.N_CTX, cfg.DATASET.SUBSAMPLE_CLASSES) == (4, "new")


BAD = [
    ("VPT", "TRAINER.VPT.POSTERIOR", "gauss", "choose from gaussian, fixed, delta, low_rank, "),
    ("VPT", "TRAINER.VPT.RESIDUAL", "token", "choose from shared, per_token"),
    ("VPT", "TRAINER.VPT.OBJECTIVE", "elb", "choose from iwae, elbo, did you mean 'elbo'?"),
    ("VPT", "TRAINER.VPT.KL_REDUCTION", "max", "choose from mean, sum, elbo, sum_per_image"),
    ("VPT", "TRAINER.VPT.SAMPLER", "halton", "choose from gaussian, antithetic, sobol"),
    ("VPT", "TRAINER.VPT.PREC", "fp8", "choose from fp32, fp16, amp, bf16"),
    ("VPT", "TRAINER.VPT.L", 0, "TRAINER.VPT.L is 0; it must be at least 1"),
    ("VPT", "TRAINER.VPT.RANK", 0, "TRAINER.VPT.RANK is 0; it must be at least 1"),
    ("VPT", "TRAINER.VPT.L_TEST", -1, "TRAINER.VPT.L_TEST is -1; it must be at least 0"),
    ("VPT", "TRAINER.VPT.TEST_SEED", -2, "TRAINER.VPT.TEST_SEED is -2"),
    ("VPT", "TRAINER.VPT.PRIOR_STD", 0.0, "PRIOR_STD is 0.0; it must be at least 1e-06"),
    ("VPT", "TRAINER.VPT.KL_WEIGHT", -1.0, "TRAINER.VPT.KL_WEIGHT is -1.0"),
    ("VPT", "TRAINER.VPT.LOGVAR_INIT", "x", "LOGVAR_INIT is 'x'; give a number or None"),
    ("VPT", "TRAINER.VPT.POSTERIOR", "fixed", "'fixed' needs TRAINER.VPT.LOGVAR_INIT"),
    ("VPT", "TRAINER.VPT.LOGVAR_INIT", 10.0, "it must lie within (-20.0, 10.0)"),
    ("VPT", "TRAINER.VPT.MEM_BUDGET", -1, "TRAINER.VPT.MEM_BUDGET is -1"),
    ("CoOp", "TRAINER.COOP.CLASS_TOKEN_POSITION", "start", "choose from end, middle, front"),
    ("CoOp", "TRAINER.COOP.N_CTX", 0, "TRAINER.COOP.N_CTX is 0; it must be at least 1"),
    ("CoCoOp", "TRAINER.COCOOP.PREC", "half", "TRAINER.COCOOP.PREC is 'half'"),
    ("ZeroshotCLIP", "TRAINER.COOP.PREC", "half", "TRAINER.COOP.PREC is 'half'"),
    ("VPT", "DATASET.SUBSAMPLE_CLASSES", "old", "choose from all, base, new"),
    ("VPT", "DATALOADER.TRAIN_X.SAMPLER", "RandomDomainSampler", "choose from RandomSampler"),
    ("VPT", "DATALOADER.TRAIN_X.BATCH_SIZE", 0, "must be at least 1"),
    ("VPT", "DATALOADER.TEST.BATCH_SIZE", 0, "must be at least 1"),
    ("VPT", "DATALOADER.NUM_WORKERS", -1, "must be at least 0"),
    ("VPT", "DATALOADER.K_TRANSFORMS", 2, "choose from 1"),
    ("VPT", "INPUT.NO_TRANSFORM", True, "choose from False"),
    ("VPT", "INPUT.SIZE", (32, 32, 32), "give 2 whole numbers from 1"),
    ("VPT", "INPUT.PIXEL_MEAN", ["a", "b", "c"], "give 3 numbers"),
    ("VPT", "INPUT.PIXEL_STD", [1.0, 0.0, 1.0], "give 3 numbers from 1e-06"),
    ("VPT", "OPTIM.NAME", "sdg", "choose from adam, amsgrad, sgd, rmsprop, radam, adamw, did you"),
    ("VPT", "OPTIM.LR", -0.1, "OPTIM.LR is -0.1; it must be at least 0"),
    ("VPT", "OPTIM.LR_SCHEDULER", "cosin", "did you mean 'cosine'?"),
    ("VPT", "OPTIM.WARMUP_TYPE", "const", "choose from constant, linear"),
    ("VPT", "OPTIM.MAX_EPOCH", -1, "OPTIM.MAX_EPOCH is -1"),
    ("VPT", "TEST.SPLIT", "vall", "choose from val, test"),
    ("VPT", "TEST.FINAL_MODEL", "best", "choose from last_step, best_val"),
    ("VPT", "TRAIN.PRINT_FREQ", 0, "TRAIN.PRINT_FREQ is 0; it must be at least 1"),
    ("VPT", "TRAIN.CLIP_GRAD_NORM", -1.0, "TRAIN.CLIP_GRAD_NORM is -1.0"),
    ("VPT", "TRAINER.VPT.L", 10**9, "TRAINER.VPT.L is 1000000000; it must be at most 100000"),
    ("VPT", "TRAINER.VPT.N_CTX", 3, "CTX_INIT 'a photo of a' has 4 words; give N_CTX 4"),
    ("CoOp", "TRAINER.COOP.N_CTX", 76, "TRAINER.COOP.N_CTX is 76; it must be at most 75"),
    ("CoOp", "DATALOADER.RETURN_IMG0", True, "choose from False"),
    ("CoOp", "DATASET.LISTING", "OS", "choose from sorted, os"),
    ("CoOp", "INPUT.GB_K", 4, "INPUT.GB_K is 4; it must be odd"),
    ("CoOp", "INPUT.INTERPOLATION", "cubic", "did you mean 'bicubic'?"),
    ("CoOp", "INPUT.RANDAUGMENT_M", 31, "INPUT.RANDAUGMENT_M is 31; it must be at most 30"),
    ("CoOp", "INPUT.RRCROP_SCALE", (0.9, 0.1), "give the smaller first"),
    ("CoOp", "INPUT.RRCROP_SCALE", (0.0, 1.0), "give 2 numbers from 1e-06 to 1"),
    ("CoOp", "INPUT.SIZE", (32.0, 32), "give 2 whole numbers"),
    ("CoOp", "INPUT.TRANSFORMS", ("normalise", "random_flip"),
     "a name in INPUT.TRANSFORMS is 'normalise'; choose from random_flip, "),
    ("CoOp", "MODEL.BACKBONE.PRETRAINED", False, "choose from True"),
    ("CoOp", "OPTIM.ADAM_BETA1", 1.0, "OPTIM.ADAM_BETA1 is 1.0; it must be at most 0.999999"),
    ("CoOp", "OPTIM.GAMMA", 1.1, "OPTIM.GAMMA is 1.1; it must be at most 1"),
    ("CoOp", "OPTIM.STAGED_LR", True, "choose from False"),
    ("CoOp", "OPTIM.STEPSIZE", (), "give one or more whole numbers"),
    ("CoOp", "OPTIM.WARMUP_CONS_LR", -1e-5, "WARMUP_CONS_LR is -1e-05; it must be at least 0"),
    ("CoOp", "TEST.EVALUATOR", "classification", "choose from Classification"),
]  # fmt: skip


@pytest.mark.parametrize(("trainer", "key", "value", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_values(trainer, key, value, message):
    with pytest.raises(ConfigError) as caught:
        prompt_config(make(key, value), trainer)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value) and key in str(caught.value)


def test_all_bad_values_at_once():
    bad = {key: value for trainer, key, value, _ in BAD if trainer == "VPT" and value != "fixed"}
    with pytest.raises(ConfigError) as caught:
        prompt_config(make(*(x for pair in bad.items() for x in pair)), "VPT")
    assert len(caught.value.problems) == len(bad)


def test_nesterov_needs_plain_momentum():
    pairs = ["OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", True]
    prompt_config(make(*pairs), "CoOp")
    for key, value in (("OPTIM.MOMENTUM", 0.0), ("OPTIM.SGD_DAMPNING", 1)):
        with pytest.raises(ConfigError, match=f"SGD_NESTEROV needs .*{key}"):
            prompt_config(make(*pairs, key, value), "CoOp")


def test_class_specific_context_of_words():
    """CoOp ignores CSC then, without a word."""
    with pytest.raises(
        ConfigError, match=r"COOP\.CSC is True but TRAINER\.COOP\.CTX_INIT 'a photo"
    ):
        prompt_config(
            make("TRAINER.COOP.CSC", True, "TRAINER.COOP.CTX_INIT", "a photo of a"), "CoOp"
        )


@pytest.mark.parametrize(
    "file", sorted(CONFIGS.glob("trainers/*/*.yaml")), ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_every_trainer_file_is_valid(file):
    cfg = make()
    merge_file(cfg, file)
    config = prompt_config(cfg, file.parent.name)
    size = 32 if file.stem.startswith("embedded") else 224
    assert tuple(cfg.INPUT.SIZE) == (size, size)
    if "_ctxv1" in file.stem:
        assert config.ctx_init == "a photo of a"
    if not file.stem.startswith("embedded") and "c2_ep" in file.stem:  # of deep prompts
        shape = (config.depth, config.visual_depth, config.n_ctx)
        depth = 3 if "cross_datasets" in file.stem else 9
        assert shape == (depth, depth, 2 if "2ctx" in file.stem else 4)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("datasets/*.yaml")), ids=lambda f: f.stem)
def test_every_data_set_file_names_a_data_set(file):
    from dassl.data.datasets import DATASET_REGISTRY

    import datasets  # noqa: F401 - registers them

    merge_file(make(), file)
    assert (
        yaml.safe_load(file.read_text())["DATASET"]["NAME"] in DATASET_REGISTRY.registered_names()
    )
