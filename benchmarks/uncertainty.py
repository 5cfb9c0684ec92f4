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
import json
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
from varprompt.common.console import say  # noqa: E402
from varprompt.common.files import write_atomic  # noqa: E402
from varprompt.errors import ConfigError  # noqa: E402

RESULTS = ROOT / "benchmarks/results/uncertainty.json"
DIGITS = 5  # significant digits that are kept
KEY = ("dataset", "seed", "method")
Row = dict[str, Any]  # of one run: KEY, and figures by PART/CALIBRATOR/NAME


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


def read(path: Path, key: tuple[str, ...] = KEY) -> list[Row]:
    """The rows of a results file, none if there is no file.

    Args:
        path: of the file.
        key: columns that say what a row is of.

    Raises:
        ConfigError: it is no results file.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [*key, *content["columns"]]
        rows = [dict(zip(names, row, strict=True)) for row in content["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of this benchmark ({error!r})") from error
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def write(
    path: Path, rows: Sequence[Row], head: dict[str, Any], key: tuple[str, ...] = KEY
) -> None:
    """One line a run; columns that not all methods have are null there."""
    columns = sorted({name for row in rows for name in row} - set(key))
    lines = [json.dumps([row.get(name) for name in (*key, *columns)], separators=(",", ":"))
             for row in rows]  # fmt: skip
    start = json.dumps(head | {"columns": columns}, indent=1).removesuffix("\n}")
    text = start + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def rounded(value: float | None) -> float | None:
    """To `DIGITS` significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


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
    try:
        if args.report:
            from benchmarks._uncertainty_report import report

            report(read(args.output), args.output.with_suffix(".png"))
        else:
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            tempfile.tempdir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
            measure(args)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
