"""Which runs the demo has: methods, data sets, and the command lines of each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..settings.configs import configs_folder

DATASETS = ("digits", "chalk", "stretch", "zoom")
SEEDS = (1, 2, 3)
SHOTS = 16
# Trainer, name of its config in the results, options on top of that config if there is such a file,
# else of its embedded.yaml
Method = tuple[str, str, tuple[str, ...]]
METHODS: tuple[Method, ...] = (
    *((name, "embedded", ()) for name in ("ZeroshotCLIP", "CoOp", "CoCoOp", "VPT")),
    ("VPT", "embedded_map", ("TRAINER.VPT.POSTERIOR", "delta")),
    ("VPT", "embedded_mixture", ()),
    ("VPT", "embedded_mixture_words", ()),
    ("VPT_CoCoOp", "embedded", ()),
)
# prompt learners without and with a posterior, all in front of the same CLIP
_PAIRS = "CoOp VPT CoCoOp VPT_CoCoOp KgCoOp VPT_KgCoOp MaPLe VPT_MaPLe PromptSRC VPT_PromptSRC"
_VIT = ("MODEL.BACKBONE.NAME", "embedded_vit")
LEARNERS = tuple((name, "embedded_vit", _VIT) for name in ("ZeroshotCLIP", *_PAIRS.split()))


def all_runs(
    datasets: Sequence[str], seeds: Sequence[int], data: Path, output: Path,
    methods: Sequence[Method] = METHODS,
) -> dict[str, list[list[str]]]:  # fmt: skip
    """Name of a run -> its commands; zero-shot has no seed and is run once."""
    return {
        f"{method[0]} {method[1]} {dataset} seed {seed}": commands(
            method, dataset, seed, data, output
        )
        for seed in seeds
        for dataset in datasets
        for method in methods
        if method[0] != "ZeroshotCLIP" or seed == seeds[0]
    }


def commands(method: Method, dataset: str, seed: int, data: Path, output: Path) -> list[list[str]]:
    """Arguments of train.py for the run on base classes and the test on new ones."""
    trainer, config, options = method
    configs, folder = configs_folder(), "CoOp" if trainer == "ZeroshotCLIP" else trainer
    file = configs / f"trainers/{folder}/{config}.yaml"
    file = file if file.is_file() else file.with_name("embedded.yaml")
    common = [
        "--root", str(data), "--trainer", trainer, "--seed", str(seed),
        "--dataset-config-file", str(configs / f"datasets/{dataset}.yaml"),
        "--config-file", str(file),
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
