"""How much the samplers' noise moves a prediction: gaussian, antithetic pairs, Sobol points.

Trains VPT on the base classes of an embedded data set, then draws the posterior anew many times
and measures the mean predictive log-likelihood of the test images. Its standard deviation over
draws is the error that a finite L brings into a reported figure.

    python benchmarks/sampler_variance.py --output benchmarks/results/sampler_variance.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._report import environment, write_json  # noqa: E402
from varprompt.common.console import out  # noqa: E402
from varprompt.model import PromptedCLIP  # noqa: E402
from varprompt.ops import SAMPLERS  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--dataset", default="zoom", help="of configs/datasets (embedded sets)")
    p.add_argument("--data", default=str(ROOT / "data"), help="data sets, made on first use")
    p.add_argument("--draws", type=int, default=200)
    p.add_argument("--samples", type=int, nargs="+", default=[2, 4, 16], help="values of L")
    p.add_argument("--logvar", type=float, default=-4.0, help="TRAINER.VPT.LOGVAR_INIT")
    p.add_argument("--output", help="JSON file")
    return p


def trained(args: argparse.Namespace) -> tuple[PromptedCLIP, torch.Tensor, torch.Tensor]:
    """A trained model, and the features and labels of the test images."""
    from varprompt.standin.which import ensure_dassl

    ensure_dassl()
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import datasets  # noqa: F401  registers the data sets
    import train
    import trainers  # noqa: F401  registers VPT

    with tempfile.TemporaryDirectory() as folder:
        command = train.parser().parse_args([
            "--root", args.data, "--seed", "1", "--trainer", "VPT", "--output-dir", folder,
            "--dataset-config-file", str(ROOT / f"configs/datasets/{args.dataset}.yaml"),
            "--config-file", str(ROOT / "configs/trainers/VPT/embedded.yaml"),
            "DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base",
            "TRAINER.VPT.LOGVAR_INIT", str(args.logvar),
        ])  # fmt: skip
        cfg = train.setup_cfg(command)
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        trainer.train()
        rows = [(trainer.encode_image(b["img"]), b["label"]) for b in trainer.test_loader]
    features, labels = (torch.cat(part) for part in zip(*rows, strict=True))
    return trainer.model, features, labels.to(features.device)


def spread(model: PromptedCLIP, features: torch.Tensor, labels: torch.Tensor,
           n_samples: int, draws: int) -> dict[str, float]:  # fmt: skip
    """Mean and standard deviation over draws of the mean log-likelihood, in nats."""
    values = torch.tensor([
        model.predictor(n_samples, seed)(features).gather(1, labels[:, None]).mean().item()
        for seed in range(draws)
    ])  # fmt: skip
    return {"mean": values.mean().item(), "std": values.std().item()}


def measure(
    args: argparse.Namespace, model: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor
) -> list[dict[str, Any]]:
    """Spread by L and sampler."""
    rows: list[dict[str, Any]] = []
    for n_samples in args.samples:
        for sampler in SAMPLERS:
            model.prompt_learner.posterior.sampler = sampler
            row = spread(model, features, labels, n_samples, args.draws)
            rows.append({"L": n_samples, "sampler": sampler, **row})
            base = next(r for r in rows if r["L"] == n_samples)["std"]
            out(
                f"L {n_samples:3d}  {sampler:10s}  log-likelihood {row['mean']:.4f}  standard "
                f"deviation {row['std']:.5f}  ({row['std'] / base:.2f} of gaussian)"
            )
    return rows


def main() -> None:
    """Measure and print; write the JSON if asked to."""
    args = parser().parse_args()
    Path(args.data).mkdir(parents=True, exist_ok=True)
    model, features, labels = trained(args)
    rows = measure(args, model, features, labels)
    if args.output:
        settings = {k: v for k, v in vars(args).items() if k not in ("output", "data")}
        environ = environment(features.device)
        write_json(args.output, {"environment": environ, "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
