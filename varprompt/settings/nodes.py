"""The nodes this project adds to Dassl's configuration tree, and their validated form."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from typing import Any

from yacs.config import CfgNode

from ..checks import check_choice, check_range
from ..config import RESIDUALS, PromptConfig
from ..errors import ConfigError
from ..objective import KL_REDUCTIONS, OBJECTIVES
from ..ops import SAMPLERS
from ..posteriors import LOGVAR_BOUNDS, POSTERIORS
from ..towers.load import PRECISIONS
from ..towers.tokens import POSITIONS
from .limits import dassl_problems

LONGEST = 75  # context tokens: CLIP reads 77, of which the first and the last are its own
MOST_SAMPLES = 10**5
_FOR_ALL = "TRAINER.VPT.MEM_BUDGET"  # every trainer has a text tower


def _defaults() -> dict[str, Any]:
    """Dotted key -> default. The official recipe; CoOp's own defaults for its two nodes."""
    return {
        "DATASET.LISTING": "sorted",  # order of ImageNet's files; "os" = the file system's, as CoOp
        "DATASET.PATH": "",  # images of your own for the data set Folder
        "DATASET.SUBSAMPLE_CLASSES": "all",
        "MODEL.BACKBONE.PATH": "",  # a CLIP weight file, overrides MODEL.BACKBONE.NAME
        "TEST.CACHE_SIZE_GB": 5.0,  # of all features of test images on disk, 0 = no cache
        "TRAIN.CHECKPOINT_STEPS": 0,  # updates between two saved states, 0 = at epoch ends only
        "TRAIN.CLIP_GRAD_NORM": 0.0,  # largest norm of the learner's gradient, 0 = off
        "TRAIN.COMPILE": False,  # torch.compile for the text tower; does not pay on a CPU
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


def prompt_config(cfg: CfgNode, trainer: str) -> PromptConfig:
    """The validated configuration of `trainer`, one of the six of this project.

    Raises:
        ConfigError: everything that is wrong, at once, in Dassl's options too.
    """
    problems = dassl_problems(cfg)
    node_name = _node_name(trainer)
    node = cfg.TRAINER[node_name]
    where = f"TRAINER.{node_name}"
    words = node.CTX_INIT.replace("_", " ").strip()
    common = {
        "precision": check_choice(node.PREC, PRECISIONS, f"{where}.PREC", problems),
        "n_ctx": check_range(node.N_CTX, 0 if words else 1, LONGEST, f"{where}.N_CTX", problems),
        "ctx_init": words,
        "mem_budget": cfg.TRAINER.VPT.MEM_BUDGET,
    }
    if node_name == "VPT":
        common |= _variational(node, trainer, problems)
    elif trainer == "CoOp":
        common["class_specific"] = bool(node.CSC)
        common["position"] = check_choice(
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


def without_effect(cfg: CfgNode, trainer: str) -> list[str]:
    """Keys of other trainers that were changed; `trainer` does not read them."""
    others = {"VPT", "COOP", "COCOOP"} - {_node_name(trainer)}
    keys = [key for key in _defaults() if key.split(".")[1] in others and key != _FOR_ALL]
    return [key for key in keys if reduce(getitem, key.split("."), cfg) != _defaults()[key]]


def _node_name(trainer: str) -> str:
    if trainer == "CoCoOp":
        return "COCOOP"
    return "VPT" if trainer.startswith("VPT") else "COOP"


def _variational(node: CfgNode, trainer: str, problems: list[str]) -> dict[str, Any]:
    where = "TRAINER.VPT"
    logvar = node.LOGVAR_INIT
    if logvar is not None and type(logvar) not in (int, float):
        problems.append(f"{where}.LOGVAR_INIT is {logvar!r}; give a number or None")
    elif logvar is not None and not LOGVAR_BOUNDS[0] < logvar < LOGVAR_BOUNDS[1]:
        problems.append(f"{where}.LOGVAR_INIT is {logvar}; it must lie within {LOGVAR_BOUNDS}")
    if node.POSTERIOR == "fixed" and logvar is None:
        problems.append(f"{where}.POSTERIOR 'fixed' needs {where}.LOGVAR_INIT (-7.0: std 0.03)")
    n_words = len(node.CTX_INIT.replace("_", " ").split())
    if n_words and node.N_CTX not in (0, n_words):
        problems.append(
            f"{where}.N_CTX is {node.N_CTX} but {where}.CTX_INIT {node.CTX_INIT!r} has {n_words} "
            f"words; give N_CTX {n_words}, or CTX_INIT '' to start from random vectors"
        )
    n_samples = check_range(node.L, 1, MOST_SAMPLES, f"{where}.L", problems)
    n_samples_test = check_range(node.L_TEST, 0, MOST_SAMPLES, f"{where}.L_TEST", problems)
    return {
        "posterior": check_choice(node.POSTERIOR, POSTERIORS, f"{where}.POSTERIOR", problems),
        "conditional": trainer == "VPT_CoCoOp",
        "residual": check_choice(node.RESIDUAL, RESIDUALS, f"{where}.RESIDUAL", problems),
        "learn_context": bool(node.LEARN_CONTEXT),
        "logvar_init": logvar,
        "prior_std": check_range(node.PRIOR_STD, 1e-6, 1e6, f"{where}.PRIOR_STD", problems),
        "sampler": check_choice(node.SAMPLER, SAMPLERS, f"{where}.SAMPLER", problems),
        "n_samples": n_samples,
        "n_samples_test": n_samples_test or n_samples,
        "test_seed": check_range(node.TEST_SEED, 0, 2**63 - 1, f"{where}.TEST_SEED", problems),
        "objective": check_choice(node.OBJECTIVE, OBJECTIVES, f"{where}.OBJECTIVE", problems),
        "kl_weight": check_range(node.KL_WEIGHT, 0, 1e6, f"{where}.KL_WEIGHT", problems),
        "kl_reduction": check_choice(
            node.KL_REDUCTION, KL_REDUCTIONS, f"{where}.KL_REDUCTION", problems
        ),
    }
