"""The trainings of the published tables: classes, samples, batches and steps of each trainer."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings.recipes import recipes

# Classes of the eleven data sets.
CLASSES = {
    "caltech101": 100, "oxford_pets": 37, "stanford_cars": 196, "oxford_flowers": 102,
    "food101": 101, "fgvc_aircraft": 100, "sun397": 397, "dtd": 47, "eurosat": 10, "ucf101": 101,
    "imagenet": 1000,
}  # fmt: skip
COOP_IMAGENET = 50  # epochs


@dataclass(frozen=True)
class Recipe:
    """What a trainer's official training takes.

    Attributes:
        draws: whether it draws L samples.
        conditional: whether its prompts depend on the image.
        batch: B.
        epochs: where configs/recipes.yaml has no number for the data set (CoOp: 50 of ImageNet).
        n_visual: N, prompts in a layer of the image tower, which then takes part in the gradient.
    """

    draws: bool
    conditional: bool = False
    batch: int = 1
    epochs: int = 10
    n_visual: int = 0


# as the config that configs/recipes.yaml names for each
TRAINERS = {
    "VPT": Recipe(draws=True),
    "VPT_CoCoOp": Recipe(draws=True, conditional=True),
    "CoOp": Recipe(draws=False, batch=32, epochs=200),
    "CoCoOp": Recipe(draws=False, conditional=True),
    "KgCoOp": Recipe(draws=False, batch=128, epochs=100),
    "VPT_KgCoOp": Recipe(draws=True, batch=128, epochs=100),
    "MaPLe": Recipe(draws=False, batch=4, epochs=5, n_visual=2),
    "VPT_MaPLe": Recipe(draws=True, batch=4, epochs=5, n_visual=2),
    "PromptSRC": Recipe(draws=False, batch=4, epochs=20, n_visual=4),
    "VPT_PromptSRC": Recipe(draws=True, batch=4, epochs=20, n_visual=4),
}


@dataclass(frozen=True)
class Work:
    """A training.

    Attributes:
        dataset: a key of `CLASSES`.
        trainer: a key of `TRAINERS`.
        classes: C.
        samples: L, 1 if none are drawn.
        batch: B.
        steps: updates of the whole training.
    """

    dataset: str
    trainer: str
    classes: int
    samples: int
    batch: int
    steps: int

    @property
    def prompts(self) -> int:
        """Prompts of a class in a step, L * K."""
        return self.samples * (self.batch if TRAINERS[self.trainer].conditional else 1)


def work_of(dataset: str, trainer: str, samples: int = 0, shots: int = 16) -> Work:
    """The official training on the base classes; `samples` 0 = the authors' L."""
    usual, own = TRAINERS[trainer], recipes()["vpt"][dataset]
    classes, epochs = (CLASSES[dataset] + 1) // 2, usual.epochs
    if trainer == "VPT":
        epochs = own["epochs"]
    elif trainer == "CoOp" and dataset == "imagenet":
        epochs = COOP_IMAGENET
    n_samples = (samples or (own["L"] if trainer == "VPT" else 10)) if usual.draws else 1
    n_images = classes * shots
    batch = min(usual.batch, n_images)  # a smaller last batch is left out
    return Work(dataset, trainer, classes, n_samples, batch, epochs * (n_images // batch))
