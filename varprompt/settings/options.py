"""All options in one table: those that are added to Dassl's, and Dassl's that have limits here.

The table is read by the code that makes the tree of options, merges files and KEY VALUE pairs into
it, checks it, and compares two runs. What an option of the prompt means is known to
`varprompt.config.PromptConfig`, which checks its own fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..checks import check_choice, check_range
from ..run.schedule import SCHEDULES, WARMUPS
from ..towers.build import ACTIVATIONS

DASSL = object()
"""Stands for a default value that Dassl's own tree gives."""

SUBSETS = ("all", "base", "new")
LISTINGS = ("sorted", "os")
TRANSFORMS = (
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop",
    "random_translation", "center_crop", "cutout", "imagenet_policy", "cifar10_policy",
    "svhn_policy", "randaugment", "randaugment_fixmatch", "randaugment2", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
)  # fmt: skip


@dataclass(frozen=True)
class Between:
    """A number from `least` to `most`."""

    least: float
    most: float

    def check(self, value: Any, key: str, problems: list[str]) -> None:
        """Note in `problems` if it is not."""
        check_range(value, self.least, self.most, key, problems)


@dataclass(frozen=True)
class OneOf:
    """One of some values; of a list, each of its members."""

    values: tuple[Any, ...]

    def check(self, value: Any, key: str, problems: list[str]) -> None:
        """Note in `problems` if it is not."""
        if isinstance(value, list | tuple):
            for member in value:
                check_choice(member, self.values, f"a name in {key}", problems)
        else:
            check_choice(value, self.values, key, problems)


@dataclass(frozen=True)
class Numbers:
    """A list of `count` numbers (None: one or more) of a type, each from `least` to `most`."""

    count: int | None
    kind: type
    least: float
    most: float

    def check(self, value: Any, key: str, problems: list[str]) -> None:
        """Note in `problems` if it is not."""
        types = (int,) if self.kind is int else (int, float)
        good = all(type(v) in types and self.least <= v <= self.most for v in value)
        if not good or len(value) != (self.count or max(1, len(value))):
            what = f"{self.count or 'one or more'} {'whole ' * (self.kind is int)}numbers"
            problems.append(f"{key} is {value}; give {what} from {self.least} to {self.most}")


@dataclass(frozen=True)
class Templates:
    """Texts with one {} each, where the class name goes."""

    def check(self, value: Any, key: str, problems: list[str]) -> None:
        """Note in `problems` if they are not."""
        for text in value:
            braces = "".join(x for x in str(text) if x in "{}")
            if not isinstance(text, str) or "{}" not in text or braces != "{}":
                problems.append(
                    f"{key} has {text!r}; a template has one {{}} for the class name, such as "
                    "'an x-ray of a {}.'"
                )


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        default: its value if it is not set; its type is the type of the option, None that of a
            number or None.
        help: what it does.
        allowed: which values it may have; None = any of its type, or what `field` allows.
        field: what it is called in `PromptConfig`, "" if it is not there.
        decides: whether results depend on it, by more than rounding.
    """

    default: Any
    help: str
    allowed: Between | OneOf | Numbers | Templates | None = None
    field: str = ""
    decides: bool = True


def _dassl(allowed: Any = None, help: str = "", decides: bool = True) -> Option:
    return Option(DASSL, help, allowed, decides=decides)


# The options of a node TRAINER.<node>: name -> what is the same in all nodes.
CONTEXT = {
    "N_CTX": Option(4, "number of context tokens", field="n_ctx"),
    "CTX_INIT": Option(
        "a photo of a", "words to start from, '' = random vectors", field="ctx_init"
    ),
    "PREC": Option("fp16", "number format of the towers: fp32, fp16, amp, bf16", field="precision"),
}
CLASS_TOKEN = {
    "CSC": Option(False, "a context of its own for each class", field="class_specific"),
    "CLASS_TOKEN_POSITION": Option(
        "end", "where the class name stands: end, middle, front", field="position"
    ),
}
VARIATIONAL = {
    "L": Option(10, "samples in training", field="n_samples"),
    "L_TEST": Option(0, "samples at test, 0 = L", field="n_samples_test"),
    "TEST_SEED": Option(0, "seed of the samples at test", field="test_seed"),
    "SAMPLER": Option("gaussian", "how samples are drawn", field="sampler"),
    "OBJECTIVE": Option("iwae", "bound on the likelihood", field="objective"),
    "KL_WEIGHT": Option(0.001, "factor of the KL divergence", field="kl_weight"),
    "KL_REDUCTION": Option("mean", "what the KL is divided by", field="kl_reduction"),
    "PRIOR_STD": Option(1.0, "standard deviation of the prior", field="prior_std"),
    "LOGVAR_INIT": Option(
        None, "log-variance to start from, None = the authors' initialisation", field="logvar_init"
    ),
    "POSTERIOR": Option("gaussian", "family of the posterior", field="posterior"),
    "RANK": Option(4, "columns of the factor of posterior low_rank", field="rank"),
    "RESIDUAL": Option("shared", "one residual for all context tokens, or one per token",
                       field="residual"),
    "LEARN_CONTEXT": Option(True, "learn the context besides the residual", field="learn_context"),
}  # fmt: skip
FOR_ALL = {  # every trainer has a text tower; the key is of the time of two trainers
    "TRAINER.VPT.MEM_BUDGET": Option(
        0, "bytes for text activations, 0 = half of the free memory", field="mem_budget",
        decides=False,
    ),
}  # fmt: skip


def node_options(node: str, options: Mapping[str, Option], **defaults: Any) -> dict[str, Option]:
    """The rows of a node: full key -> option, with other default values where given."""
    return {
        f"TRAINER.{node}.{name}": replace(option, default=defaults.get(name, option.default))
        for name, option in options.items()
    }


_INFINITY = math.inf
# What has no natural limit has one far beyond use, so that a slip is an answer at once and not a
# day of swapping.
OPTIONS: dict[str, Option] = {
    "DATALOADER.K_TRANSFORMS": _dassl(OneOf((1,))),
    "DATALOADER.NUM_WORKERS": _dassl(Between(0, 1000), decides=False),
    "DATALOADER.RETURN_IMG0": _dassl(OneOf((False,))),
    "DATALOADER.TEST.BATCH_SIZE": _dassl(Between(1, 10**6)),
    "DATALOADER.TEST.SAMPLER": _dassl(OneOf(("SequentialSampler",))),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _dassl(Between(1, 10**6)),
    "DATALOADER.TRAIN_X.SAMPLER": _dassl(OneOf(("RandomSampler",)), "there are no domains"),
    "DATASET.LISTING": Option(
        "sorted", "order of ImageNet's files; os = the file system's, as in CoOp", OneOf(LISTINGS)
    ),
    "DATASET.PATH": Option("", "images of your own for the data set Folder"),
    "DATASET.ROOT": _dassl(help="folder of the data sets", decides=False),
    "DATASET.SUBSAMPLE_CLASSES": Option("all", "which half of the classes", OneOf(SUBSETS)),
    "INPUT.COLORJITTER_B": _dassl(Between(0, 100)),
    "INPUT.COLORJITTER_C": _dassl(Between(0, 100)),
    "INPUT.COLORJITTER_H": _dassl(Between(0, 0.5)),
    "INPUT.COLORJITTER_S": _dassl(Between(0, 100)),
    "INPUT.CROP_PADDING": _dassl(Between(0, 1000)),
    "INPUT.CUTOUT_LEN": _dassl(Between(0, 10**4)),
    "INPUT.CUTOUT_N": _dassl(Between(0, 1000)),
    "INPUT.GB_K": _dassl(Between(1, 999)),
    "INPUT.GB_P": _dassl(Between(0, 1)),
    "INPUT.GN_MEAN": _dassl(Between(-1000, 1000)),
    "INPUT.GN_STD": _dassl(Between(0, 1000)),
    "INPUT.INTERPOLATION": _dassl(OneOf(("bilinear", "bicubic", "nearest"))),
    "INPUT.NO_TRANSFORM": _dassl(OneOf((False,))),
    "INPUT.PIXEL_MEAN": _dassl(Numbers(3, float, -1000, 1000)),
    "INPUT.PIXEL_STD": _dassl(Numbers(3, float, 1e-6, 1000)),
    "INPUT.RANDAUGMENT_M": _dassl(Between(0, 30)),
    "INPUT.RANDAUGMENT_N": _dassl(Between(0, 100)),
    "INPUT.RGS_P": _dassl(Between(0, 1)),
    "INPUT.RRCROP_SCALE": _dassl(Numbers(2, float, 1e-6, 1)),
    "INPUT.SIZE": _dassl(Numbers(2, int, 1, 10**4)),
    "INPUT.TRANSFORMS": _dassl(OneOf(TRANSFORMS)),
    "MODEL.BACKBONE.ACTIVATION": Option(
        "", "quick_gelu or gelu, for a PATH that does not say it", OneOf(("", *ACTIVATIONS))
    ),
    "MODEL.BACKBONE.PATH": Option("", "a CLIP weight file, overrides MODEL.BACKBONE.NAME"),
    "MODEL.BACKBONE.PRETRAINED": _dassl(OneOf((True,)), "a prompt for random towers means nothing"),
    "OPTIM.ADAM_BETA1": _dassl(Between(0, 0.999999)),
    "OPTIM.ADAM_BETA2": _dassl(Between(0, 0.999999)),
    "OPTIM.GAMMA": _dassl(Between(0, 1)),
    "OPTIM.LR": _dassl(Between(0, 1000)),
    "OPTIM.LR_SCHEDULER": _dassl(OneOf(SCHEDULES)),
    "OPTIM.MAX_EPOCH": _dassl(Between(0, 10**6)),
    "OPTIM.MOMENTUM": _dassl(Between(0, 1)),
    "OPTIM.NAME": _dassl(OneOf(("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"))),
    "OPTIM.RMSPROP_ALPHA": _dassl(Between(0, 1)),
    "OPTIM.SGD_DAMPNING": _dassl(Between(0, 1)),
    "OPTIM.STAGED_LR": _dassl(OneOf((False,)), "would leave out what is in no layer: the context"),
    "OPTIM.STEPSIZE": _dassl(Numbers(None, int, -1, 10**6)),
    "OPTIM.WARMUP_CONS_LR": _dassl(Between(0, 1000)),
    "OPTIM.WARMUP_EPOCH": _dassl(Between(-1, 10**6)),
    "OPTIM.WARMUP_MIN_LR": _dassl(Between(0, 1000)),
    "OPTIM.WARMUP_TYPE": _dassl(OneOf(WARMUPS)),
    "OPTIM.WEIGHT_DECAY": _dassl(Between(0, 1000)),
    "OUTPUT_DIR": _dassl(decides=False),
    "RESUME": _dassl(decides=False),
    "SEED": _dassl(Between(-_INFINITY, 2**32 - 1), "0 or more makes the run repeatable"),
    "TEST.CACHE_SIZE_GB": Option(
        5.0, "of all features of test images on disk, 0 = no cache", Between(0, _INFINITY),
        decides=False,
    ),
    "TEST.EVALUATOR": _dassl(OneOf(("Classification",))),
    "TEST.FINAL_MODEL": _dassl(OneOf(("last_step", "best_val"))),
    "TEST.SPLIT": _dassl(OneOf(("val", "test"))),
    "TRAIN.CHECKPOINT_FREQ": _dassl(decides=False),
    "TRAIN.CHECKPOINT_STEPS": Option(
        0, "updates between two saved states, 0 = at the ends of epochs only",
        Between(0, _INFINITY), decides=False,
    ),
    "TRAIN.CLIP_GRAD_NORM": Option(
        0.0, "largest norm of the gradient of what is learned, 0 = off", Between(0, 10**6)
    ),
    "TRAIN.COMPILE": Option(False, "torch.compile for the text tower; does not pay on a CPU"),
    "TRAIN.DETERMINISTIC": Option(False, "only deterministic algorithms; slower on a GPU"),
    "TRAIN.FEATURE_CACHE": Option(
        0, "N > 0: N augmented views of each training image are encoded before training, and epoch "
        "e sees view e mod N. Faster, but another stream of augmentations (and at most N different "
        "ones), so figures differ from N = 0. Takes N * images * E * 4 bytes.", Between(0, 1000),
    ),
    "TRAIN.MAX_BAD_STEPS": Option(
        0, "updates that may be left out because the loss or a gradient is NaN or infinite",
        Between(0, _INFINITY), decides=False,
    ),
    "TRAIN.PRINT_FREQ": _dassl(Between(1, _INFINITY), decides=False),
    "USE_CUDA": _dassl(decides=False),
    "VERBOSE": _dassl(decides=False),
    **node_options("COOP", CONTEXT | CLASS_TOKEN, N_CTX=16, CTX_INIT=""),
    **node_options("COCOOP", CONTEXT, N_CTX=16, CTX_INIT=""),
    **node_options("VPT", CONTEXT | VARIATIONAL),
    **FOR_ALL,
    "TRAINER.ZEROSHOT.TEMPLATES": Option(
        (), "prompts with {} for the class name, several are averaged; () = the trainer's own",
        Templates(),
    ),
}  # fmt: skip

# Dassl's options that nothing here reads.
UNREAD = (
    "DATALOADER.TRAIN_U.", "DATALOADER.TRAIN_X.N_", "MODEL.HEAD.", "OPTIM.BASE_LR_MULT",
    "OPTIM.NEW_LAYERS", "TRAIN.COUNT_ITER",
)  # fmt: skip


def value_of(cfg: Any, key: str) -> Any:
    """The value of a dotted key."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def leaves(tree: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
