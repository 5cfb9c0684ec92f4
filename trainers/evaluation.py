"""An evaluator for every Dassl trainer: TEST.EVALUATOR Calibration."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY, Classification
from torch import Tensor

from varprompt.objective import sample_log_prob
from varprompt.run.results import write_results
from varprompt.run.tally import Tally

from .base import PromptTrainer

_SUMS_TO_ONE = 1e-3  # what half precision leaves of the sum of probabilities


@EVALUATOR_REGISTRY.register()
class Calibration(Classification):
    """What Dassl's Classification prints and returns, and how far the probabilities can be trusted.

    Of any trainer: CoOp's own, those of its descendants, anybody's. It takes what the trainer
    gives it: logits `(B, C)`; log-probabilities, which a softmax leaves as they are;
    probabilities, recognised by rows that sum to 1 (their logarithm is taken, which is said once);
    or one of these for each of L samples, `(L, B, C)`, whose probabilities are averaged. All
    figures are written into results.json in OUTPUT_DIR, nll and ece are printed, and returned
    behind Dassl's, so that TensorBoard has them.

    The trainers of this project write their own results.json with the same figures; for them this
    is Classification.
    """

    def __init__(self, cfg: Any, lab2cname: dict[int, str] | None = None, **kwargs: Any):
        self._plain = _is_ours(cfg.TRAINER.NAME)
        self._names = dict(lab2cname or {})
        super().__init__(cfg, lab2cname=lab2cname, **kwargs)
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._tally = Tally(keep=True)
        self._classes = 0
        self._told = False

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in a batch: what the trainer says, `(B, C)` or `(L, B, C)`, and labels `(B,)`."""
        if self._plain:
            super().process(mo, gt)
            return
        averaged = self._tally.update(self._log_prob(mo.detach()), gt)
        self._classes = averaged.shape[1]
        super().process(mo if mo.dim() == 2 else averaged, gt)

    def _log_prob(self, mo: Tensor) -> Tensor:
        """Log-probabilities `(L, B, C)`, float32 at least."""
        samples = mo if mo.dim() == 3 else mo[None]
        if not is_probability(samples):
            return sample_log_prob(samples)
        if not self._told:
            print("The trainer gives probabilities, no logits: their logarithm is taken")
            self._told = True
        return samples.to(torch.promote_types(samples.dtype, torch.float32)).log()

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return Dassl's figures, nll and ece; write all of them."""
        figures: OrderedDict[str, float] = super().evaluate()
        if self._plain:
            return figures
        names = [str(self._names.get(i, i)) for i in range(self._classes)]
        found = self._tally.summary(names)
        if not math.isfinite(found["nll"]):
            print("The figures of calibration are left out: not all scores are finite")
            return figures
        found |= self._tally.uncertainty()
        if not self._tally.keep:
            print("results.json lacks uncertainty and risk_coverage: the probabilities take > 1 GB")
        print(f"* nll: {found['nll']:.4f}\n* ece: {found['ece']:.1f}%")
        write_results(self.cfg.OUTPUT_DIR, {**figures, **found, **describe(self.cfg)})
        figures.update({name: found[name] for name in ("nll", "ece")})
        return figures


def is_probability(scores: Tensor) -> bool:
    """Whether scores `(..., C)` of two classes or more are probabilities: rows that sum to 1."""
    if scores.shape[-1] < 2 or not scores.numel() or scores.min() < 0:
        return False
    return bool(((scores.double().sum(-1) - 1).abs() < _SUMS_TO_ONE).all())


def describe(cfg: Any) -> dict[str, Any]:
    """Which run this is, as far as a configuration of any trainer tells."""
    return {
        "evaluator": "Calibration",
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "subsample_classes": cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"),
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "config": cfg.dump(),
    }


def _is_ours(name: str) -> bool:
    known = name in TRAINER_REGISTRY.registered_names()
    return known and issubclass(TRAINER_REGISTRY.get(name), PromptTrainer)
