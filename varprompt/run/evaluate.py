"""Testing: images are encoded once and their features kept, texts once where that can be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..common.checks import collapse
from ..errors import VarPromptError
from ..images.encode import Encode
from ..images.feature_cache import FeatureCache
from .tally import Tally

_ECE_OF_CHANCE = 0.25  # part of the ECE that chance may explain before it is said


class Predictor(Protocol):
    """Classifies unit-norm image features `(B, E)`.

    Attributes:
        drawn: whether its samples are independent draws of one distribution.
    """

    drawn: bool

    def samples(self, features: Tensor) -> Tensor:
        """Log-probabilities `(L, B, C)` by each of the samples that are averaged."""

    def similarity(self, features: Tensor) -> float:
        """Mean cosine between the texts of different classes."""


class Metrics(Protocol):
    """What counts and prints figures: Dassl's evaluators do."""

    def reset(self) -> None:
        """Forget all batches."""

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in scores `(B, C)` and labels `(B,)`."""

    def evaluate(self) -> Mapping[str, float]:
        """Print and return figures by name."""


class Evaluator:
    """Tests predictors on lists of images.

    Args:
        cache: keeps features of images on disk.
        encode: images `(B, 3, H, W)` -> unit-norm features `(B, E)`.
        depends_on: what the features depend on besides images and transform: weights, number
            format, device.
        classnames: in the order of the labels.
        metrics: counts and prints.
        device: where predictors compute.
        note: takes a line for the log.
    """

    def __init__(
        self,
        cache: FeatureCache,
        encode: Encode,
        depends_on: Mapping[str, str],
        *,
        classnames: Sequence[str],
        metrics: Metrics,
        device: torch.device,
        note: Callable[[str], None],
    ):
        self.cache = cache
        self.encode = encode
        self.depends_on = depends_on
        self.classnames = list(classnames)
        self.metrics = metrics
        self.device = device
        self.note = note

    @torch.no_grad()
    def __call__(
        self,
        predictor: Predictor,
        loader: DataLoader,
        split: str,
        tally: Tally | None = None,
    ) -> dict[str, Any]:
        """Classify the images of `loader`, print Dassl's lines, nll and ece.

        Args:
            predictor: what is tested.
            loader: of test images.
            split: what they are called.
            tally: collects what is predicted; None = one of its own.

        Returns:
            The figures of `metrics`, and those of `varprompt.run.tally.Tally`.

        Raises:
            VarPromptError: probabilities that are not finite.
            DataError: an image cannot be read.
        """
        self.metrics.reset()
        self.note(f"Evaluate on the *{split}* set")
        features, labels = self.features(loader)
        tally = Tally(drawn=predictor.drawn) if tally is None else tally
        batches = (tensor.split(loader.batch_size or 1) for tensor in (features, labels))
        for batch in tqdm(list(zip(*batches, strict=True)), split, disable=None):
            images, truth = (tensor.to(self.device) for tensor in batch)
            self.metrics.process(tally.update(predictor.samples(images), truth), truth)
        self._warn_of_collapse(predictor.similarity(features[:1].to(self.device)))
        figures = dict(self.metrics.evaluate())
        summary = tally.summary(self.classnames)
        if not math.isfinite(summary["nll"]):
            raise VarPromptError(
                f"probabilities of the {split} images are not finite in precision "
                f"{self.depends_on['precision']}: test with PREC fp32"
            )
        self.note(f"* nll: {summary['nll']:.4f}\n* ece: {summary['ece']:.1f}%")
        chance = summary["ece_if_calibrated"]
        if chance["mean"] > _ECE_OF_CHANCE * summary["ece"]:
            self.note(
                f"* ece if calibrated: {chance['mean']:.1f}% ({chance['low']:.1f} to "
                f"{chance['high']:.1f}): what {summary['n_total']} images leave to chance"
            )
        if (error := summary["accuracy_mc_error"]) is not None:
            self.note(f"* Monte Carlo error of the accuracy: {error:.2f}%")
        return {**figures, **summary}

    def features(self, loader: DataLoader) -> tuple[Tensor, Tensor]:
        """Unit-norm features `(N, E)` and labels `(N,)` of a test loader, on the CPU, in order."""
        features = self.cache.features(loader, self.encode, **self.depends_on)
        items = loader.dataset.data_source  # type: ignore[attr-defined]
        return features, torch.tensor([item.label for item in items])

    def _warn_of_collapse(self, similarity: float) -> None:
        remedy = "lower OPTIM.LR or set TRAIN.CLIP_GRAD_NORM 1.0"
        if said := collapse(similarity, remedy):
            warnings.warn(said, stacklevel=3)
