"""The base class of all trainers here: Dassl's life cycle around `varprompt`'s model.

What is replaced of Dassl's TrainerX, and why:

- `build_data_loader`: order and augmentation depend on the seed and the epoch only, so that a run
  can be repeated and resumed whatever the number of workers.
- the scheduler: that of Dassl 0.6.3 does not work with torch >= 2.7 and pickles objects.
- `run_epoch`: reads scalars from the device when a line is printed, not at every step; can start
  in the middle of an epoch; prints the learning rate that was used.
- `save_model`, `load_model`, `resume_model_if_exist`: atomic, without pickled objects, strict.
- `test`: encodes class texts once; adds likelihood and calibration; writes results.json.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from dassl.engine import TrainerX
from dassl.optim import build_optimizer
from torch import Tensor, nn
from tqdm import tqdm

from varprompt.clip_io import input_size, load_clip
from varprompt.config import prompt_config
from varprompt.errors import ConfigError
from varprompt.interrupt import EXIT_RESUMABLE, StopRequest, stop_on_signal
from varprompt.loading import derive_seed, seeded_loader
from varprompt.model import Predictor, PromptedCLIP
from varprompt.objective import ObjectiveConfig, kl_scale, objective, predictive_log_prob
from varprompt.results import Tally, write_results
from varprompt.schedule import build_lr_scheduler

from .progress import StepLog
from .state import CheckpointMixin

_COLLAPSED = 0.999


class PromptTrainer(CheckpointMixin, TrainerX):
    """Trains a `PromptLearner` in front of a frozen CLIP; subclasses are found by their name."""

    stop: StopRequest = StopRequest()
    first_batch = 0

    def check_cfg(self, cfg: Any) -> None:
        """Validate the trainer's options before any work.

        Raises:
            ConfigError: everything that is wrong.
        """
        self.prompt_config = prompt_config(cfg, type(self).__name__)
        if cfg.DATALOADER.TRAIN_X.SAMPLER != "RandomSampler":
            raise ConfigError(
                f"DATALOADER.TRAIN_X.SAMPLER is {cfg.DATALOADER.TRAIN_X.SAMPLER!r}; prompt "
                "learning has no domains, only RandomSampler is supported"
            )

    def build_data_loader(self) -> None:
        """Dassl's loaders, with a repeatable one for training."""
        super().build_data_loader()
        cfg = self.cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else torch.initial_seed() % 2**31
        self.train_loader_x = seeded_loader(
            self.train_loader_x, cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.seed
        )

    def load_clip(self) -> Any:
        """The CLIP of the configuration, on the device.

        Raises:
            ConfigError: INPUT.SIZE is not what the image tower takes.
            CheckpointError: the weights are missing, damaged or not a CLIP.
        """
        backbone = self.cfg.MODEL.BACKBONE
        self.note(f"Loading CLIP (backbone: {backbone.PATH or backbone.NAME})")
        model = load_clip(backbone.NAME, backbone.PATH)
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
        self.model = PromptedCLIP(self.load_clip(), self.dm.dataset.classnames, config)
        self.towers = self.model.towers
        learner = self.model.prompt_learner
        n_train = len(self.train_loader_x.dataset)
        self.objective = ObjectiveConfig(
            config.objective,
            kl_scale(config.kl_weight, config.kl_reduction, self.model.n_dims, n_train),
        )
        if cfg.MODEL.INIT_WEIGHTS:
            self.load_weights(learner, cfg.MODEL.INIT_WEIGHTS)
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        half = self.device.type == "cuda" and config.precision in ("fp16", "amp")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.noise = torch.Generator(self.device)
        n_params = sum(p.numel() for p in learner.parameters())
        self.note(f"Learned parameters: {n_params:,}")

    def train(self) -> None:
        """Train, and on Ctrl-C or SIGTERM save the state and leave with a code of its own."""
        with stop_on_signal() as self.stop:
            super().train()

    def before_epoch(self) -> None:
        """Draw this epoch's noise from a seed of its own, unless it was restored."""
        super().before_epoch()
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
            log.step(self.batch_idx, self.forward_backward(batch), lr)
            if self.stop and self.batch_idx + 1 < self.num_batches:
                self.leave(self.epoch, self.batch_idx + 1)
        self.first_batch = 0
        self.update_lr()

    def after_epoch(self) -> None:
        """Dassl's checkpoints, and the state from which an interrupted run goes on."""
        super().after_epoch()
        if self.stop:
            self.leave(self.epoch + 1, 0)
        self.save_resume_state(self.epoch + 1, 0)

    def leave(self, epoch: int, batch: int) -> None:
        """Save the state and exit with the code for "run the same command again"."""
        self.save_resume_state(epoch, batch)
        self.note(
            f"Interrupted after epoch {epoch}, batch {batch} of the next; the state is saved, "
            "the same command goes on from there"
        )
        raise SystemExit(EXIT_RESUMABLE)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Images and labels on the device."""
        return self.parse_batch_test(batch)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One update; the scalars stay on the device."""
        images, labels = self.parse_batch_train(batch)
        with torch.autocast(self.device.type, torch.float16, enabled=self._autocast):
            logits, kl = self.model.logits(images, generator=self.noise)
        terms = objective(logits, labels, kl, self.objective)
        self._update(terms.loss)
        hits = predictive_log_prob(logits.detach()).argmax(-1) == labels
        scalars = {"loss": terms.loss, "acc": 100 * hits.float().mean()}
        if self.prompt_config.kl_weight:
            scalars |= {"nll": terms.nll, "kl": terms.kl}
        return scalars

    @property
    def _autocast(self) -> bool:
        return self.prompt_config.precision == "amp" and self.device.type == "cuda"

    def _update(self, loss: Tensor) -> None:
        self.optim.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.cfg.TRAIN.CLIP_GRAD_NORM > 0:
            self.scaler.unscale_(self.optim)
            nn.utils.clip_grad_norm_(
                self.model.prompt_learner.parameters(), self.cfg.TRAIN.CLIP_GRAD_NORM
            )
        self.scaler.step(self.optim)
        self.scaler.update()

    def predictor(self) -> Predictor:
        """What classifies the test images: log-probabilities from image features."""
        return self.model.predictor()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Classify a split, print Dassl's lines, write results.json; returns the accuracy."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is None:
            split = "test"
        loader = self.val_loader if split == "val" else self.test_loader
        self.note(f"Evaluate on the *{split}* set")
        predictor, tally, similarity = self.predictor(), Tally(), None
        for batch in tqdm(loader, disable=None, desc=split):
            images, labels = self.parse_batch_test(batch)
            features = self.towers.encode_image(images)
            if similarity is None:
                similarity = predictor.similarity(features)
            log_prob = predictor(features)
            self.evaluator.process(log_prob, labels)
            tally.update(log_prob, labels)
        if similarity is not None and similarity > _COLLAPSED:
            warnings.warn(
                f"the texts of all classes are nearly the same (mean cosine {similarity:.4f}): "
                "training has collapsed; lower OPTIM.LR or set TRAIN.CLIP_GRAD_NORM 1.0",
                stacklevel=2,
            )
        return self._report(split, tally)

    def _report(self, split: str, tally: Tally) -> float:
        results = dict(self.evaluator.evaluate())
        for name, value in results.items():
            if not name.startswith("perclass"):
                self.write_scalar(f"{split}/{name}", value, self.epoch)
        summary = tally.summary(self.dm.dataset.classnames)
        self.note(f"* nll: {summary['nll']:.4f}\n* ece: {summary['ece']:.1f}%")
        if split == self.cfg.TEST.SPLIT:
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
            "checkpoint_epoch": self.loaded_epoch or max(self.start_epoch, self.epoch + 1),
            "checkpoint_sha256": self.checkpoint_sha256,
            "config": cfg.dump(),
        }

    def note(self, text: str) -> None:
        """A line of the log."""
        print(text, flush=True)  # noqa: T201
