"""The width of the mixture's prior and the weights of its templates, learned over other data sets.

    python benchmarks/mixture_prior.py

Empirical Bayes, leaving one data set out: for each set what gives the images of the *other* sets'
validation draws (base and new classes, 16 shots) the largest mean log-likelihood. Tests of a set so
use nothing of it. benchmarks/mixture.py reads the result; docs/mixture.md says what came of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._mixture_added import PRIOR_FILE, maps  # noqa: E402
from benchmarks._mixture_rows import TEMPLATES, Bed  # noqa: E402
from benchmarks._mixture_tasks import VALIDATION_SEEDS, draw, towers  # noqa: E402
from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._rows import rounded  # noqa: E402
from varprompt.common.console import say  # noqa: E402
from varprompt.embedded.sets import SETS  # noqa: E402

PRIORS = (0.5, 1.0, 2.0, 4.0, 8.0)  # standard deviations, in rms of the templates' tokens
SHOTS, EM_STEPS = 16, 100
Evidence = dict[tuple[str, float], list[Tensor]]  # set, width -> log-probabilities (G, N)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", type=Path, default=ROOT / "data/mixture",
                   help="features are kept here; default: %(default)s")  # fmt: skip
    p.add_argument("--output", type=Path, default=PRIOR_FILE, help="default: %(default)s")
    return p


def collected(folder: Path, sets: Sequence[str], seeds: Sequence[int]) -> Evidence:
    """What each component says of the right class of every image, in each draw and part."""
    found: Evidence = {}
    clip = towers()
    for dataset in sets:
        for seed in seeds:
            task = draw(dataset, seed, SHOTS, clip, folder)
            bed = Bed.of(task, clip)
            for prior in PRIORS:
                contexts = maps(bed, prior)
                for part, images in task.test.items():
                    with torch.no_grad():
                        log_prob = bed.logits(contexts, images.features, part).log_softmax(-1)
                    right = log_prob[:, torch.arange(len(images.labels)), images.labels]
                    found.setdefault((dataset, prior), []).append(right)
        say(f"{dataset}: {len(seeds)} draws, {len(PRIORS)} widths")
    return found


def likelihood(parts: Sequence[Tensor], weights: Tensor) -> float:
    """Mean log-likelihood in nats of a mixture; the parts count alike, whatever their size."""
    log_weights = weights.log()[:, None]
    return torch.stack([(p + log_weights).logsumexp(0).mean() for p in parts]).mean().item()


def best_weights(parts: Sequence[Tensor]) -> Tensor:
    """The weights `(G,)` of the largest `likelihood`, by expectation and maximisation."""
    weights = torch.full((len(parts[0]),), 1 / len(parts[0]))
    for _ in range(EM_STEPS):
        shares = [(p + weights.log()[:, None]).softmax(0).mean(1) for p in parts]
        weights = torch.stack(shares).mean(0)
    return weights


def learned_without(dataset: str, found: Evidence) -> dict[str, Any]:
    """The prior of `dataset`, from all others."""
    equal = torch.full((len(TEMPLATES),), 1 / len(TEMPLATES))
    parts = {
        prior: [p for (other, s), own in found.items() if s == prior and other != dataset
                for p in own]
        for prior in PRIORS
    }  # fmt: skip
    scores = {prior: likelihood(own, equal) for prior, own in parts.items()}
    best = max(scores, key=scores.__getitem__)
    weights = best_weights(parts[best])
    return {
        "prior_std": best,
        "weights": [rounded(w) for w in weights.tolist()],
        "log_likelihood": {str(s): rounded(score) for s, score in scores.items()},
        "log_likelihood_weighted": rounded(likelihood(parts[best], weights)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Learn it, write it."""
    args = parser().parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    args.data.mkdir(parents=True, exist_ok=True)
    found = collected(args.data, list(SETS), VALIDATION_SEEDS)
    without = {dataset: learned_without(dataset, found) for dataset in SETS}
    about = environment(torch.device("cpu"))
    write_json(args.output, {"environment": about, "templates": TEMPLATES, "without": without})
    return 0


if __name__ == "__main__":
    sys.exit(main())
