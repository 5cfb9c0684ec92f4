"""The base class of all trainers here: Dassl's life cycle around `varprompt`'s model.

What is replaced of Dassl's TrainerX, and why:

- `build_data_loader`: order and augmentation depend on the seed and the epoch only, so that a run
  can be repeated and resumed whatever the number of workers; images that cannot be read are named.
- the scheduler: that of Dassl 0.6.3 does not work with torch >= 2.7 and pickles objects.
- `run_epoch`: reads what it prints from the device when it prints it; can start in the middle of
  an epoch, and saves the state there; prints the learning rate that was used.
- `save_model`, `load_model`, `resume_model_if_exist`: atomic, without pickled objects, strict.
- `test`: encodes class texts once, images once for all runs; adds likelihood and calibration;
  writes results.json.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, ClassVar

import numpy as np
import torch
from dassl.data import DataManager
from dassl.engine import TrainerX
from dassl.optim import build_optimizer
from torch import Tensor

from varprompt.errors import ConfigError
from varprompt.images.encode import view_loader
from varprompt.images.feature_cache import FeatureCache
from varprompt.images.loaders import derive_seed, end_workers, only_deterministic, seeded_loader
from varprompt.images.read import ImageItems
from varprompt.model import PromptedCLIP
from varprompt.objective import objective, predictive_log_prob
from varprompt.run.interrupt import EXIT_RESUMABLE, StopRequest, stop_on_signal
from varprompt.run.schedule import build_lr_scheduler
from varprompt.settings.nodes import add_node, prompt_config, without_effect
from varprompt.towers.load import input_size, load_clip

from .evaluation import EvaluationMixin
from .guard import GuardMixin, count_steps_on
from .progress import StepLog
from .state import CheckpointMixin


class PromptTrainer(GuardMixin, CheckpointMixin, EvaluationMixin, TrainerX):
    """Trains a `PromptLearner` in front of a frozen CLIP.

    A trainer is what it declares, whatever it is called; its subclasses inherit that.

    Attributes:
        node: name of its node of options, TRAINER.<node>. A trainer must have one.
        prompt: what is learned: "context", or "" for nothing.
        conditional: the prompts depend on the image.
        variational: they are drawn from a learned distribution; the node has its options (L,
            KL_WEIGHT, ...).
        posterior: what is added to the context if the node has no option POSTERIOR: a name in
            `varprompt.posteriors.POSTERIORS`, "meta_net", or "" for nothing.
        regularisers: further terms of the loss.
        also_reads: keys outside of its node that it reads besides those of every trainer.
    """

    node: ClassVar[str] = ""
    prompt: ClassVar[str] = "context"
    conditional: ClassVar[bool] = False
    variational: ClassVar[bool] = False
    posterior: ClassVar[str] = ""
    regularisers: ClassVar[tuple[str, ...]] = ()
    also_reads: ClassVar[tuple[str, ...]] = ()

    stop: StopRequest = StopRequest()
    first_batch = 0

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
        for key in without_effect(cfg, type(self)):
            self.note(f"{key} has no effect on {type(self).__name__}")
        if cfg.TRAIN.COMPILE and not shutil.which(os.environ.get("CXX", "g++")):
            raise ConfigError("TRAIN.COMPILE needs a C++ compiler: install g++, or set CXX")
        if cfg.TRAIN.DETERMINISTIC:
            only_deterministic()

    def build_data_loader(self) -> None:
        """Dassl's loaders, with a repeatable one for training."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, len(os.sched_getaffinity(0)))
        if cfg.DATALOADER.NUM_WORKERS < self.cfg.DATALOADER.NUM_WORKERS:
            self.note(f"{cfg.DATALOADER.NUM_WORKERS} data loader workers, one for each CPU")
        try:
            self.dm = DataManager(cfg, dataset_wrapper=ImageItems)
        except AttributeError as error:  # the AutoAugment policies of Dassl 0.6.3 use np.int
            if "numpy" not in str(error):
                raise
            names = ", ".join(cfg.INPUT.TRANSFORMS)
            raise ConfigError(
                f"this Dassl cannot make all of INPUT.TRANSFORMS {names} with NumPy "
                f"{np.__version__}: leave out the *_policy, or use NumPy below 1.24"
            ) from error
        self.val_loader, self.test_loader = self.dm.val_loader, self.dm.test_loader
        self.num_classes, self.lab2cname = self.dm.num_classes, self.dm.lab2cname
        self.seed = cfg.SEED if cfg.SEED >= 0 else torch.initial_seed() % 2**31
        self.train_loader_x = seeded_loader(
            self.dm.train_loader_x, cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.seed
        )
        self.feature_cache = FeatureCache(cfg.TEST.CACHE_SIZE_GB * 1e9, self.note)

    def load_clip(self) -> Any:
        """The CLIP of the configuration, on the device.

        Raises:
            ConfigError: INPUT.SIZE is not what the image tower takes.
            CheckpointError: the weights are missing, damaged or not a CLIP.
        """
        backbone = self.cfg.MODEL.BACKBONE
        self.note(f"Loading CLIP (backbone: {backbone.PATH or backbone.NAME})")
        model = load_clip(backbone.NAME, backbone.PATH, activation=backbone.ACTIVATION)
        size = input_size(model)
        if tuple(self.cfg.INPUT.SIZE) != (size, size):
            raise ConfigError(
                f"INPUT.SIZE is {tuple(self.cfg.INPUT.SIZE)} but backbone "
                f"{backbone.PATH or backbone.NAME} takes ({size}, {size})"
            )
        self.weights_sha256 = model.weights_sha256
        return model.to(self.device)

    def build_model(self) -> None:
        """Towers, prompt learner, optimizer and schedule."""
        cfg, config = self.cfg, self.prompt_config
        self.model = PromptedCLIP(
            self.load_clip(), self.dm.dataset.classnames, config, same_names=True
        )
        self.towers = self.model.towers
        if cfg.TRAIN.COMPILE:
            self.towers.encode_text.compile()
        learner = self.model.prompt_learner
        words = f'the words "{config.ctx_init}"' if config.ctx_init else "random vectors"
        self.note(f"Context tokens: {learner.ctx.shape[-2]}, starting from {words}")
        self.objective = self.model.objective_config(len(self.train_loader_x.dataset))
        if cfg.MODEL.INIT_WEIGHTS:
            self.load_weights(cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(learner, cfg.OPTIM)
        count_steps_on(self.device, self.optim.param_groups)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        half = self.device.type == "cuda" and config.precision in ("fp16", "amp")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.noise = torch.Generator(self.device)
        n_params = sum(p.numel() for p in learner.parameters())
        self.note(f"Learned parameters: {n_params:,}")

    def train(self) -> None:
        """Train; on Ctrl-C or SIGTERM leave with a code of its own, within an epoch with the state.

        A second signal does not wait for the end of the step.
        """
        with stop_on_signal() as self.stop:
            try:
                super().train()
            finally:
                end_workers(self.train_loader_x)

    def before_train(self) -> None:
        """Resume if there is something to resume; encode the training views if wanted."""
        super().before_train()
        if self.cfg.TRAIN.FEATURE_CACHE:
            with self.autocast():
                self.train_loader_x = view_loader(
                    self.train_loader_x,
                    self.cfg.TRAIN.FEATURE_CACHE,
                    self.encode_image,
                    self.cfg.DATALOADER.TEST.BATCH_SIZE,
                )

    def before_epoch(self) -> None:
        """Draw this epoch's noise from a seed of its own, unless it was restored."""
        super().before_epoch()
        self.stop.deferred = True
        if self.first_batch == 0:
            self.noise.manual_seed(derive_seed(self.seed, self.epoch, "noise"))

    def run_epoch(self) -> None:
        """One pass over the training images, or what is left of an interrupted one."""
        self.set_model_mode("train")
        batches = self.train_loader_x.batch_sampler
        batches.epoch, batches.first_batch = self.epoch, self.first_batch
        self.num_batches = len(batches)
        log = StepLog(
            self.num_batches,
            self.cfg.TRAIN.PRINT_FREQ,
            f"epoch [{self.epoch + 1}/{self.max_epoch}]",
            self.write_scalar,
            self.epoch * self.num_batches,
            self.max_epoch - self.epoch - 1,
        )
        lr = self.get_current_lr()
        for index, batch in enumerate(self.train_loader_x, self.first_batch):
            log.data_ready()
            self.batch_idx = index
            scalars = self.forward_backward(batch)
            if log.due(index):
                self.check_steps()
            log.step(index, scalars, lr)
            self._after_step(index + 1)
        self.first_batch = 0
        self.update_lr()

    def after_epoch(self) -> None:
        """Dassl's checkpoints, and the state from which an interrupted run goes on."""
        super().after_epoch()
        self.save_resume_state(self.epoch + 1, 0)
        self.stop.deferred = False  # nothing is lost if the run ends before the next epoch
        if self.stop:
            self.leave(self.epoch + 1, 0)

    def _after_step(self, done: int) -> None:
        """Save the state after `done` batches if it is due or a signal has arrived."""
        every = self.cfg.TRAIN.CHECKPOINT_STEPS
        due = every and (self.epoch * self.num_batches + done) % every == 0
        if done < self.num_batches and (due or self.stop):
            self.check_steps()
            self.save_resume_state(self.epoch, done)
            if self.stop:
                self.leave(self.epoch, done)

    def leave(self, epoch: int, batch: int) -> None:
        """Exit with the code for "run the same command again"; the state is saved."""
        self.note(
            f"Interrupted after epoch {epoch}, batch {batch} of the next; the state is saved, "
            "the same command goes on from there"
        )
        self.close_writer()
        raise SystemExit(EXIT_RESUMABLE)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Unit-norm image features `(B, E)` and labels `(B,)` on the device."""
        if "features" in batch:
            features = batch["features"].to(self.device, non_blocking=True)
        else:
            features = self.encode_image(batch["img"])
        return features, batch["label"].to(self.device, non_blocking=True)

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)`, float32, of images `(B, 3, H, W)` from any device."""
        return self.towers.encode_image(images.to(self.device, non_blocking=True))

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One update, without waiting for the device, where the scalars stay."""
        noise = self.noise.get_state()
        with self.autocast():
            features, labels = self.parse_batch_train(batch)
            logits, kl = self.model.logits_of(features, generator=self.noise)
        terms = objective(logits, labels, kl, self.objective)
        self.update(terms.loss, batch, noise)
        hits = predictive_log_prob(logits.detach()).argmax(-1) == labels
        scalars = {"loss": terms.loss, "acc": 100 * hits.float().mean()}
        if self.prompt_config.kl_weight:
            scalars |= {"nll": terms.nll, "kl": terms.kl}
        return scalars

    def autocast(self) -> torch.autocast:
        """Half precision where torch thinks it safe, for precision "amp" on a GPU."""
        enabled = self.prompt_config.precision == "amp" and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.float16, enabled=enabled)

    def note(self, text: str) -> None:
        """A line of the log."""
        print(text, flush=True)  # noqa: T201
