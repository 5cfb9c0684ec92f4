"""PromptClassifier: images and class names in, calibrated probabilities and uncertainty out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..common.console import say
from ..errors import CheckpointError, DataError
from ..towers.device import device_of
from ..towers.load import load_clip
from . import recipe
from .checked import check_known, check_parameters
from .fitting import fitted, starting
from .given import given_to_fit, names_of
from .learned import Learned
from .prediction import Prediction, Uncertainty
from .saved import read_classifier, write_classifier
from .shared import Shared


class PromptClassifier(Shared, ClassifierMixin, BaseEstimator):
    """Classifies images by prompts that are learned in front of a frozen CLIP.

    It has scikit-learn's habits: parameters are kept as they are given and checked by `fit`; what
    `fit` finds has a name that ends with an underscore. Images are paths, PIL images, an array
    `(N, H, W, 3)` of uint8, or a tensor `(N, 3, H, W)` of uint8 or of floats from 0 to 1. They are
    encoded once; a residual for each context token is learned on their features, see
    `varprompt.classifier.recipe`. A part of the images is held out and tells the temperature.

    By default a prompt is learned around each of six templates, and what they say is averaged. With
    `context` it is one Gaussian around these words, with `templates` a mixture of your own.

    Args:
        backbone: name of a CLIP, see `varprompt.load_clip`.
        backbone_path: a weight file of it.
        activation: for a weight file that does not say it.
        context: words that one prompt starts from; None = "a photo of a", where there is one.
        prompts: synonyms and templates, see `varprompt.prompt_texts`: a file or a mapping.
        templates: of posterior "mixture": two or more texts with a {} each; None = those of
            `varprompt.classifier.recipe`.
        posterior: a name in `varprompt.POSTERIORS` of one that does not depend on the image;
            "delta" = no noise; None = "gaussian" with `context`, else "mixture".
        component: of posterior "mixture": "delta", "fixed" or "gaussian".
        class_words: how far prompts begin on the way to the words of their class, 0 to 1, see
            `PromptConfig`; None = 0.2 of posterior "mixture", 0 of others.
        merge: whether the samples' texts are averaged to one classifier, see `PromptConfig`.
        n_samples: L in training, of posteriors with noise; of points there is one a template.
        n_samples_test: L when classifying, alike.
        learning_rate: in units of the tower's tokens, see `varprompt.classifier.recipe`.
        epochs: passes over the images; None = 50, fewer for many images.
        batch_size: images of a training step.
        balanced: whether every class is shown as often as any other, however many images it has.
        holdout: share of each class that is held out if no validation images are given; 0 = none.
        precision: number format of the towers.
        device: "cuda", "cpu", "mps"; "auto" = a GPU if there is one.
        n_workers: processes that read images.
        seed: of everything that is drawn.
        progress: show bars where somebody sees them.

    Attributes:
        classes_: labels `(C,)`, sorted.
        class_names_: what the prompts call them.
        temperature_: divides the log-probabilities; 1 = nothing was held out.
        learned_: all that was learned, and in front of what: a `Learned`.
    """

    def __init__(
        self,
        backbone: str = "ViT-B/16",
        *,
        backbone_path: str = "",
        activation: str = "",
        context: str | None = None,
        prompts: str | Mapping[str, Any] | None = None,
        templates: Sequence[str] | None = None,
        posterior: str | None = None,
        component: str = "delta",
        class_words: float | None = None,
        merge: bool = False,
        n_samples: int = 4,
        n_samples_test: int = 16,
        learning_rate: float = recipe.RATE,
        epochs: int | None = None,
        batch_size: int = 32,
        balanced: bool = False,
        holdout: float = 0.2,
        precision: str = "fp32",
        device: str = "auto",
        n_workers: int = 0,
        seed: int = 0,
        progress: bool = True,
    ):
        self.backbone = backbone
        self.backbone_path = backbone_path
        self.activation = activation
        self.context = context
        self.prompts = prompts
        self.templates = templates
        self.posterior = posterior
        self.component = component
        self.class_words = class_words
        self.merge = merge
        self.n_samples = n_samples
        self.n_samples_test = n_samples_test
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.balanced = balanced
        self.holdout = holdout
        self.precision = precision
        self.device = device
        self.n_workers = n_workers
        self.seed = seed
        self.progress = progress

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(
        self,
        images: Any,
        labels: Any = None,
        *,
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
        validation: Any = None,
    ) -> PromptClassifier:
        """Learn the classes of labelled images.

        Args:
            images: images, or a folder of class folders, or one with train/ and perhaps val/.
            labels: of each image, words or numbers; None if `images` is a folder.
            class_names: label -> what prompts call it, or a name for each label in sorted order.
            validation: (images, labels) or a folder of class folders, to be held out.

        Raises:
            ConfigError: parameters that cannot be.
            DataError: images that cannot be read, labels that do not fit.
        """
        given = recipe.resolved(self.get_params())
        train, held = given_to_fit(images, labels, validation, say)
        classes, targets = np.unique(train.labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"there is one class, {classes.tolist()}: give images of two or more")
        start, rms = starting(self._clip(), classes, names_of(classes, class_names), given)
        learned = fitted(start, rms, train, torch.from_numpy(targets), held, given)
        return self._become(learned)

    def predict(self, images: Any) -> np.ndarray:
        """The most probable label of each image, `(N,)`."""
        best = self.report(images).prob.argmax(1)
        return self.classes_[best]

    def predict_proba(self, images: Any) -> np.ndarray:
        """Class probabilities `(N, C)`, averaged over samples, in the order of `classes_`."""
        return self.report(images).prob

    def uncertainty(self, images: Any) -> Uncertainty:
        """Total, aleatoric and epistemic uncertainty of each image in nats, `(N,)` each."""
        return self.report(images).uncertainty

    def report(self, images: Any) -> Prediction:
        """Probabilities and uncertainty at once: images are encoded once.

        Raises:
            DataError: an image cannot be read.
        """
        check_is_fitted(self)
        return self.learned_.predict(self.encode(images))

    def encode(self, images: Any) -> Tensor:
        """Unit-norm image features `(N, E)` on the CPU, which `learned_.predict` takes."""
        check_is_fitted(self)
        return self.learned_.encode(images, self.n_workers, self.progress)

    def with_classes(self, names: Sequence[str]) -> PromptClassifier:
        """A classifier of other classes, by name, with the prompts that were learned here.

        The temperature is kept; what was held out tells nothing of other classes.

        Raises:
            ConfigError: names that are none, stand twice or are too long for the CLIP.
            CheckpointError: there is a context for each of the old classes.
        """
        check_is_fitted(self)
        return type(self)(**self.get_params())._become(self.learned_.of_other_classes(names))

    def save(self, folder: str | os.PathLike) -> None:
        """Write safetensors and JSON into `folder`, which `load` reads on any machine.

        Raises:
            OSError: it cannot be written; a classifier that was there is still whole.
        """
        description = self.describe()
        write_classifier(folder, self.learned_.tensors(), description)

    def describe(self) -> dict[str, Any]:
        """Everything but numbers that were learned, as JSON takes it."""
        check_is_fitted(self)
        return {"parameters": self.get_params(), **self.learned_.describe()}

    @classmethod
    def load(
        cls, folder: str | os.PathLike, *, device: str = "auto", **parameters: Any
    ) -> PromptClassifier:
        """A classifier that `save` wrote: the same probabilities on the same kind of device.

        Args:
            folder: where it was saved.
            device: where to compute.
            parameters: others than it was saved with, such as backbone_path where the weight file
                lies elsewhere; those of prompts and of learning hold from the next `fit` on.

        Raises:
            ConfigError: parameters that there are not.
            CheckpointError: it is missing, damaged, or was learned in front of another CLIP.
        """
        check_known(parameters, cls._get_param_names())
        tensors, described = read_classifier(folder)
        try:
            given = {**described["parameters"], "device": device, **parameters}
            check_parameters(given, str(folder))
            new = cls(**given)
            return new.adopt(lambda clip: Learned.restore(clip, tensors, described, str(folder)))
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{folder} holds no classifier of this version: {type(error).__name__}: {error}"
            ) from error

    def adopt(self, learned: Callable[[Any], Learned]) -> PromptClassifier:
        """Take over what was learned elsewhere: ``learned(clip)``, with the CLIP of `backbone`.

        Raises:
            ConfigError: the CLIP or the device cannot be had.
        """
        return self._become(learned(self._clip()))

    def _clip(self) -> Any:
        with torch.random.fork_rng(devices=[]):  # building it draws numbers
            device, path = device_of(self.device), os.fspath(self.backbone_path)
            return load_clip(self.backbone, path, device, self.activation)

    def _become(self, learned: Learned) -> PromptClassifier:
        """Take over what was learned."""
        self.learned_ = learned
        self.classes_, self.class_names_ = learned.labels, learned.names
        self.temperature_ = learned.temperature
        return self
