"""CoOp's command line, and the configuration that it asks for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection
from typing import Any

from ..common.checks import check_choice
from ..errors import ConfigError
from .flags import Parser, given, given_among_others
from .plugins import add_import_flag

USAGE = """Train and test prompt learners: CoOp's command line.

python train.py --root DATA --trainer VPT --seed 1 \\
        --dataset-config-file configs/datasets/digits.yaml \\
        --config-file configs/trainers/VPT/embedded.yaml \\
        --output-dir output/digits TRAINER.VPT.L 20
"""


def parser() -> argparse.ArgumentParser:
    """CoOp's flags; everything after them is KEY VALUE pairs of the configuration."""
    p = Parser(
        description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("--root", type=given, help="folder of the data sets (DATASET.ROOT)")
    p.add_argument("--output-dir", type=given, help="where log, results and checkpoints go")
    p.add_argument("--resume", type=given, help="go on from another run's folder")
    p.add_argument("--seed", type=int, help="0 or more makes the run repeatable")
    p.add_argument("--source-domains", nargs="+", type=given_among_others, help=argparse.SUPPRESS)
    p.add_argument("--target-domains", nargs="+", type=given_among_others, help=argparse.SUPPRESS)
    p.add_argument("--transforms", nargs="+", type=given_among_others, help="INPUT.TRANSFORMS")
    p.add_argument("--config-file", type=given, help="configs/trainers/TRAINER/NAME.yaml")
    p.add_argument("--dataset-config-file", type=given, help="configs/datasets/NAME.yaml")
    p.add_argument("--trainer", type=given, help="VPT, VPT_CoCoOp, CoOp, CoCoOp, ZeroshotCLIP ...")
    p.add_argument("--backbone", type=given, help="CLIP name, e.g. ViT-B/16, or embedded")
    p.add_argument("--head", type=given, help=argparse.SUPPRESS)
    p.add_argument("--eval-only", action="store_true", help="test the model in --model-dir")
    p.add_argument("--model-dir", type=given, help="--output-dir of the training run")
    p.add_argument("--load-epoch", type=int, help="epoch to load; default: best or last")
    p.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    p.add_argument(
        "--no-cache", action="store_true",
        help="encode test images anew; else their features are kept in $VARPROMPT_CACHE or "
             "~/.cache/varprompt/features (TEST.CACHE_SIZE_GB)",
    )  # fmt: skip
    add_import_flag(p)
    p.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE",
        help="e.g. TRAINER.VPT.L 20; of a key that comes again the last value counts",
    )  # fmt: skip
    return p


def setup_cfg(args: argparse.Namespace) -> Any:
    """Defaults, data set file, trainer file, flags, KEY VALUE pairs, in this order; frozen.

    Trainers that are registered before have their options there.

    Raises:
        ConfigError: a file, key, value or name that does not exist or does not fit.
    """
    from .merge import merge_file, merge_pairs
    from .nodes import default_tree, drop_unused

    cfg = default_tree()
    flags = {
        "DATASET.ROOT": os.path.abspath(os.path.expanduser(args.root)) if args.root else None,
        "OUTPUT_DIR": args.output_dir, "RESUME": args.resume, "SEED": args.seed,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms, "TRAINER.NAME": args.trainer,
        "MODEL.BACKBONE.NAME": args.backbone, "MODEL.HEAD.NAME": args.head,
        "TEST.CACHE_SIZE_GB": 0 if args.no_cache else None,
    }  # fmt: skip
    problems: list[str] = []
    for merge, source in (
        (merge_file, args.dataset_config_file), (merge_file, args.config_file),
        (merge_pairs, [x for k, v in flags.items() if v is not None for x in (k, v)]),
        (merge_pairs, args.opts),
    ):  # fmt: skip
        if source:
            _collect(problems, merge, cfg, source)
    for key in ("OUTPUT_DIR", "RESUME"):
        cfg[key] = os.path.expanduser(cfg[key])  # of a file, or of --output-dir=~/x
    if not cfg.OUTPUT_DIR:
        problems.append("OUTPUT_DIR is empty; give --output-dir FOLDER")
    if problems:
        raise ConfigError(problems)
    drop_unused(cfg)
    cfg.freeze()
    return cfg


def check_command(
    cfg: Any, args: argparse.Namespace, trainers: Collection[str], data_sets: Collection[str]
) -> None:
    """Find out before any work whether the run can be.

    Args:
        cfg: from `setup_cfg`.
        args: from `parser`.
        trainers: names of those that may be asked for.
        data_sets: names of those that may be asked for.

    Raises:
        ConfigError: unknown trainer, data set or CLIP, options that do not fit.
    """
    from ..towers.load import check_backbone
    from .nodes import learns, prompt_config

    problems: list[str] = []
    if check_choice(cfg.TRAINER.NAME, trainers, "TRAINER.NAME (--trainer)", problems) in trainers:
        _collect(problems, prompt_config, cfg, cfg.TRAINER.NAME)
    check_choice(cfg.DATASET.NAME, data_sets, "DATASET.NAME (--dataset-config-file)", problems)
    trained = args.model_dir or cfg.MODEL.INIT_WEIGHTS
    untaught = cfg.TRAINER.NAME in trainers and not learns(cfg.TRAINER.NAME)
    if args.eval_only and not trained and not untaught:
        problems.append(
            "--eval-only needs --model-dir, the --output-dir of the training run; without it an "
            "untrained prompt would be tested"
        )
    if not args.eval_only and (args.model_dir or args.load_epoch is not None):
        problems.append(
            "--model-dir and --load-epoch choose the model to test and need --eval-only; training "
            "goes on from another run with --resume, or starts from MODEL.INIT_WEIGHTS"
        )
    if not cfg.MODEL.BACKBONE.PATH:
        _collect(problems, check_backbone, cfg.MODEL.BACKBONE.NAME)
    if problems:
        raise ConfigError(problems)


def _collect(problems: list[str], work: Callable[..., Any], *args: Any) -> None:
    try:
        work(*args)
    except ConfigError as error:
        problems += error.problems
