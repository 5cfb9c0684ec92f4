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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from ..common.console import EXIT_BAD_INPUT
from ..errors import VarPromptError, out_of_memory
from ..settings.command import check_command, parser, setup_cfg
from ..settings.plugins import load_plugins, share_packages

if TYPE_CHECKING:
    from ..common.ranks import Ranks
    from ..run.interrupt import StopRequest
    from ..run.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run one training or test; returns the exit code."""
    from ..run.interrupt import INTERRUPTED, stop_on_signal
    from ..run.log import safe_streams

    with safe_streams():
        args = parser().parse_args(argv)
        try:
            with stop_on_signal() as stop:
                return run(args, stop)
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
            print(INTERRUPTED, file=sys.stderr)
            raise


def is_finished(argv: Sequence[str]) -> bool:
    """Whether a call with these arguments would find its run done already.

    Raises:
        VarPromptError: it would end with an error before any work.
    """
    args = parser().parse_args(argv)
    _register()
    _, _, finished = _recognised(args, note=lambda text: None)
    return finished()


def check_arguments(argv: Sequence[str]) -> None:
    """Find out whether a call with these arguments can be, without looking at any data.

    Raises:
        ConfigError: unknown or unfitting trainer, data set, CLIP or options.
    """
    args = parser().parse_args(argv)
    _register()
    load_plugins(args.plugins)
    check_run(setup_cfg(args), args)


def _register() -> str:
    """Register data sets and trainers; returns which Dassl they plug into."""
    from ..standin.which import ensure_dassl

    description = ensure_dassl()
    share_packages()

    import varprompt.datasets  # registers the data sets
    import varprompt.trainers.baselines  # noqa: F401  registers the trainers

    return description


def _recognised(
    args: argparse.Namespace, note: Callable[[str], None]
) -> tuple[Any, Run, Callable[[], bool]]:
    """Configuration and run of a command, and what tells whether it is done already."""
    from varprompt.trainers.identity import identity_of_command

    from ..run.predictions import file_name
    from ..run.run import Run
    from ..settings.merge import difference

    load_plugins(args.plugins)
    cfg = setup_cfg(args)
    check_run(cfg, args)
    identify = identity_of_command(cfg, args)
    this = Run(cfg.OUTPUT_DIR, cfg.dump(), difference, note)
    table = file_name(cfg.TEST.PREDICTIONS)
    return cfg, this, partial(this.is_finished, cfg.SEED, identify, table)


def run(args: argparse.Namespace, stop: StopRequest) -> int:
    """Build the configuration, then train or test, unless that is done already."""
    stop.importing = True
    description = _register()

    import torch

    from ..common.ranks import joined

    stop.importing = False
    cfg, this, finished = _recognised(args, print)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    with joined(cfg.USE_CUDA) as ranks, _only_first_prints(ranks):
        this.writes = ranks.first
        if ranks.of_first(finished):
            return 0
        return _train_or_test(args, cfg, this, description, ranks)


@contextmanager
def _only_first_prints(ranks: Ranks) -> Iterator[None]:
    """What every process of a run would print is printed once."""
    if ranks.first:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _train_or_test(
    args: argparse.Namespace, cfg: Any, this: Run, description: str, ranks: Ranks
) -> int:
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    from ..run.log import quiet_writer_threads

    with this.lock():
        set_random_seed(ranks.of_first(lambda: this.seed(cfg.SEED)))
        with this.log(), quiet_writer_threads():
            this.print_head(vars(args), cfg.SEED, description)
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
    share_packages()  # who calls this alone has not done so
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY

    from varprompt.trainers.base import PromptTrainer

    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    ours = {  # the real Dassl has trainers of another kind, too
        name: kind for name, kind in found.items() if issubclass(kind, PromptTrainer)
    }
    check_command(cfg, args, ours, DATASET_REGISTRY.registered_names())
