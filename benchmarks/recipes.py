"""How long a training takes by each recipe of the tiny CLIP, in turn in one run.

    python benchmarks/recipes.py --output benchmarks/results/recipes_cpu.json

Base classes of an embedded data set, 16 shots, features of images cached. Processor seconds of a
thread (TRAIN only, without building and testing), the median of --repeats after a first round, and
their ratio to those of MAP by the mixture's own recipe from one template.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._embedded_runs import OFFICIAL, SHOTS, Method, silent, trainer_of  # noqa: E402
from benchmarks._rows import guarded, rounded  # noqa: E402
from varprompt.common.console import out  # noqa: E402

ONE = (
    "TRAINER.VPT.POSTERIOR", "delta", "TRAINER.VPT.TEMPLATES", "[]",
    "TRAINER.VPT.CTX_INIT", "a photo of a",
)  # fmt: skip
RECIPES = {
    "MAP (Adam)": Method("MAP by the mixture's recipe", "VPT", ONE, config="embedded_mixture"),
    "mixture (Adam)": Method("six templates", "VPT", config="embedded_mixture"),
    "mixture (SGD)": Method("six templates", "VPT", config="embedded_mixture_sgd"),
    "MAP (SGD)": Method("MAP by the scaled recipe", "VPT", ("TRAINER.VPT.POSTERIOR", "delta")),
    "scaled": Method("Gaussian, L = 4", "VPT"),
    "official": Method("the authors' objective and noise, L = 10", "VPT", OFFICIAL),
    "CoOp, 50 epochs": Method("CoOp", "CoOp"),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--dataset", default="chalk")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--data", default=str(ROOT / "data"), help="data sets, made on first use")
    p.add_argument("--output", type=Path, help="JSON file")
    return p


def training(method: Method, dataset: str, data: str) -> tuple[int, float]:
    """Steps, and processor seconds of all of them."""
    with tempfile.TemporaryDirectory() as folder, silent():
        trainer = trainer_of(method, dataset, 1, "base", data, folder)
        trainer.save_resume_state = lambda epoch, batch: None
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
        return len(trainer.train_loader_x) * trainer.max_epoch, seconds


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Steps, seconds and the ratio to MAP of every recipe."""
    import torch

    from benchmarks._report import environment, percentiles
    from varprompt.standin.which import ensure_dassl

    torch.set_num_threads(1)
    ensure_dassl()
    import datasets  # noqa: F401  registers the data sets
    import trainers.baselines  # noqa: F401  and the trainers

    Path(args.data).mkdir(parents=True, exist_ok=True)
    found: dict[str, list[float]] = {name: [] for name in RECIPES}
    steps = {}
    turns = list(RECIPES.items()) * (1 + args.repeats)
    for name, method in tqdm(turns, "trainings", disable=None):
        steps[name], seconds = training(method, args.dataset, args.data)
        found[name].append(seconds)
    median = {name: percentiles(own[1:])["p50"] for name, own in found.items()}
    rows = {
        name: {
            "steps": steps[name],
            "cpu_s": [rounded(seconds) for seconds in own[1:]],
            "median_cpu_s": rounded(median[name]),
            "to_map": rounded(median[name] / median["MAP (Adam)"]),
        }
        for name, own in found.items()
    }
    where = environment(torch.device("cpu"))
    return {"environment": where, "dataset": args.dataset, "shots": SHOTS, "recipes": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 2 for input that cannot be."""
    args = parser().parse_args(argv)

    def work() -> None:
        from benchmarks._report import write_json

        report = measure(args)
        out("| recipe | steps | seconds | to MAP |\n|---|---|---|---|")
        for name, row in report["recipes"].items():
            out(f"| {name} | {row['steps']} | {row['median_cpu_s']:.2f} | {row['to_map']:.2f} |")
        if args.output:
            write_json(args.output, report)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
