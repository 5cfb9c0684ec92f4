"""The default tree, key by key, and how values are merged into it."""

import re

import pytest
from dassl.config import get_cfg_default
from dassl.engine import build_trainer

from varprompt.errors import ConfigError

DEFAULTS = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",
    "RESUME": "",
    "SEED": -1,
    "USE_CUDA": True,
    "VERBOSE": True,
    "INPUT.SIZE": (224, 224),
    "INPUT.INTERPOLATION": "bilinear",
    "INPUT.TRANSFORMS": (),
    "INPUT.NO_TRANSFORM": False,
    "INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406],
    "INPUT.PIXEL_STD": [0.229, 0.224, 0.225],
    "INPUT.CROP_PADDING": 4,
    "INPUT.RRCROP_SCALE": (0.08, 1.0),
    "INPUT.CUTOUT_N": 1,
    "INPUT.CUTOUT_LEN": 16,
    "INPUT.GN_MEAN": 0.0,
    "INPUT.GN_STD": 0.15,
    "INPUT.RANDAUGMENT_N": 2,
    "INPUT.RANDAUGMENT_M": 10,
    "INPUT.COLORJITTER_B": 0.4,
    "INPUT.COLORJITTER_C": 0.4,
    "INPUT.COLORJITTER_S": 0.4,
    "INPUT.COLORJITTER_H": 0.1,
    "INPUT.RGS_P": 0.2,
    "INPUT.GB_P": 0.5,
    "INPUT.GB_K": 21,
    "DATASET.ROOT": "",
    "DATASET.NAME": "",
    "DATASET.SOURCE_DOMAINS": (),
    "DATASET.TARGET_DOMAINS": (),
    "DATASET.NUM_LABELED": -1,
    "DATASET.NUM_SHOTS": -1,
    "DATASET.VAL_PERCENT": 0.1,
    "DATASET.STL10_FOLD": -1,
    "DATASET.CIFAR_C_TYPE": "",
    "DATASET.CIFAR_C_LEVEL": 1,
    "DATASET.ALL_AS_UNLABELED": False,
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.RETURN_IMG0": False,
    "DATALOADER.TRAIN_X.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_X.N_DOMAIN": 0,
    "DATALOADER.TRAIN_X.N_INS": 16,
    "DATALOADER.TRAIN_U.SAME_AS_X": True,
    "DATALOADER.TRAIN_U.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_U.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_U.N_DOMAIN": 0,
    "DATALOADER.TRAIN_U.N_INS": 16,
    "DATALOADER.TEST.SAMPLER": "SequentialSampler",
    "DATALOADER.TEST.BATCH_SIZE": 32,
    "MODEL.INIT_WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "",
    "MODEL.BACKBONE.PRETRAINED": True,
    "MODEL.HEAD.NAME": "",
    "MODEL.HEAD.HIDDEN_LAYERS": (),
    "MODEL.HEAD.ACTIVATION": "relu",
    "MODEL.HEAD.BN": True,
    "MODEL.HEAD.DROPOUT": 0.0,
    "OPTIM.NAME": "adam",
    "OPTIM.LR": 0.0003,
    "OPTIM.WEIGHT_DECAY": 5e-4,
    "OPTIM.MOMENTUM": 0.9,
    "OPTIM.SGD_DAMPNING": 0,
    "OPTIM.SGD_NESTEROV": False,
    "OPTIM.RMSPROP_ALPHA": 0.99,
    "OPTIM.ADAM_BETA1": 0.9,
    "OPTIM.ADAM_BETA2": 0.999,
    "OPTIM.STAGED_LR": False,
    "OPTIM.NEW_LAYERS": (),
    "OPTIM.BASE_LR_MULT": 0.1,
    "OPTIM.LR_SCHEDULER": "single_step",
    "OPTIM.STEPSIZE": (-1,),
    "OPTIM.GAMMA": 0.1,
    "OPTIM.MAX_EPOCH": 10,
    "OPTIM.WARMUP_EPOCH": -1,
    "OPTIM.WARMUP_TYPE": "linear",
    "OPTIM.WARMUP_CONS_LR": 1e-5,
    "OPTIM.WARMUP_MIN_LR": 1e-5,
    "OPTIM.WARMUP_RECOUNT": True,
    "TRAIN.CHECKPOINT_FREQ": 0,
    "TRAIN.PRINT_FREQ": 10,
    "TRAIN.COUNT_ITER": "train_x",
    "TEST.EVALUATOR": "Classification",
    "TEST.PER_CLASS_RESULT": False,
    "TEST.COMPUTE_CMAT": False,
    "TEST.NO_TEST": False,
    "TEST.SPLIT": "test",
    "TEST.FINAL_MODEL": "last_step",
    "TRAINER.NAME": "",
}


def flatten(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_every_default():
    tree = dict(flatten(get_cfg_default()))
    of_other_trainers = r"TRAINER\.[A-Z0-9]+\."  # in the real Dassl
    tree = {k: v for k, v in tree.items() if not re.match(of_other_trainers, k)}
    assert tree == DEFAULTS
    wrong_types = {k for k, v in tree.items() if type(v) is not type(DEFAULTS[k])}
    assert not wrong_types


def test_each_tree_is_its_own():
    first, second = get_cfg_default(), get_cfg_default()
    first.INPUT.PIXEL_MEAN[0] = 7.0
    first.DATALOADER.TRAIN_X.BATCH_SIZE = 1
    assert second.INPUT.PIXEL_MEAN[0] == 0.485
    assert second.DATALOADER.TRAIN_X.BATCH_SIZE == second.DATALOADER.TRAIN_U.BATCH_SIZE == 32


def test_what_only_dassl_does_is_refused(cfg, repaired):
    """Every such option at once, before any work."""
    options = {
        "DATALOADER.K_TRANSFORMS": 3, "DATALOADER.RETURN_IMG0": True, "INPUT.NO_TRANSFORM": True,
        "OPTIM.STAGED_LR": True,
    }  # fmt: skip
    cfg.merge_from_list([x for pair in options.items() for x in pair])
    with pytest.raises(ConfigError) as caught:
        build_trainer(cfg)
    assert len(caught.value.problems) == len(options)
    for (key, value), problem in zip(options.items(), caught.value.problems, strict=True):
        assert problem.startswith(f"{key} is {value};") and "install Dassl" in problem


def test_coop_style_yaml_merges(tmp_path):
    path = tmp_path / "trainer.yaml"
    path.write_text(
        "DATALOADER:\n  TRAIN_X:\n    BATCH_SIZE: 1\n"
        'INPUT:\n  SIZE: (32, 32)\n  TRANSFORMS: ["random_flip", "normalize"]\n'
        "  PIXEL_MEAN: [0.1, 0.2, 0.3]\n"
        "OPTIM:\n  WARMUP_CONS_LR: 1e-5\n  LR: 0.002\nTRAINER:\n  VPT:\n    L: 4\n"
    )
    cfg = get_cfg_default()
    cfg.TRAINER.VPT = type(cfg)()
    cfg.TRAINER.VPT.L = 10
    cfg.merge_from_file(str(path))
    cfg.merge_from_list(["TRAINER.VPT.L", "20", "OPTIM.STEPSIZE", "[3, 5]"])
    assert cfg.INPUT.SIZE == (32, 32)
    assert tuple(cfg.INPUT.TRANSFORMS) == ("random_flip", "normalize")
    assert cfg.OPTIM.WARMUP_CONS_LR == 1e-5  # plain YAML would make a string of it
    assert cfg.TRAINER.VPT.L == 20
    assert cfg.OPTIM.STEPSIZE == (3, 5)
    assert "LR: 0.002" in str(cfg)


def test_wrong_keys_and_types(tmp_path):
    cfg = get_cfg_default()
    path = tmp_path / "bad.yaml"
    path.write_text("OPTIM:\n  LEARNING_RATE: 1.0\n")
    with pytest.raises(KeyError, match="OPTIM.LEARNING_RATE"):
        cfg.merge_from_file(str(path))
    with pytest.raises(AssertionError):
        cfg.merge_from_list(["OPTIM.LEARNING_RATE", 1.0])
    with pytest.raises(ValueError, match="OPTIM.LR"):
        cfg.merge_from_list(["OPTIM.LR", 1])
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SEED = 3
