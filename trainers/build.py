"""From a configuration to the objects of a run: data, model, optimizer, checks, folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from dassl.engine import TrainerX
from dassl.optim import build_optimizer
from torch import Tensor

from varprompt.common.ranks import ranks
from varprompt.errors import ConfigError
from varprompt.images.content import ContentHasher
from varprompt.images.feature_cache import FeatureCache
from varprompt.images.loaders import EpochBatches, only_deterministic, seeded_loader
from varprompt.model import Predictor, PromptedCLIP
from varprompt.prompt_texts import PromptTexts
from varprompt.run.evaluate import Evaluator
from varprompt.run.guard import GuardedStep, StepRecord
from varprompt.run.run import Run
from varprompt.run.schedule import build_lr_scheduler
from varprompt.run.state import TrainingParts
from varprompt.run.store import RunStore
from varprompt.settings.effects import without_effect
from varprompt.settings.merge import difference
from varprompt.settings.nodes import add_node, prompt_config, weights_of
from varprompt.towers.build import digest
from varprompt.towers.forms import remarks
from varprompt.towers.load import load_clip
from varprompt.towers.spread import SpreadTextEncoder

from .data import check_input, data_manager, prompt_texts
from .guidance import Guidance
from .resources import Resources, precision_on


class BuiltTrainer(TrainerX):
    """Dassl's trainer with the objects that training and testing are done with.

    A trainer is what it declares, whatever it is called; its subclasses inherit that.

    Attributes:
        node: name of its node of options, TRAINER.<node>. A trainer must have one.
        prompt: what is learned: "context"; with deeper prompts in the text tower and visual ones
            that are "coupled" to them or "independent" of them; or "" for nothing.
        conditional: the prompts depend on the image; None = the option CONDITIONAL says it.
        variational: they are drawn from a learned distribution; the node has its options (L,
            KL_WEIGHT, ...).
        posterior: what is added to the context if the node has no option POSTERIOR: a name in
            `varprompt.posteriors.POSTERIORS`, "meta_net", or "" for nothing.
        regularisers: further terms of the loss, names in `varprompt.regularisers.REGULARISERS` ->
            the option of the node that is the weight, or the weight.
        averages: what was learned is averaged over epochs in the end; for the options of that.
        also_reads: keys outside of its node that it reads besides those of every trainer.
        held_out: training images, by their number in the data set, that it trains without.
    """

    node: ClassVar[str] = ""
    prompt: ClassVar[str] = "context"
    conditional: ClassVar[bool | None] = False
    variational: ClassVar[bool] = False
    posterior: ClassVar[str] = ""
    regularisers: ClassVar[Mapping[str, str | float]] = {}
    averages: ClassVar[bool] = False
    also_reads: ClassVar[tuple[str, ...]] = ()
    held_out: ClassVar[frozenset[int]] = frozenset()

    take_step: GuardedStep
    texts: PromptTexts | None = None

    @classmethod
    def extend_cfg(cls, cfg: Any) -> None:
        """Add the node TRAINER.<node> with its default values; what is there is kept.

        A trainer with options of its own adds them here, after this.
        """
        add_node(cfg, cls)

    def check_cfg(self, cfg: Any) -> None:
        """Validate the trainer's options before any work; TRAIN.DETERMINISTIC acts from here.

        Raises:
            ConfigError: everything that is wrong.
        """
        self.prompt_config = prompt_config(cfg, type(self))
        for key, why in without_effect(cfg, type(self)).items():
            self.note(f"{key} has no effect on {type(self).__name__}{why}")
        if cfg.TRAIN.COMPILE and not shutil.which(os.environ.get("CXX", "g++")):
            raise ConfigError("TRAIN.COMPILE needs a C++ compiler: install g++, or set CXX")
        if cfg.TRAIN.FEATURE_CACHE and self.prompt_config.has_visual:
            raise ConfigError(
                f"TRAIN.FEATURE_CACHE is {cfg.TRAIN.FEATURE_CACHE}, but visual prompts change the "
                "features of images in every step: set it to 0"
            )
        if cfg.TRAIN.DETERMINISTIC:
            only_deterministic()

    def build_data_loader(self) -> None:
        """Dassl's loaders, with a repeatable one for training; before them, the device."""
        cuda = torch.cuda.is_available()
        if self.cfg.USE_CUDA and not cuda and torch.backends.mps.is_available():
            self.device = torch.device("mps")  # the GPU of a Mac, which Dassl does not look for
        self.ranks = ranks()
        with self.ranks.first_ahead():  # it makes what is made on first use
            self.dm = data_manager(self.cfg, self.note, self.held_out)
        self.val_loader, self.test_loader = self.dm.val_loader, self.dm.test_loader
        self.num_classes, self.lab2cname = self.dm.num_classes, self.dm.lab2cname
        self.seed = self.cfg.SEED if self.cfg.SEED >= 0 else torch.initial_seed() % 2**31
        labels = [item.label for item in self.dm.dataset.train_x]
        self.train_loader_x = seeded_loader(
            self.dm.train_loader_x, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.seed,
            labels if self.cfg.TRAIN.BALANCED else None,
        )  # fmt: skip
        self.batches = cast(EpochBatches, self.train_loader_x.batch_sampler)
        self.hasher = ContentHasher(self.note)
        self.feature_cache = FeatureCache(self.cfg.TEST.CACHE_SIZE_GB * 1e9, self.note, self.hasher)
        writes = self.ranks.first
        self.run = Run(self.output_dir, self.cfg.dump(), difference, self.note, writes)
        self.store = RunStore(self.output_dir, self.note, writes)

    def load_clip(self) -> Any:
        """The CLIP of the configuration, on the device.

        Raises:
            ConfigError: INPUT.SIZE, PIXEL_MEAN or PIXEL_STD do not belong to it.
            CheckpointError: the weights are missing, damaged or not a CLIP.
        """
        backbone = self.cfg.MODEL.BACKBONE
        self.note(f"Loading CLIP (backbone: {backbone.PATH or backbone.NAME})")
        model = load_clip(backbone.NAME, backbone.PATH, activation=backbone.ACTIVATION)
        check_input(self.cfg, model, self.note)
        for line in remarks(model):
            self.note(line)
        if said := precision_on(self.device, self.prompt_config.precision):
            self.note(said)
        self.weights_sha256 = model.weights_sha256
        return model.to(self.device)

    def build_model(self) -> None:
        """Towers, prompt learner, optimizer and schedule."""
        cfg, config, names = self.cfg, self.prompt_config, self.dm.dataset.classnames
        self.texts = texts = prompt_texts(cfg, names)
        self.model = PromptedCLIP(self.load_clip(), names, config, texts=texts, same_names=True)
        self.towers = self.model.towers
        if cfg.TRAIN.COMPILE:
            self.towers.encode_text.compile()
        if self.ranks.size > 1:
            spread = SpreadTextEncoder(self.towers.encode_text, self.ranks)
            self.towers.encode_text = spread  # type: ignore[assignment]  # called the same
        learner = self.model.prompt_learner
        self.note(f"Context tokens: {learner.ctx.shape[-2]}, starting from {config.starts_from}")
        self.objective = self.model.objective_config(self.batches.n_items)
        weights = weights_of(cfg, type(self))
        templates = self.templates() if weights else []
        self.guidance = Guidance(self.model, names, templates, weights, self.texts)
        if cfg.MODEL.INIT_WEIGHTS:
            self.load_weights(cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        half = self.device.type == "cuda" and config.precision in ("fp16", "amp")
        self.noise = torch.Generator(self.device)
        self.take_step = GuardedStep(
            self.optim, torch.amp.GradScaler(self.device.type, enabled=half), learner,
            clip_norm=cfg.TRAIN.CLIP_GRAD_NORM, max_bad_steps=cfg.TRAIN.MAX_BAD_STEPS,
            save=self.save_bad_step, note=self.note,
        )  # fmt: skip
        n_params = sum(p.numel() for p in learner.parameters())
        self.note(f"Learned parameters: {n_params:,}")

    @property
    def parts(self) -> TrainingParts:
        """What training changes."""
        return TrainingParts(
            self.model.prompt_learner, self.optim, self.sched, self.take_step.scaler, self.noise
        )

    @property
    def bad_steps(self) -> int:
        """Steps that were left out; 0 of a trainer that takes none."""
        return self.take_step.bad_steps if hasattr(self, "take_step") else 0

    @property
    def tester(self) -> Evaluator:
        """Tests predictors, with Dassl's evaluator."""
        on_gpu = self.device.type == "cuda"
        depends_on = {
            "weights": self.weights_sha256,
            "precision": self.prompt_config.precision,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "products": self.towers.image_products,
        }
        if self.prompt_config.has_visual:
            learned = self.model.prompt_learner.state_dict()
            noise = f"{self.model.n_samples_test} {self.prompt_config.test_seed}"
            depends_on["prompts"] = digest({k: v.cpu() for k, v in learned.items()}) + noise
        return Evaluator(
            self.feature_cache, self.encode_test_image, depends_on,
            classnames=self.dm.dataset.classnames, metrics=self.evaluator, device=self.device,
            note=self.note,
        )  # fmt: skip

    @property
    def resources(self) -> Resources:
        """What the last digits of results depend on."""
        return Resources.of(self.towers.encode_text, self.device)

    def predictor(self) -> Predictor:
        """What classifies the test images: log-probabilities from image features."""
        return self.model.predictor()

    def templates(self) -> list[str]:
        """Hand-written prompts with a {} for the class name, for those that compare with them."""
        return []

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)`, float32, of images `(B, 3, H, W)` from any device.

        Under visual prompts if there are, with gradients to them.
        """
        images = images.to(self.device, non_blocking=True)
        if self.prompt_config.has_visual:
            return self.model.encode_image(images)
        return self.towers.encode_image(images)

    @torch.no_grad()
    def encode_test_image(self, images: Tensor) -> Tensor:
        """What the predictor takes of images `(B, 3, H, W)`."""
        if self.prompt_config.couple_residual:
            return self.model.encode_test_image(images.to(self.device, non_blocking=True))
        return self.encode_image(images)

    def save_bad_step(self, record: StepRecord, scale: float) -> Path:
        """Write what reproduces a step that was left out, with the scaler's factor in it."""
        raise NotImplementedError

    def load_weights(self, file: str) -> dict[str, Any]:
        """Fill the learner from a checkpoint file."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """A line of the log, which the first process keeps."""
        if not hasattr(self, "ranks") or self.ranks.first:
            print(text, flush=True)  # noqa: T201
