"""What was learned, in front of what, and how images are classified with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import PromptConfig
from ..errors import CheckpointError, VarPromptError
from ..images.encode import encode_images
from ..images.faults import naming_faults
from ..images.inputs import GivenImages, check_images, pixels_transform
from ..images.workers import n_readers
from ..learner_state import load_learner
from ..model import Predictor, PromptedCLIP
from ..objective import average_samples
from ..prompt_texts import PromptTexts, parse_prompts
from ..towers.build import input_size
from ..uncertainty import fit_temperature
from .checked import HELD_OUT, check_saved
from .prediction import Prediction, join

_ENCODED_TOGETHER = 64  # images; fixed, as last digits depend on it
_CLASSIFIED_TOGETHER = 256
FEWEST = 20  # held-out images that tell a temperature
_WITHOUT = "keeps no held-out images of these classes"


@dataclass(frozen=True)
class Pixels:
    """What an image tower takes.

    Attributes:
        size: side in pixels.
        mean: of red, green and blue in [0, 1].
        std: their standard deviations.
        interpolation: how images are resized.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"

    @staticmethod
    def of(clip_model: Any) -> Pixels:
        """As the source of a CLIP states it."""
        stated = clip_model.provenance
        return Pixels(input_size(clip_model), stated.mean, stated.std)


@dataclass(frozen=True)
class HeldOut:
    """What the classifier said of images that it did not learn from.

    Attributes:
        confidence: probability of the predicted class, `(n,)`, calibrated.
        correct: whether it is the right one, `(n,)`.
    """

    confidence: Tensor
    correct: Tensor


@dataclass(frozen=True)
class Learned:
    """A learned classifier.

    Attributes:
        model: towers and learner.
        labels: `(C,)`, what is predicted.
        names: of the classes, as the prompts call them.
        pixels: what the image tower takes.
        temperature: divides the log-probabilities of every sample.
        held_out: None if nothing was held out, or if the classes are others.
        counts: how many images it was learned from, for the record.
        texts: synonyms and templates; None = classes are called by their names.
        without: what is said where `held_out` is None.
    """

    model: PromptedCLIP
    labels: np.ndarray
    names: list[str]
    pixels: Pixels
    temperature: float = 1.0
    held_out: HeldOut | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    texts: PromptTexts | None = None
    without: str = _WITHOUT

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: without what is made again when it is asked for."""
        made = ("predictor", "transform")
        return {key: value for key, value in self.__dict__.items() if key not in made}

    @property
    def device(self) -> torch.device:
        """Where images are encoded."""
        return self.model.prompt_learner.ctx.device

    @property
    def clip(self) -> Any:
        """The frozen CLIP, with its `provenance`."""
        return self.model.towers.clip

    @cached_property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """From an RGB image to what the image tower takes."""
        return pixels_transform(**asdict(self.pixels))

    @cached_property
    def predictor(self) -> Predictor:
        """Class texts with noise that is drawn once."""
        return self.model.predictor()

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)` of transformed images `(B, 3, H, W)` from any device."""
        return self.model.encode_test_image(images.to(self.device, non_blocking=True))

    def encode(self, images: Any, n_workers: int = 0, progress: bool = True) -> Tensor:
        """Features `(N, E)` on the CPU of images in any form.

        Raises:
            ConfigError: that is no number of processes.
            DataError: images cannot be read; names them.
        """
        given = check_images(images)
        if not len(given):
            return torch.zeros(0, self.clip.text_projection.shape[1])
        loader: DataLoader = DataLoader(
            GivenImages(given, self.transform), num_workers=n_readers(n_workers),
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        every = range(len(given))
        with naming_faults(given, n_workers):
            return encode_images(loader, every, self.encode_image, _ENCODED_TOGETHER, progress)

    def samples(self, features: Tensor) -> Tensor:
        """Log-probabilities `(L, N, C)` by each sample, of features `(N, E)`, not calibrated."""
        parts = features.split(_CLASSIFIED_TOGETHER)
        return torch.cat([self.predictor.samples(part.to(self.device)) for part in parts], 1)

    def predict(self, features: Tensor) -> Prediction:
        """What is predicted of images with these features `(N, E)`, calibrated.

        Raises:
            VarPromptError: probabilities that are no numbers.
        """
        if not len(features):
            return Prediction.none(len(self.names))
        parts = [self.samples(part) for part in features.split(_CLASSIFIED_TOGETHER)]
        if any(part.isnan().any() for part in parts):
            raise VarPromptError(
                "probabilities are no numbers (NaN): what was learned is damaged or too large for "
                f"precision {self.model.config.precision}; learn it again, or take precision fp32"
            )
        return join([Prediction.of(part, self.temperature) for part in parts])

    def calibrated(self, features: Tensor, targets: Tensor) -> Learned:
        """With the temperature that held-out images tell, and what is then said of them.

        Few images, or none that is taken for another class, tell no temperature: it stays.

        Args:
            features: of the images, `(n, E)`.
            targets: numbers of their classes, `(n,)`.
        """
        if not len(targets):
            return self
        samples, new = self.samples(features).cpu(), self
        wrong = average_samples(samples).argmax(-1) != targets
        if len(targets) >= FEWEST and wrong.any():
            new = replace(self, temperature=fit_temperature(samples, targets).value)
        confidence, predicted = torch.from_numpy(new.predict(features).prob).max(1)
        return replace(new, held_out=HeldOut(confidence, predicted == targets))

    def of_other_classes(self, names: Sequence[str]) -> Learned:
        """The same prompts for classes by name; what was held out tells nothing of them."""
        model = PromptedCLIP(self.clip, names, self.model.config, texts=self.texts)
        tensors = self.model.prompt_learner.state_dict()
        load_learner(model.prompt_learner, tensors, "in memory", list(names), model.tokens)
        return replace(
            self, model=model, labels=np.asarray(list(names)), names=list(names), held_out=None,
            without=_WITHOUT,
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """All numbers, by name; see `from_tensors`."""
        found = {f"learner.{k}": v for k, v in self.model.prompt_learner.state_dict().items()}
        if self.held_out is not None:
            found |= zip(HELD_OUT, (self.held_out.confidence, self.held_out.correct), strict=True)
        return found

    def describe(self) -> dict[str, Any]:
        """Everything else, as JSON takes it."""
        stated = self.clip.provenance
        return {
            "clip": {
                "source": stated.source, "weights_sha256": stated.weights_sha256,
                "activation": stated.activation,
            },
            "labels": self.labels.tolist(),
            "class_names": self.names,
            "prompts": self.texts and self.texts.record(),
            "config": asdict(self.model.config),
            "pixels": asdict(self.pixels),
            "calibration": {"temperature": self.temperature},
            "images": self.counts,
        }  # fmt: skip

    @staticmethod
    def restore(
        clip_model: Any, tensors: dict[str, Tensor], described: dict[str, Any], source: str
    ) -> Learned:
        """What `tensors` and `describe` gave, in front of the same CLIP.

        Args:
            clip_model: from `load_clip`.
            tensors: all numbers.
            described: everything else.
            source: the file's name, for messages.

        Raises:
            CheckpointError: it was learned in front of another CLIP, is damaged, or does not fit
                together.
        """
        theirs, ours = described["clip"]["weights_sha256"], clip_model.weights_sha256
        if theirs != ours:
            raise CheckpointError(
                f"{source} was learned in front of {described['clip']['source']} (weights "
                f"{theirs[:12]}), not of {clip_model.provenance.source} (weights {ours[:12]}): "
                "give that one (backbone, backbone_path)"
            )
        check_saved(tensors, described, input_size(clip_model), source)
        names, pixels = described["class_names"], described["pixels"]
        said = described["prompts"]
        texts = None if said is None else parse_prompts(said, source)
        model = PromptedCLIP(clip_model, names, PromptConfig(**described["config"]), texts=texts)
        learner = {
            k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")
        }
        load_learner(model.prompt_learner, learner, source, names, model.tokens)
        has_held_out = HELD_OUT[0] in tensors
        return Learned(
            model, np.asarray(described["labels"]), names,
            Pixels(pixels["size"], tuple(pixels["mean"]), tuple(pixels["std"]),
                   pixels["interpolation"]),
            float(described["calibration"]["temperature"]),
            HeldOut(*(tensors[name] for name in HELD_OUT)) if has_held_out else None,
            described["images"], texts,
        )  # fmt: skip
