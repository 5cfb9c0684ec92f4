"""Classification results: accuracy, error, macro F1, per class, confusion matrix."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from varprompt.common.files import write_atomic

from .utils import Registry, check_availability

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: Any, **kwargs: Any) -> Any:
    """The evaluator TEST.EVALUATOR."""
    check_availability(cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY.registered_names(), "TEST.EVALUATOR")
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)


@EVALUATOR_REGISTRY.register()
class Classification:
    """Results of arg-max predictions, in percent."""

    def __init__(self, cfg: Any, lab2cname: dict[int, str] | None = None, **kwargs: Any):
        self.cfg = cfg
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT needs the class names (lab2cname)")
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in a batch: scores (B, C) and labels (B,)."""
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(mo.argmax(dim=1).tolist())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return accuracy, error_rate, macro_f1 and, if asked for, perclass_accuracy."""
        from sklearn.metrics import f1_score

        total = len(self._y_true)
        correct = sum(map(int.__eq__, self._y_true, self._y_pred))
        accuracy = 100.0 * correct / total
        macro_f1 = 100.0 * f1_score(
            self._y_true, self._y_pred, average="macro", labels=np.unique(self._y_true)
        )
        results = OrderedDict(
            accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=float(macro_f1)
        )
        print(
            "=> result",
            f"* total: {total:,}",
            f"* correct: {correct:,}",
            f"* accuracy: {accuracy:.1f}%",
            f"* error: {results['error_rate']:.1f}%",
            f"* macro_f1: {macro_f1:.1f}%",
            sep="\n",
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._evaluate_classes()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        return results

    def _evaluate_classes(self) -> float:
        hits = defaultdict(list)
        for label, prediction in zip(self._y_true, self._y_pred, strict=True):
            hits[label].append(label == prediction)
        print("=> per-class result")
        accuracies = []
        for label, hit in sorted(hits.items()):
            accuracies.append(100.0 * sum(hit) / len(hit))
            print(
                f"* class: {label} ({self._lab2cname[label]})",
                f"total: {len(hit):,}",
                f"correct: {sum(hit):,}",
                f"acc: {accuracies[-1]:.1f}%",
                sep="\t",
            )
        average = sum(accuracies) / len(accuracies)
        print(f"* average: {average:.1f}%")
        return average

    def _save_confusion_matrix(self) -> None:
        from sklearn.metrics import confusion_matrix

        matrix = confusion_matrix(self._y_true, self._y_pred, normalize="true")
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        write_atomic(path, lambda file: torch.save(matrix, file))
        print(f"Confusion matrix is saved to {path}")
