"""Testing: features of the images, kept on disk; probabilities; report."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from varprompt.errors import VarPromptError
from varprompt.model import Predictor
from varprompt.run.results import Tally, write_results

_COLLAPSED = 0.999


class EvaluationMixin:
    """Overrides of Dassl's `test`: every image and, where it can be, every text is encoded once."""

    def predictor(self) -> Predictor:
        """What classifies the test images: log-probabilities from image features."""
        return self.model.predictor()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Classify a split and print Dassl's lines; returns the accuracy.

        Args:
            split: "val" or "test"; None = TEST.SPLIT, and only then results.json is written:
                tests between epochs are not the result of a run.

        Raises:
            VarPromptError: probabilities that are not finite.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        final, split = split is None, split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is None:
            split = "test"
        loader = self.val_loader if split == "val" else self.test_loader
        self.note(f"Evaluate on the *{split}* set")
        features, labels = self.image_features(loader)
        predictor, tally = self.predictor(), Tally()
        batches = (tensor.split(loader.batch_size) for tensor in (features, labels))
        for batch in tqdm(list(zip(*batches, strict=True)), split, disable=None):
            images, truth = (tensor.to(self.device) for tensor in batch)
            log_prob = predictor(images)
            self.evaluator.process(log_prob, truth)
            tally.update(log_prob, truth)
        similarity = predictor.similarity(features[:1].to(self.device))
        if similarity > _COLLAPSED:
            warnings.warn(
                f"the texts of all classes are nearly the same (mean cosine {similarity:.4f}): "
                "training has collapsed; lower OPTIM.LR or set TRAIN.CLIP_GRAD_NORM 1.0",
                stacklevel=2,
            )
        return self._report(split, tally, final)

    def image_features(self, loader: Any) -> tuple[Tensor, Tensor]:
        """Unit-norm features `(N, E)` and labels `(N,)` of a test loader, on the CPU, in order."""
        on_gpu = self.device.type == "cuda"
        features = self.feature_cache.features(
            loader,
            self.encode_image,
            weights=self.weights_sha256,
            precision=self.prompt_config.precision,
            device=torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
        )
        return features, torch.tensor([item.label for item in loader.dataset.data_source])

    def _report(self, split: str, tally: Tally, final: bool) -> float:
        results = dict(self.evaluator.evaluate())
        for name, value in results.items():
            if not name.startswith("perclass"):
                self.write_scalar(f"{split}/{name}", value, self.epoch)
        summary = tally.summary(self.dm.dataset.classnames)
        if not math.isfinite(summary["nll"]):
            raise VarPromptError(
                f"probabilities of the {split} images are not finite in precision "
                f"{self.prompt_config.precision}: test with PREC fp32"
            )
        self.note(f"* nll: {summary['nll']:.4f}\n* ece: {summary['ece']:.1f}%")
        if final:
            write_results(self.output_dir, {**results, **summary, **self.describe(split)})
        return results["accuracy"]

    def describe(self, split: str) -> dict[str, Any]:
        """Which run this is, for results.json."""
        cfg = self.cfg
        return {
            "split": split,
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "backbone": cfg.MODEL.BACKBONE.PATH or cfg.MODEL.BACKBONE.NAME,
            "weights_sha256": self.weights_sha256,
            "bad_steps": self.bad_steps,
            "checkpoint_epoch": self.loaded_epoch or max(self.start_epoch, self.epoch + 1),
            "checkpoint_sha256": self.checkpoint_sha256,
            "config": cfg.dump(),
        }
