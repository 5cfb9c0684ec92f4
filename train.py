"""Train and test prompt learners: CoOp's command line.

python train.py --root DATA --trainer VPT --seed 1 \
        --dataset-config-file configs/datasets/digits.yaml \
        --config-file configs/trainers/VPT/embedded.yaml \
        --output-dir output/digits TRAINER.VPT.L 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from varprompt.console import need_packages

if __name__ == "__main__":
    need_packages()

from varprompt.errors import ConfigError, VarPromptError, out_of_memory
from varprompt.settings.command import check_command, parser, setup_cfg
from varprompt.settings.nodes import learns
from varprompt.settings.plugins import load_plugins

EXIT_BAD_INPUT = 2


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

    import torch
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import datasets  # noqa: F401  registers the data sets
    import trainers.baselines  # noqa: F401  registers the trainers
    from trainers.state import model_file
    from varprompt.run.folder import kept_seed, sole_user
    from varprompt.run.log import tee_stdout

    load_plugins(args.plugins)
    cfg = setup_cfg(args)
    check_run(cfg, args)
    if args.eval_only and args.model_dir and learns(cfg.TRAINER.NAME):
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


def check_run(cfg: Any, args: argparse.Namespace) -> None:
    """Find out before any work whether the run can be.

    Raises:
        ConfigError: unknown trainer, data set or CLIP, options that do not fit.
    """
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY

    from trainers.base import PromptTrainer

    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    ours = {  # the real Dassl has trainers of another kind, too
        name: kind for name, kind in found.items() if issubclass(kind, PromptTrainer)
    }
    check_command(cfg, args, ours, DATASET_REGISTRY.registered_names())


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
    if args.eval_only and args.model_dir and learns(cfg.TRAINER.NAME):
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
