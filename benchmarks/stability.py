"""How many samples a recipe needs: accuracy from base to new classes with L = 1, 2, 4 and 10.

    python benchmarks/stability.py --seeds 5
    python benchmarks/stability.py --report

The authors' noise is many times a token embedding, so that with few samples what is learned and
what is averaged is noise. Here the same is measured for their recipe, the scaled one and the
mixture, on embedded data sets: L prompts in training, and as many at test (or 16). The JSON is
written anew after each run; a second call goes on where the first one stopped. `--report` prints
the table and draws the figure.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._embedded_runs import (  # noqa: E402
    OFFICIAL,
    Method,
    logits_of,
    silent,
    test_images,
    trainer_of,
    with_classes,
)
from benchmarks._rows import Row, guarded, read, rounded, write  # noqa: E402
from benchmarks._uncertainty_report import markdown, number  # noqa: E402
from varprompt.common.console import out, say  # noqa: E402
from varprompt.errors import ConfigError  # noqa: E402
from varprompt.objective import average_samples, sample_log_prob  # noqa: E402
from varprompt.report.canvas import grid, save, styles  # noqa: E402
from varprompt.report.stats import harmonic, mean_interval  # noqa: E402
from varprompt.uncertainty import accuracy  # noqa: E402

RESULTS = ROOT / "benchmarks/results/stability.json"
KEY = ("dataset", "seed", "recipe", "n_samples")
DATASETS = ("digits", "chalk", "zoom")
SAMPLES, MOST = (1, 2, 4, 10), 16
FIXED = ("TRAINER.VPT.POSTERIOR", "fixed", "TRAINER.VPT.LOGVAR_INIT", "-7.0")
SLOWER = ("OPTIM.LR", "0.03", "TRAIN.CLIP_GRAD_NORM", "3.0")  # chosen on seeds 21 to 26
GAUSSIAN = ("TRAINER.VPT.COMPONENT", "gaussian")
RECIPES = {
    "official": Method("the authors' noise", "VPT", OFFICIAL),
    "scaled": Method("scaled", "VPT"),
    "slower": Method("scaled, half the rate, gradient clipped at 3", "VPT", SLOWER),
    "fixed": Method("scaled, noise of 0.03 held fixed", "VPT", FIXED),
    "gaussian": Method("mixture, Gaussian components", "VPT", GAUSSIAN, config="embedded_mixture"),
    "points": Method("mixture, points", "VPT", config="embedded_mixture"),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--report", action="store_true", help="table and figure of what is there")
    p.add_argument("--seeds", type=int, default=3, help="1 to this; default: %(default)s")
    p.add_argument("--datasets", nargs="+", default=DATASETS, metavar="NAME")
    p.add_argument("--data", default=str(ROOT / "data"), help="data sets, made on first use")
    p.add_argument("--output", type=Path, default=RESULTS, help="JSON file; default: %(default)s")
    return p


def run(recipe: str, n_samples: int, dataset: str, seed: int, images: Any, data: str) -> Row:
    """Train with L = `n_samples`; accuracies in % with as many at test ("same"), and with 16."""
    chosen = RECIPES[recipe]
    options = (*chosen.options, "TRAINER.VPT.L", str(n_samples))
    method = Method(chosen.title, chosen.trainer, options, config=chosen.config)
    with tempfile.TemporaryDirectory() as folder, silent():
        trainer = trainer_of(method, dataset, seed, "base", data, folder)
        trainer.save_resume_state = lambda epoch, batch: None  # a run that is cut starts again
        trainer.train()
        row: Row = {}
        for part, own in images.items():
            model = with_classes(trainer.model, own.names)
            for name, n_test in (("same", n_samples), ("most", MOST)):
                logits = logits_of(model, own.features, n_test)
                if name == "same":
                    row["prompts"] = len(logits)  # of each class; a mixture has its components
                log_prob = average_samples(sample_log_prob(logits))
                row[f"{part}/{name}"] = rounded(100 * accuracy(log_prob, own.labels))
    return row


def measure(args: argparse.Namespace) -> None:
    """Run what is missing in `args.output`.

    Raises:
        ConfigError: it is a file of something else.
    """
    import torch

    from benchmarks._report import environment
    from benchmarks._runs import preload

    rows = read(args.output, KEY)
    done = {tuple(row[name] for name in KEY) for row in rows}
    preload()
    import datasets  # noqa: F401  registers the data sets

    Path(args.data).mkdir(parents=True, exist_ok=True)
    head = {"environment": environment(torch.device("cpu"))}
    images: dict[str, Any] = {}
    seeds = range(1, args.seeds + 1)
    for seed, dataset, recipe, n_samples in product(seeds, args.datasets, RECIPES, SAMPLES):
        key = (dataset, seed, recipe, n_samples)
        if key in done or (recipe == "points" and n_samples > 1):  # they have no samples
            continue
        if dataset not in images:
            images[dataset] = test_images(dataset, args.data)
        row = run(recipe, n_samples, dataset, seed, images[dataset], args.data)
        rows.append(dict(zip(KEY, key, strict=True)) | row)
        write(args.output, rows, head, KEY)
        say(f"{dataset} seed {seed} {recipe} L = {n_samples}: new {row['new/same']:.1f} %")


def complete(rows: Sequence[Row]) -> list[Row]:
    """Those of the seeds that have as many runs as the first one."""
    counts = Counter(row["seed"] for row in rows)
    return [row for row in rows if counts[row["seed"]] == counts[rows[0]["seed"]]]


def values(rows: Sequence[Row], recipe: str, n_samples: int, key: str) -> dict[tuple, float]:
    """A figure of every data set and seed; `key` is base, new or H, with same or most."""
    part, n_test = key.split("/")
    own = (recipe, 1 if recipe == "points" else n_samples)
    found = {}
    for row in rows:
        if (row["recipe"], row["n_samples"]) == own:
            both = harmonic(row[f"base/{n_test}"], row[f"new/{n_test}"])
            found[row["dataset"], row["seed"]] = both if part == "H" else row[key]
    return found


def table(rows: Sequence[Row]) -> str:
    """Means of each recipe and L, and H minus that of the largest L, over seeds."""
    lines = []
    for recipe, n_samples in product(RECIPES, SAMPLES):
        if recipe == "points" and n_samples > 1:
            continue
        means = [
            statistics.fmean(values(rows, recipe, n_samples, f"{part}/{n_test}").values())
            for n_test in ("same", "most") for part in ("base", "new", "H")
        ]  # fmt: skip
        lines.append([
            RECIPES[recipe].title, str(n_samples), *(number(mean, 1) for mean in means),
            *(_minus_most(rows, recipe, n_samples, f"H/{n_test}") for n_test in ("same", "most")),
        ])  # fmt: skip
    heads = [f"{part}{of}" for of in (", L at test", f", {MOST} at test") for part in
             ("base", "new", "H")]  # fmt: skip
    minus = [f"H minus that of L = {SAMPLES[-1]}{of}" for of in ("", f", {MOST} at test")]
    return markdown(["recipe", "L", *heads, *minus], lines)


def _minus_most(rows: Sequence[Row], recipe: str, n_samples: int, key: str) -> str:
    if n_samples == SAMPLES[-1] or recipe == "points":
        return "-"
    here, most = (values(rows, recipe, n, key) for n in (n_samples, SAMPLES[-1]))
    seeds = sorted({seed for _, seed in here})
    by_seed = [statistics.fmean(here[k] - most[k] for k in here if k[1] == s) for s in seeds]
    mean, half = mean_interval(by_seed)
    return number(mean, 2, "+") + ("" if half is None else f" ± {half:.2f}")


def draw(rows: Sequence[Row], path: Path) -> None:
    """H against L, with as many samples at test and with 16."""
    looks = styles(RECIPES)

    def figure() -> Any:
        made, panels = grid(2, 3.6)
        for axes, (n_test, title) in zip(
            panels, (("same", "L at test, too"), ("most", f"{MOST} at test")), strict=True
        ):
            for recipe, method in RECIPES.items():
                colour, marker = looks[recipe]
                means = [statistics.fmean(values(rows, recipe, n, f"H/{n_test}").values())
                         for n in SAMPLES]  # fmt: skip
                axes.plot(SAMPLES, means, color=colour, marker=marker, label=method.title)
            axes.set(xscale="log", xlabel="L, samples in training", title=title)
            axes.set_xticks(SAMPLES, map(str, SAMPLES))
            axes.minorticks_off()
        panels[0].sharey(panels[1])
        panels[0].set_ylabel("H in %, mean of sets and seeds")
        handles, labels = panels[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return made

    save(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured; 2 for input that cannot be."""
    args = parser().parse_args(argv)

    def work() -> None:
        if args.report:
            rows = complete(read(args.output, KEY))
            if not rows:
                raise ConfigError(f"{args.output} has no complete seed yet")
            out(table(rows))
            draw(rows, args.output.with_suffix(".png"))
        else:
            measure(args)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
