"""Which values those of Dassl's options may have that prompt learning depends on."""

from __future__ import annotations

import math
from typing import Any

from yacs.config import CfgNode

from ..checks import check_choice, check_range
from ..run.schedule import SCHEDULES, WARMUPS

SUBSETS = ("all", "base", "new")
LISTINGS = ("sorted", "os")
TRANSFORMS = (
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop",
    "random_translation", "center_crop", "cutout", "imagenet_policy", "cifar10_policy",
    "svhn_policy", "randaugment", "randaugment_fixmatch", "randaugment2", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
)  # fmt: skip

# Least and greatest value. What has no natural limit has one far beyond use, so that a slip is
# an answer at once and not a day of swapping.
RANGES = {
    "DATALOADER.NUM_WORKERS": (0, 1000),
    "DATALOADER.TEST.BATCH_SIZE": (1, 10**6),
    "DATALOADER.TRAIN_X.BATCH_SIZE": (1, 10**6),
    "INPUT.COLORJITTER_B": (0, 100),
    "INPUT.COLORJITTER_C": (0, 100),
    "INPUT.COLORJITTER_H": (0, 0.5),
    "INPUT.COLORJITTER_S": (0, 100),
    "INPUT.CROP_PADDING": (0, 1000),
    "INPUT.CUTOUT_LEN": (0, 10**4),
    "INPUT.CUTOUT_N": (0, 1000),
    "INPUT.GB_K": (1, 999),
    "INPUT.GB_P": (0, 1),
    "INPUT.GN_MEAN": (-1000, 1000),
    "INPUT.GN_STD": (0, 1000),
    "INPUT.RANDAUGMENT_M": (0, 30),
    "INPUT.RANDAUGMENT_N": (0, 100),
    "INPUT.RGS_P": (0, 1),
    "OPTIM.ADAM_BETA1": (0, 0.999999),
    "OPTIM.ADAM_BETA2": (0, 0.999999),
    "OPTIM.GAMMA": (0, 1),
    "OPTIM.LR": (0, 1000),
    "OPTIM.MAX_EPOCH": (0, 10**6),
    "OPTIM.MOMENTUM": (0, 1),
    "OPTIM.RMSPROP_ALPHA": (0, 1),
    "OPTIM.SGD_DAMPNING": (0, 1),
    "OPTIM.WARMUP_CONS_LR": (0, 1000),
    "OPTIM.WARMUP_EPOCH": (-1, 10**6),
    "OPTIM.WARMUP_MIN_LR": (0, 1000),
    "OPTIM.WEIGHT_DECAY": (0, 1000),
    "SEED": (-math.inf, 2**32 - 1),  # of numpy's generator
    "TEST.CACHE_SIZE_GB": (0, math.inf),
    "TRAIN.CHECKPOINT_STEPS": (0, math.inf),
    "TRAIN.CLIP_GRAD_NORM": (0, 10**6),
    "TRAIN.FEATURE_CACHE": (0, 1000),
    "TRAIN.MAX_BAD_STEPS": (0, math.inf),
    "TRAIN.PRINT_FREQ": (1, math.inf),
    "TRAINER.VPT.MEM_BUDGET": (0, math.inf),
}
ALLOWED = {
    "DATALOADER.K_TRANSFORMS": (1,),
    "DATALOADER.RETURN_IMG0": (False,),
    "DATALOADER.TEST.SAMPLER": ("SequentialSampler",),
    "DATALOADER.TRAIN_X.SAMPLER": ("RandomSampler",),  # no domains in prompt learning
    "DATASET.LISTING": LISTINGS,
    "DATASET.SUBSAMPLE_CLASSES": SUBSETS,
    "INPUT.INTERPOLATION": ("bilinear", "bicubic", "nearest"),
    "INPUT.NO_TRANSFORM": (False,),
    "MODEL.BACKBONE.PRETRAINED": (True,),  # a prompt for random towers means nothing
    "OPTIM.LR_SCHEDULER": SCHEDULES,
    "OPTIM.NAME": ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.STAGED_LR": (False,),  # would leave out whatever is not in a layer: the context
    "OPTIM.WARMUP_TYPE": WARMUPS,
    "TEST.EVALUATOR": ("Classification",),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
    "TEST.SPLIT": ("val", "test"),
}
# How many numbers (None: one or more), of which type, the least and the greatest of them.
LISTS = {
    "INPUT.PIXEL_MEAN": (3, float, -1000, 1000),
    "INPUT.PIXEL_STD": (3, float, 1e-6, 1000),
    "INPUT.RRCROP_SCALE": (2, float, 1e-6, 1),
    "INPUT.SIZE": (2, int, 1, 10**4),
    "OPTIM.STEPSIZE": (None, int, -1, 10**6),
}


def dassl_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with those of Dassl's options that a run depends on."""
    problems: list[str] = []
    for key, (least, most) in RANGES.items():
        check_range(value_of(cfg, key), least, most, key, problems)
    for key, allowed in ALLOWED.items():
        check_choice(value_of(cfg, key), allowed, key, problems)
    for name in cfg.INPUT.TRANSFORMS:
        check_choice(name, TRANSFORMS, "a name in INPUT.TRANSFORMS", problems)
    for key, form in LISTS.items():
        _check_list(value_of(cfg, key), *form, key, problems)
    return problems + _contradictions(cfg)


def _contradictions(cfg: CfgNode) -> list[str]:
    problems, optim = [], cfg.OPTIM
    scale = [v for v in cfg.INPUT.RRCROP_SCALE if isinstance(v, int | float)]
    if len(scale) == 2 and scale[0] > scale[1]:
        problems.append(f"INPUT.RRCROP_SCALE is {cfg.INPUT.RRCROP_SCALE}; give the smaller first")
    if cfg.INPUT.GB_K % 2 == 0:
        problems.append(f"INPUT.GB_K is {cfg.INPUT.GB_K}; it must be odd")
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.SGD_DAMPNING or not optim.MOMENTUM):
        problems.append(
            "OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 (it is "
            f"{optim.MOMENTUM}) and OPTIM.SGD_DAMPNING 0 (it is {optim.SGD_DAMPNING})"
        )
    return problems


def _check_list(
    value: Any, length: int | None, kind: type, least: float, most: float, where: str,
    problems: list[str],
) -> None:  # fmt: skip
    types = (int,) if kind is int else (int, float)
    good = all(type(v) in types and least <= v <= most for v in value)
    if not good or len(value) != (length or max(1, len(value))):
        what = f"{length or 'one or more'} {'whole ' if kind is int else ''}numbers"
        problems.append(f"{where} is {value}; give {what} from {least} to {most}")


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg
