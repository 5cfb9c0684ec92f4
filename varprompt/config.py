"""Configuration: the nodes this project adds to Dassl's tree, and their validated form."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode

from .clip_io import PRECISIONS
from .errors import ConfigError
from .objective import KL_REDUCTIONS, OBJECTIVES
from .ops import SAMPLERS
from .posterior import LOGVAR_BOUNDS, POSTERIORS
from .schedule import SCHEDULES, WARMUPS
from .tokens import POSITIONS

__all__ = ["ConfigError", "PromptConfig", "choice", "extend_cfg", "prompt_config"]

RESIDUALS = ("shared", "per_token")
SUBSETS = ("all", "base", "new")


def _defaults() -> dict[str, Any]:
    """Dotted key -> default. The official recipe; CoOp's own defaults for its two nodes."""
    return {
        "DATASET.PATH": "",  # images of your own for the data set Folder
        "DATASET.SUBSAMPLE_CLASSES": "all",
        "MODEL.BACKBONE.PATH": "",  # a CLIP weight file, overrides MODEL.BACKBONE.NAME
        "TEST.CACHE_SIZE_GB": 5.0,  # of all features of test images on disk, 0 = no cache
        "TRAIN.CHECKPOINT_STEPS": 0,  # updates between two saved states, 0 = at epoch ends only
        "TRAIN.CLIP_GRAD_NORM": 0.0,  # largest norm of the learner's gradient, 0 = off
        "TRAIN.DETERMINISTIC": False,  # only torch's deterministic algorithms: slower on a GPU
        "TRAIN.MAX_BAD_STEPS": 0,  # updates of a run that may be left out as not finite
        # N > 0: N augmented views of each training image are encoded before training, and epoch e
        # sees view e mod N. Faster, but another stream of augmentations (and at most N different
        # ones), so figures differ from N = 0. Takes N * images * E * 4 bytes.
        "TRAIN.FEATURE_CACHE": 0,
        "TRAINER.COOP.N_CTX": 16,
        "TRAINER.COOP.CSC": False,
        "TRAINER.COOP.CTX_INIT": "",
        "TRAINER.COOP.PREC": "fp16",
        "TRAINER.COOP.CLASS_TOKEN_POSITION": "end",
        "TRAINER.COCOOP.N_CTX": 16,
        "TRAINER.COCOOP.CTX_INIT": "",
        "TRAINER.COCOOP.PREC": "fp16",
        "TRAINER.VPT.N_CTX": 4,
        "TRAINER.VPT.CTX_INIT": "a photo of a",
        "TRAINER.VPT.PREC": "fp16",
        "TRAINER.VPT.L": 10,  # samples in training
        "TRAINER.VPT.L_TEST": 0,  # samples at test, 0 = L
        "TRAINER.VPT.TEST_SEED": 0,  # seed of the samples at test
        "TRAINER.VPT.SAMPLER": "gaussian",
        "TRAINER.VPT.OBJECTIVE": "iwae",
        "TRAINER.VPT.KL_WEIGHT": 0.001,
        "TRAINER.VPT.KL_REDUCTION": "mean",
        "TRAINER.VPT.PRIOR_STD": 1.0,
        "TRAINER.VPT.LOGVAR_INIT": None,  # a number, or None = the authors' initialisation
        "TRAINER.VPT.POSTERIOR": "gaussian",
        "TRAINER.VPT.RESIDUAL": "shared",
        "TRAINER.VPT.LEARN_CONTEXT": True,
        "TRAINER.VPT.MEM_BUDGET": 0,  # bytes for text activations, 0 = half of the free memory
    }


def extend_cfg(cfg: CfgNode) -> None:
    """Add the nodes TRAINER.VPT, .COOP, .COCOOP and the single keys; what is there is kept."""
    for key, value in _defaults().items():
        *path, leaf = key.split(".")
        node = cfg
        for name in path:
            if name not in node:
                node[name] = CfgNode()
            node = node[name]
        if leaf not in node:
            node[leaf] = value


@dataclass(frozen=True)
class PromptConfig:
    """All that `varprompt.model.PromptedCLIP` needs to know; see `_defaults` for meanings."""

    precision: str = "fp32"
    n_ctx: int = 4
    ctx_init: str = "a photo of a"
    position: str = "end"
    class_specific: bool = False
    posterior: str = ""  # a name in POSTERIORS, "meta_net", or "" for no residual
    conditional: bool = False
    residual: str = "shared"
    learn_context: bool = True
    logvar_init: float | None = None
    prior_std: float = 1.0
    sampler: str = "gaussian"
    n_samples: int = 1
    n_samples_test: int = 1
    test_seed: int = 0
    objective: str = "iwae"
    kl_weight: float = 0.0
    kl_reduction: str = "mean"
    mem_budget: int = 0


_LEAST = {  # smallest values of Dassl's own numbers
    "DATALOADER.NUM_WORKERS": 0, "DATALOADER.TEST.BATCH_SIZE": 1,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 1, "OPTIM.LR": 0, "OPTIM.MAX_EPOCH": 0,
    "OPTIM.MOMENTUM": 0, "OPTIM.WEIGHT_DECAY": 0, "TEST.CACHE_SIZE_GB": 0,
    "TRAIN.CHECKPOINT_STEPS": 0, "TRAIN.CLIP_GRAD_NORM": 0, "TRAIN.FEATURE_CACHE": 0,
    "TRAIN.MAX_BAD_STEPS": 0, "TRAIN.PRINT_FREQ": 1,
    "TRAINER.VPT.MEM_BUDGET": 0,
}  # fmt: skip
_ALLOWED = {
    "DATALOADER.K_TRANSFORMS": (1,),
    "DATALOADER.TEST.SAMPLER": ("SequentialSampler",),
    "DATALOADER.TRAIN_X.SAMPLER": ("RandomSampler",),  # no domains in prompt learning
    "DATASET.SUBSAMPLE_CLASSES": SUBSETS,
    "INPUT.NO_TRANSFORM": (False,),
    "OPTIM.LR_SCHEDULER": SCHEDULES,
    "OPTIM.NAME": ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.WARMUP_TYPE": WARMUPS,
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
    "TEST.SPLIT": ("val", "test"),
}
_LENGTHS = {"INPUT.PIXEL_MEAN": 3, "INPUT.PIXEL_STD": 3, "INPUT.SIZE": 2}


def dassl_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with those of Dassl's options that a run depends on."""
    values = {key: _at(cfg, key) for key in (*_LEAST, *_ALLOWED, *_LENGTHS)}
    problems: list[str] = []
    for key, least in _LEAST.items():
        _at_least(values[key], least, key, problems)
    for key, allowed in _ALLOWED.items():
        choice(values[key], allowed, key, problems)
    for key, length in _LENGTHS.items():
        least = -math.inf if key == "INPUT.PIXEL_MEAN" else 0
        numbers = [v for v in values[key] if isinstance(v, int | float) and v > least]
        if not len(numbers) == len(values[key]) == length:
            sign = "" if least else "positive "
            problems.append(f"{key} is {values[key]}; give {length} {sign}numbers")
    return problems


def _at(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def prompt_config(cfg: CfgNode, trainer: str) -> PromptConfig:
    """The validated configuration of `trainer`, one of the six of this project.

    Raises:
        ConfigError: everything that is wrong, at once, in Dassl's options too.
    """
    problems = dassl_problems(cfg)
    node_name = "VPT" if trainer.startswith("VPT") else "COOP"
    if trainer == "CoCoOp":
        node_name = "COCOOP"
    node = cfg.TRAINER[node_name]
    where = f"TRAINER.{node_name}"
    common = {
        "precision": choice(node.PREC, PRECISIONS, f"{where}.PREC", problems),
        "n_ctx": _at_least(node.N_CTX, 0 if node.CTX_INIT else 1, f"{where}.N_CTX", problems),
        "ctx_init": node.CTX_INIT.replace("_", " ").strip(),
        "mem_budget": cfg.TRAINER.VPT.MEM_BUDGET,
    }
    if node_name == "VPT":
        common |= _variational(node, trainer, problems)
    elif trainer == "CoOp":
        common["class_specific"] = bool(node.CSC)
        common["position"] = choice(
            node.CLASS_TOKEN_POSITION, POSITIONS, f"{where}.CLASS_TOKEN_POSITION", problems
        )
        if node.CSC and node.CTX_INIT:
            problems.append(
                f"{where}.CSC is True but {where}.CTX_INIT {node.CTX_INIT!r} makes one context for "
                "all classes; drop one of the two"
            )
    elif trainer == "CoCoOp":
        common |= {"posterior": "meta_net", "conditional": True}
    if problems:
        raise ConfigError(problems)
    return PromptConfig(**common)


def _variational(node: CfgNode, trainer: str, problems: list[str]) -> dict[str, Any]:
    where = "TRAINER.VPT"
    for key in ("KL_WEIGHT", "PRIOR_STD"):
        if node[key] < 0 or (key == "PRIOR_STD" and node[key] == 0):
            problems.append(f"{where}.{key} is {node[key]}; it must be positive")
    logvar = node.LOGVAR_INIT
    if logvar is not None and not isinstance(logvar, int | float):
        problems.append(f"{where}.LOGVAR_INIT is {logvar!r}; give a number or None")
    elif logvar is not None and not LOGVAR_BOUNDS[0] < logvar < LOGVAR_BOUNDS[1]:
        problems.append(f"{where}.LOGVAR_INIT is {logvar}; it must lie within {LOGVAR_BOUNDS}")
    if node.POSTERIOR == "fixed" and logvar is None:
        problems.append(f"{where}.POSTERIOR 'fixed' needs {where}.LOGVAR_INIT (-7.0: std 0.03)")
    n_samples = _at_least(node.L, 1, f"{where}.L", problems)
    return {
        "posterior": choice(node.POSTERIOR, POSTERIORS, f"{where}.POSTERIOR", problems),
        "conditional": trainer == "VPT_CoCoOp",
        "residual": choice(node.RESIDUAL, RESIDUALS, f"{where}.RESIDUAL", problems),
        "learn_context": bool(node.LEARN_CONTEXT),
        "logvar_init": logvar,
        "prior_std": node.PRIOR_STD,
        "sampler": choice(node.SAMPLER, SAMPLERS, f"{where}.SAMPLER", problems),
        "n_samples": n_samples,
        "n_samples_test": _at_least(node.L_TEST, 0, f"{where}.L_TEST", problems) or n_samples,
        "test_seed": _at_least(node.TEST_SEED, 0, f"{where}.TEST_SEED", problems),
        "objective": choice(node.OBJECTIVE, OBJECTIVES, f"{where}.OBJECTIVE", problems),
        "kl_weight": node.KL_WEIGHT,
        "kl_reduction": choice(node.KL_REDUCTION, KL_REDUCTIONS, f"{where}.KL_REDUCTION", problems),
    }


def choice(value: Any, allowed: Any, where: str, problems: list[str]) -> Any:
    """Return `value`; if it is not in `allowed`, note so in `problems` with the nearest name."""
    if value not in allowed:
        names = [str(a) for a in allowed]
        near = difflib.get_close_matches(str(value), names, 1, 0.4) if len(names) > 1 else []
        hint = f", did you mean {near[0]!r}?" if near else ""
        problems.append(f"{where} is {value!r}; choose from {', '.join(names)}{hint}")
    return value


def _at_least(value: float, least: int, where: str, problems: list[str]) -> float:
    if value < least:
        problems.append(f"{where} is {value}; it must be at least {least}")
    return value
