"""One training on an embedded data set, and every figure of its predictions."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varprompt.model import PromptedCLIP
from varprompt.objective import average_samples, sample_log_prob
from varprompt.uncertainty import CALIBRATORS, Evidence, near_ood, proximity, summary

ROOT = Path(__file__).resolve().parent.parent
SETS = ("digits", "chalk", "stretch", "zoom", "tint", "squash", "shear", "coloured")
SHOTS = 16
FEW = 136  # images of a small test set, as users have them
PER_CLASS = 50  # test images; sets have up to 100
BATCH = 100
FEW_FIGURES = ("accuracy", "nll", "ece", "mce", "aurc", "auroc", "ece_if_calibrated_mean")


@dataclass(frozen=True)
class Method:
    """A trainer, the options on top of a configuration, and whether it is trained at all."""

    title: str
    trainer: str
    options: tuple[str, ...] = ()
    trained: bool = True
    config: str = "embedded"


OFFICIAL = (  # the authors' objective, noise, prior and number of samples
    "TRAINER.VPT.OBJECTIVE", "iwae", "TRAINER.VPT.KL_WEIGHT", "0.001",
    "TRAINER.VPT.KL_REDUCTION", "mean", "TRAINER.VPT.PRIOR_STD", "1.0",
    "TRAINER.VPT.LOGVAR_INIT", "None", "TRAINER.VPT.RESIDUAL", "shared",
    "TRAINER.VPT.LEARN_CONTEXT", "True", "TRAINER.VPT.L", "10",
    "OPTIM.LR", "0.02", "OPTIM.WEIGHT_DECAY", "5e-4",
)  # fmt: skip
SAMPLES = {name: ("TRAINER.VPT.L_TEST", "8") for name in ("VPT", "VPT_CoCoOp")}
METHODS = {
    "zero_shot": Method("zero-shot", "CoOp", trained=False),  # CoOp before its first step
    "coop_25": Method("CoOp, 25 epochs", "CoOp", ("OPTIM.MAX_EPOCH", "25")),
    "coop_50": Method("CoOp, 50 epochs", "CoOp"),
    "coop_200": Method("CoOp, 200 epochs", "CoOp", ("OPTIM.MAX_EPOCH", "200")),
    "cocoop": Method("CoCoOp", "CoCoOp"),
    "vpt_official": Method("VPT, official noise", "VPT", OFFICIAL),
    "vpt_scaled": Method("VPT, scaled", "VPT"),
    "map": Method("MAP", "VPT", ("TRAINER.VPT.POSTERIOR", "delta")),
    "mixture": Method("mixture", "VPT", config="embedded_mixture"),
    "mixture_words": Method("mixture, class words", "VPT", config="embedded_mixture_words"),
    "vpt_cocoop": Method("VPT_CoCoOp, scaled", "VPT_CoCoOp"),
}
SLOW = ("coop_200", "vpt_cocoop")  # two thirds of the time


@dataclass(frozen=True)
class Images:
    """Features `(N, E)`, labels `(N,)`, how near others are `(N,)`, and names of the C classes."""

    features: Tensor
    labels: Tensor
    nearness: Tensor
    names: list[str]


def trainer_of(
    method: str | Method, dataset: str, seed: int, part: str, data: str, output: str
) -> Any:
    """The trainer of a run, as train.py builds it."""
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import train

    chosen = METHODS[method] if isinstance(method, str) else method
    command = train.parser().parse_args([
        "--root", data, "--seed", str(seed), "--trainer", chosen.trainer, "--output-dir", output,
        "--dataset-config-file", str(ROOT / f"configs/datasets/{dataset}.yaml"),
        "--config-file", str(ROOT / f"configs/trainers/{chosen.trainer}/{chosen.config}.yaml"),
        *SAMPLES.get(chosen.trainer, ()), *chosen.options, "TEST.NO_TEST", "True",
        "DATASET.NUM_SHOTS", str(SHOTS), "DATASET.SUBSAMPLE_CLASSES", part,
    ])  # fmt: skip
    cfg = train.setup_cfg(command)
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def test_images(dataset: str, data: str) -> dict[str, Images]:
    """Of the base and of the new classes; the data set is made if it is not there."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, silent():
        for part in ("base", "new"):
            trainer = trainer_of("zero_shot", dataset, 1, part, data, folder)
            features, labels = trainer.tester.features(trainer.test_loader)
            features, labels = first_of_each(features, labels)
            names = trainer.dm.dataset.classnames
            found[part] = Images(features, labels, proximity(features), names)
    return found


def first_of_each(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The first `PER_CLASS` images of each class."""
    kept = torch.cat([(labels == c).nonzero()[:PER_CLASS, 0] for c in labels.unique()])
    return features[kept], labels[kept]


def figures_of_run(
    method: str, dataset: str, seed: int, images: dict[str, Images], data: str
) -> dict[str, float | None]:
    """Train on 16 shots of the base classes; all figures, by PART/CALIBRATOR/KEY."""
    with tempfile.TemporaryDirectory() as folder, silent():
        trainer = trainer_of(method, dataset, seed, "base", data, folder)
        trainer.save_resume_state = lambda epoch, batch: None  # a run that is cut starts again
        started = time.process_time()
        if METHODS[method].trained:
            trainer.train()
        trained = time.process_time()
        row = tested(trainer, images, seed)
    row |= {"train_s": trained - started, "test_s": time.process_time() - trained}
    del trainer
    gc.collect()  # a trainer holds itself in a cycle, with its model
    return row


def tested(trainer: Any, images: dict[str, Images], seed: int) -> dict[str, float | None]:
    """All figures of a trained model, before and after its temperature."""
    val, val_labels = trainer.tester.features(trainer.val_loader)
    base, new = images["base"], images["new"]
    logits = {
        "val": logits_of(trainer.model, val),
        "base": logits_of(trainer.model, base.features),
        "new": logits_of(with_classes(trainer.model, new.names), new.features),
        "unknown": logits_of(trainer.model, new.features),
    }
    plain = {part: sample_log_prob(values) for part, values in logits.items()}
    few = torch.randperm(len(base.labels), generator=torch.Generator().manual_seed(seed))[:FEW]
    row: dict[str, float | None] = {}
    for name in ("none", "temperature"):
        calibrate = CALIBRATORS[name](Evidence(log_prob=plain["val"], labels=val_labels))
        value = getattr(calibrate, "value", 1.0)
        probs = {part: calibrate(values) for part, values in plain.items()}
        row[f"base/{name}/temperature"] = value
        scores = {
            "base": summary(probs["base"], base.labels, calibration=(probs["val"], val_labels),
                            proximity=base.nearness, n_resamples=0, seed=seed),
            "new": summary(probs["new"], new.labels, proximity=new.nearness, n_resamples=0),
            "ood": near_ood(probs["base"], probs["unknown"], logits["base"] / value,
                            logits["unknown"] / value, n_resamples=0),
        }  # fmt: skip
        small = summary(average_samples(probs["base"])[few], base.labels[few], n_resamples=0)
        scores["few"] = {key: small[key] for key in FEW_FIGURES}
        row |= {f"{part}/{name}/{k}": v for part, flat in scores.items() for k, v in flat.items()}
    return row


@torch.no_grad()
def logits_of(model: PromptedCLIP, features: Tensor, n_samples: int | None = None) -> Tensor:
    """Logits `(L, N, C)` of the samples that the model's predictor averages, or of another L."""
    config, learner = model.config, model.prompt_learner
    n_samples = n_samples or config.n_samples_test or config.n_samples
    eps = learner.draw_noise(n_samples, torch.Generator().manual_seed(config.test_seed))
    if not learner.conditional:
        return model.logits_of(features, n_samples, eps=eps)[0]
    parts = []
    for part in features.split(BATCH):
        noise = None if eps is None else eps.expand(-1, len(part), -1, -1)
        parts.append(model.logits_of(part, n_samples, eps=noise)[0])
    return torch.cat(parts, 1)


def with_classes(model: PromptedCLIP, names: list[str]) -> PromptedCLIP:
    """The same prompts in front of other class names."""
    other = PromptedCLIP(model.towers.clip, names, model.config, same_names=True)
    other.prompt_learner.load_state_dict(model.prompt_learner.state_dict())
    return other


@contextlib.contextmanager
def silent() -> Any:
    """Without the log of the runs."""
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # a collapse shows in the figures
        yield
