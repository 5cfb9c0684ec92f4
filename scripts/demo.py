"""Train every method on base classes of the embedded data sets and test on new ones.

Prints one table and writes it as CSV, JSON, Markdown, LaTeX and a figure. Finished runs are kept:
a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ("digits", "chalk", "stretch", "zoom")
SEEDS = (1, 2, 3)
SHOTS = 16
# trainer, name of its config in the results, options on top of its embedded.yaml
METHODS = (
    ("ZeroshotCLIP", "embedded", ()),
    ("CoOp", "embedded", ()),
    ("CoCoOp", "embedded", ()),
    ("VPT", "embedded", ()),
    ("VPT", "embedded_map", ("TRAINER.VPT.POSTERIOR", "delta")),
    ("VPT_CoCoOp", "embedded", ()),
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--output", type=Path, default=ROOT / "output" / "demo", help="results")
    p.add_argument("--data", type=Path, default=ROOT / "data", help="data sets, made on first use")
    p.add_argument("--datasets", nargs="+", default=DATASETS, metavar="NAME",
                   help=f"of configs/datasets; default: {' '.join(DATASETS)}")  # fmt: skip
    p.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: 1 2 3")
    p.add_argument("--quick", action="store_true", help="one seed, digits only")
    p.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1),
                   help="runs at the same time, one thread each")  # fmt: skip
    return p


def commands(trainer: str, config: str, options: tuple[str, ...], dataset: str, seed: int,
             data: Path, output: Path) -> list[list[str]]:  # fmt: skip
    """Arguments of train.py for the run on base classes and the test on new ones."""
    folder = "CoOp" if trainer == "ZeroshotCLIP" else trainer
    common = [
        "--root", str(data), "--trainer", trainer, "--seed", str(seed),
        "--dataset-config-file", str(ROOT / f"configs/datasets/{dataset}.yaml"),
        "--config-file", str(ROOT / f"configs/trainers/{folder}/embedded.yaml"),
    ]  # fmt: skip
    pairs = ["DATASET.NUM_SHOTS", str(SHOTS), *options]
    if trainer == "ZeroshotCLIP":
        parts = [output / trainer / config / dataset / part for part in ("base", "new")]
        extra = [["--eval-only"], ["--eval-only"]]
    else:
        tail = Path(dataset, f"shots_{SHOTS}", trainer, config, f"seed{seed}")
        parts = [output / "base2new" / part / tail for part in ("train_base", "test_new")]
        extra = [[], ["--eval-only", "--model-dir", str(parts[0])]]
    return [
        [*common, "--output-dir", str(part), *flags, *pairs, "DATASET.SUBSAMPLE_CLASSES", subset]
        for part, flags, subset in zip(parts, extra, ("base", "new"), strict=True)
    ]


def run(argvs: list[list[str]]) -> None:
    """Call train.py's main in this process; what it prints goes to the run's log.txt only.

    Raises:
        RuntimeError: a run failed.
    """
    import torch

    import train

    torch.set_num_threads(1)
    for argv in argvs:
        said = Path(argv[argv.index("--output-dir") + 1], "stderr.txt")
        said.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(said, "w", encoding="utf-8") as errors,
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(errors),
        ):
            code = train.main(argv)
        if code:
            text = said.read_text(encoding="utf-8").strip()
            raise RuntimeError(f"train.py {' '.join(argv)}\nended with {code}: {text}")
        said.unlink()
    gc.collect()  # a trainer holds itself in a cycle, with its model


def all_runs(args: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Name of a run -> its commands; zero-shot has no seed and is run once."""
    return {
        f"{trainer} {config} {dataset} seed {seed}": commands(
            trainer, config, options, dataset, seed, args.data, args.output
        )
        for seed in args.seeds
        for dataset in args.datasets
        for trainer, config, options in METHODS
        if trainer != "ZeroshotCLIP" or seed == args.seeds[0]
    }


def execute(runs: dict[str, list[list[str]]], jobs: int) -> list[str]:
    """Run everything with a progress bar; returns what failed."""
    from tqdm import tqdm

    failures = []
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        tqdm(total=len(runs), unit="run", desc="demo", smoothing=0) as bar,
    ):
        slow_first = sorted(runs, key=lambda name: not name.startswith("VPT_CoCoOp"))
        waiting = {pool.submit(run, runs[name]): name for name in slow_first}
        try:
            for future in as_completed(waiting):
                bar.set_postfix_str(waiting[future])
                bar.update()
                if future.exception() is not None:
                    failures.append(f"{waiting[future]}: {future.exception()}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures


def show(output: Path) -> None:
    """Print the table; write it and the figure into `output`."""
    import report
    from varprompt.report.runs import find_runs

    report.main([str(output), "--write", str(output), "--no-published"])
    rows = [
        {
            "trainer": r.method.trainer, "config": r.method.config, "dataset": r.dataset,
            "classes": r.part, "seed": r.seed, **r.metrics,
        }
        for r in find_runs(output).runs
    ]  # fmt: skip
    (output / "runs.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def main() -> int:
    """Run the demo; returns the exit code."""
    args = parser().parse_args()
    args.output, args.data = args.output.resolve(), args.data.resolve()
    if args.quick:
        args.datasets, args.seeds = DATASETS[:1], SEEDS[:1]
    unknown = [d for d in args.datasets if not (ROOT / f"configs/datasets/{d}.yaml").is_file()]
    if unknown:
        print(f"error: no configs/datasets/{unknown[0]}.yaml", file=sys.stderr)
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers: one thread a run
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path.insert(0, str(ROOT))
    args.data.mkdir(parents=True, exist_ok=True)
    runs = all_runs(args)
    print(
        f"{len(runs)} runs ({', '.join(args.datasets)}; seeds {', '.join(map(str, args.seeds))}) "
        f"into {args.output}", file=sys.stderr,
    )  # fmt: skip
    try:
        failures = execute(runs, args.jobs)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    show(args.output)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
