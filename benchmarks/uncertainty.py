"""How trustworthy the probabilities of prompt learners are: 8 small sets, up to 15 seeds.

    python benchmarks/uncertainty.py --seeds 15
    python benchmarks/uncertainty.py --report

Every method is trained on 16 shots of the base classes of each embedded data set and tested on base
and new classes, as it is and with a temperature that the validation images (four a class, base
classes) ask for; the base classifier also sees the images of the new classes. All figures of
`varprompt.uncertainty` go into one JSON. It is written anew after each run, whole or not at all; a
second call goes on where the first one stopped. Seeds come one after another, so that after each of
them the table is complete for all sets and methods. `--report` prints the tables as Markdown and
draws the figure from the JSON.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._embedded_runs import (  # noqa: E402
    METHODS,
    SETS,
    SLOW,
    figures_of_run,
    test_images,
)
from benchmarks._rows import DIGITS, KEY, guarded, read, rounded, write  # noqa: E402
from varprompt.common.console import say  # noqa: E402

RESULTS = ROOT / "benchmarks/results/uncertainty.json"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--report", action="store_true", help="tables and figure of what is there")
    p.add_argument("--seeds", type=int, default=15, help="1 to this; default: %(default)s")
    p.add_argument("--datasets", nargs="+", default=SETS, choices=SETS, metavar="NAME")
    p.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="NAME",
                   help=f"of {' '.join(METHODS)}")  # fmt: skip
    p.add_argument("--data", default=str(ROOT / "data"), help="data sets, made on first use")
    p.add_argument("--output", type=Path, default=RESULTS, help="JSON file; default: %(default)s")
    p.add_argument("--minutes", type=float, default=float("inf"),
                   help="start no run after so many; default: run to the end")  # fmt: skip
    return p


def measure(args: argparse.Namespace) -> None:
    """Run what is missing in `args.output`.

    Raises:
        ConfigError: `args.output` is a file of something else.
    """
    from benchmarks._report import environment
    from benchmarks._runs import preload

    rows = read(args.output)
    done = {tuple(row[name] for name in KEY) for row in rows}
    preload()
    import torch

    import datasets  # noqa: F401  registers the data sets

    Path(args.data).mkdir(parents=True, exist_ok=True)
    head = {"environment": environment(torch.device("cpu")), "significant_digits": DIGITS}
    images: dict[str, Any] = {}
    end = time.monotonic() + 60 * args.minutes
    wanted = [
        (dataset, seed, method)
        for seed in range(1, args.seeds + 1)
        for late in (None, *SLOW)  # the slowest methods last, so that a cut costs these only
        for dataset in args.datasets
        for method in args.methods
        if (method if method in SLOW else None) == late
    ]
    missing = [key for key in wanted if key not in done]
    say(f"{len(missing)} of {len(wanted)} runs are to be done")
    for number, key in enumerate(missing, 1):
        if time.monotonic() > end:
            say(f"time is over, {len(missing) - number + 1} runs are left for another call")
            return
        dataset, seed, method = key
        if dataset not in images:
            images[dataset] = test_images(dataset, args.data)
        found = figures_of_run(method, dataset, seed, images[dataset], args.data)
        row = dict(zip(KEY, key, strict=True))
        rows.append(row | {name: rounded(value) for name, value in found.items()})
        write(args.output, rows, head)
        say(f"{number}/{len(missing)} {dataset} seed {seed} {method}: trained in "
            f"{found['train_s']:.1f} s, tested in {found['test_s']:.1f} s")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured; 2 for input that cannot be."""
    args = parser().parse_args(argv)

    def work() -> None:
        if args.report:
            from benchmarks._uncertainty_report import report

            report(read(args.output), args.output.with_suffix(".png"))
        else:
            tempfile.tempdir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
            measure(args)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
