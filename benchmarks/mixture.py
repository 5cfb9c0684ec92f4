"""A posterior of several modes against every control that it owes: 8 sets, 15 seeds.

    python benchmarks/mixture.py --shots 16
    python benchmarks/mixture.py --report

A task is drawn anew for each seed: classes, images, and which half of the classes is base. Every
method learns from the same images of base classes; docs/mixture.md is the protocol, with what was
chosen and where. Learning is on features, many prompts at once, so that a task takes seconds. The
JSON is written anew after each task; a second call goes on where the first one stopped. Seeds come
one after another, so that after each of them the table is complete. `--validation` draws other
seeds, for choices, into a file of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._rows import guarded, read, rounded, write  # noqa: E402
from varprompt.common.console import say  # noqa: E402
from varprompt.embedded.sets import SETS  # noqa: E402
from varprompt.errors import ConfigError  # noqa: E402

RESULTS = ROOT / "benchmarks/results/mixture.json"
ADDED = RESULTS.with_name("mixture_added.json")  # of groups that the protocol did not have at first
KEY = ("dataset", "seed", "shots", "method")
SHOTS = (16, 1, 4, 2)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--report", action="store_true", help="tables and figure of what is there")
    p.add_argument("--seeds", type=int, default=15, help="how many; default: %(default)s")
    p.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="default: 16 1 4 2")
    p.add_argument("--datasets", nargs="+", default=list(SETS), choices=SETS, metavar="NAME")
    p.add_argument("--groups", nargs="+", metavar="NAME",
                   help="of methods that are learned together; default: all")  # fmt: skip
    p.add_argument("--validation", action="store_true", help="seeds that choices are made on")
    p.add_argument(
        "--data", type=Path, default=ROOT / "data/mixture", help="features are kept here"
    )
    p.add_argument("--output", type=Path, help=f"JSON file; default: {RESULTS.name}")
    return p


def measure(args: argparse.Namespace, output: Path) -> None:
    """Run what is missing in `output`.

    Raises:
        ConfigError: it is a file of something else.
    """
    import torch

    from benchmarks._mixture_figures import figures
    from benchmarks._mixture_groups import GROUPS, STAGES
    from benchmarks._mixture_rows import Bed
    from benchmarks._mixture_tasks import TEST_SEEDS, VALIDATION_SEEDS, draw, towers
    from benchmarks._report import environment

    torch.set_num_threads(1)
    wanted = set(args.groups or GROUPS)
    if unknown := wanted - GROUPS.keys():
        raise ConfigError(f"no groups {sorted(unknown)}; choose from {', '.join(GROUPS)}")
    rows = read(output, KEY)
    args.data.mkdir(parents=True, exist_ok=True)
    seeds = (VALIDATION_SEEDS if args.validation else TEST_SEEDS)[: args.seeds]
    head = {"environment": environment(torch.device("cpu"))}
    done = {(row["dataset"], row["seed"], row["shots"], row["group"]) for row in rows}
    clip = towers()
    for shots, stage, seed, dataset in product(args.shots, STAGES, seeds, args.datasets):
        missing = [g for g in stage if g in wanted and (dataset, seed, shots, g) not in done]
        if not missing:
            continue
        task = draw(dataset, seed, shots, clip, args.data)
        bed = Bed.of(task, clip)
        for group in missing:
            started = time.process_time()
            found = GROUPS[group](bed, task, seed)
            about = {"group": group, "group_s": rounded(time.process_time() - started)}
            for method, one in found.items():
                row = dict(zip(KEY, (dataset, seed, shots, method), strict=True))
                values = {k: rounded(v) for k, v in figures(bed, task, one).items()}
                rows.append(row | about | {"rows": one.rows} | values)
        write(output, rows, head, KEY)
        say(f"{shots} shots, seed {seed}, {dataset}: {', '.join(missing)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured; 2 for input that cannot be."""
    args = parser().parse_args(argv)
    name = "mixture_validation.json" if args.validation else RESULTS.name
    output = args.output or RESULTS.with_name(name)

    def work() -> None:
        if args.report:
            from benchmarks._mixture_report import report

            rows = read(output, KEY) + (read(ADDED, KEY) if output == RESULTS else [])
            report(rows, output.with_suffix(".png"))
        else:
            measure(args, output)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
