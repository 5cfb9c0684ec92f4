"""Train and test prompt learners: CoOp's command line.

python train.py --root DATA --trainer VPT --seed 1 \
        --dataset-config-file configs/datasets/digits.yaml \
        --config-file configs/trainers/VPT/embedded.yaml \
        --output-dir output/digits TRAINER.VPT.L 20
"""

import sys

try:
    from varprompt.common.console import EXIT_RESUMABLE, exit_at_interrupt, need_packages
except KeyboardInterrupt:  # in the first instants
    sys.stderr.write("interrupted\n")
    sys.exit(75)

if __name__ == "__main__":
    exit_at_interrupt(EXIT_RESUMABLE)  # until main has handlers of its own
    need_packages()

from varprompt.commands.train import EXIT_BAD_INPUT, check_run, main, parser, run, setup_cfg

__all__ = ["EXIT_BAD_INPUT", "check_run", "main", "parser", "run", "setup_cfg"]

if __name__ == "__main__":
    sys.exit(main())
