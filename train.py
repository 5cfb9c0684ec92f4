"""Train and test prompt learners: CoOp's command line.

python train.py --root DATA --trainer VPT --seed 1 \
        --dataset-config-file configs/datasets/digits.yaml \
        --config-file configs/trainers/VPT/embedded.yaml \
        --output-dir output/digits TRAINER.VPT.L 20
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from varprompt.errors import ConfigError, VarPromptError, out_of_memory
from varprompt.settings.flags import Parser, given, given_among_others

EXIT_BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """CoOp's flags; everything after them is KEY VALUE pairs of the configuration."""
    p = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
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
    p.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE",
        help="e.g. TRAINER.VPT.L 20; of a key that comes again the last value counts",
    )  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one training or test; returns the exit code."""
    from varprompt.run.interrupt import stop_on_signal

    args = parser().parse_args(argv)
    try:
        with stop_on_signal():
            return run(args)
    except VarPromptError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:  # no permission, full disk ...
        print(f"error: {error}; files that were complete before are kept", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        advice = "lower BATCH_SIZE, L, MEM_BUDGET or NUM_WORKERS"
        print(f"error: {error}: the memory seems full; {advice}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except SystemExit:
        print("interrupted: the same command goes on from the last state", file=sys.stderr)
        raise


def run(args: argparse.Namespace) -> int:
    """Build the configuration, seed, log, train or test."""
    from varprompt.standin.which import check_local_packages, ensure_dassl

    description = ensure_dassl()
    check_local_packages()
    cfg = setup_cfg(args)

    import torch
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import datasets  # noqa: F401  registers the data sets
    import trainers.baselines  # noqa: F401  registers the trainers
    from trainers.state import model_file
    from varprompt.run.folder import kept_seed, sole_user
    from varprompt.run.log import tee_stdout

    check_run(cfg, args)
    if args.eval_only and args.model_dir and "Zeroshot" not in cfg.TRAINER.NAME:
        model_file(args.model_dir, args.load_epoch)  # there is one to test
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    with sole_user(cfg.OUTPUT_DIR):
        if already_done(cfg, args):
            return 0
        set_random_seed(cfg.SEED if cfg.SEED >= 0 else kept_seed(cfg.OUTPUT_DIR))
        log = Path(cfg.OUTPUT_DIR, "log.txt")
        goes_on = log.is_file() and log.stat().st_size > 0
        with tee_stdout(log):
            if goes_on:
                print("\n*** Started again; the log goes on ***")
            print_run(args, cfg, description)
            trainer = build_trainer(cfg)
            if args.eval_only:
                trainer.load_model(args.model_dir, epoch=args.load_epoch)
                trainer.test()
            elif not args.no_train:
                trainer.train()
    return 0


def setup_cfg(args: argparse.Namespace) -> Any:
    """Defaults, data set file, trainer file, flags, KEY VALUE pairs, in this order; frozen.

    Raises:
        ConfigError: a file, key, value or name that does not exist or does not fit.
    """
    from dassl.config import get_cfg_default

    from varprompt.settings.merge import merge_file, merge_pairs
    from varprompt.settings.nodes import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    for name in set(cfg.TRAINER) - {"NAME", "VPT", "COOP", "COCOOP"}:
        del cfg.TRAINER[name]  # options of Dassl's own trainers
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
    if not cfg.OUTPUT_DIR:
        problems.append("OUTPUT_DIR is empty; give --output-dir FOLDER")
    if problems:
        raise ConfigError(problems)
    cfg.freeze()
    return cfg


def check_run(cfg: Any, args: argparse.Namespace) -> None:
    """Find out before any work whether the run can be.

    Raises:
        ConfigError: unknown trainer, data set or CLIP, options that do not fit.
    """
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY

    from trainers.base import PromptTrainer
    from varprompt.checks import check_choice
    from varprompt.settings.nodes import prompt_config
    from varprompt.towers.load import check_backbone

    problems: list[str] = []
    ours = [  # the real Dassl has trainers of another kind, too
        name for name in TRAINER_REGISTRY.registered_names()
        if issubclass(TRAINER_REGISTRY.get(name), PromptTrainer)
    ]  # fmt: skip
    if check_choice(cfg.TRAINER.NAME, ours, "TRAINER.NAME (--trainer)", problems) in ours:
        _collect(problems, prompt_config, cfg, cfg.TRAINER.NAME)
    data_sets = DATASET_REGISTRY.registered_names()
    check_choice(cfg.DATASET.NAME, data_sets, "DATASET.NAME (--dataset-config-file)", problems)
    trained = args.model_dir or cfg.MODEL.INIT_WEIGHTS or "Zeroshot" in cfg.TRAINER.NAME
    if args.eval_only and not trained:
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


def already_done(cfg: Any, args: argparse.Namespace) -> bool:
    """Whether the output folder holds the results of this very run.

    Raises:
        ConfigError: it holds those of another configuration.
    """
    from trainers.state import file_sha256, model_file
    from varprompt.run.results import FILE_NAME, read_results
    from varprompt.settings.merge import difference

    results = read_results(cfg.OUTPUT_DIR)
    if results is None or not isinstance(results.get("accuracy"), int | float):
        return False
    file = Path(cfg.OUTPUT_DIR, FILE_NAME)
    changes = difference(str(results.get("config", "")), cfg.dump())
    if changes:
        raise ConfigError(
            f"{file} holds the results of another configuration ({'; '.join(changes[:10])}): give "
            "another --output-dir, or delete the folder"
        )
    if args.eval_only and args.model_dir and "Zeroshot" not in cfg.TRAINER.NAME:
        model = model_file(args.model_dir, args.load_epoch)
        if results.get("checkpoint_sha256") != file_sha256(model):
            return False
    print(
        f"Already done: accuracy {results['accuracy']:.2f} % ({file}); delete it to test again, "
        "the folder to train again"
    )
    return True


def print_run(args: argparse.Namespace, cfg: Any, dassl: str) -> None:
    """Head of the log: arguments, configuration, versions."""
    from varprompt.run.results import provenance

    where = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines = ["***************", "** Arguments **", "***************"]
    lines += [f"{k}: {'' if v is None else v}" for k, v in sorted(vars(args).items())]
    lines += ["************", "** Config **", "************", str(cfg)]
    lines += [f"Versions: {versions}; {dassl}; commit {where['git_commit'] or 'unknown'}"]
    if cfg.SEED >= 0:
        lines += [f"Setting fixed seed: {cfg.SEED}"]
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
