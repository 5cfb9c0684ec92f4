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

from typing import Any

import torch
from torch import Tensor

from varprompt.common.console import EXIT_RESUMABLE
from varprompt.images.encode import view_loader
from varprompt.images.loaders import derive_seed
from varprompt.images.workers import end_workers
from varprompt.objective import objective, predictive_log_prob
from varprompt.run.guard import StepRecord
from varprompt.run.identity import TRAIN
from varprompt.run.interrupt import StopRequest, stop_on_signal

from .data import check_trainable, selected_on
from .progress import StepLog
from .tested import TestedTrainer


class PromptTrainer(TestedTrainer):
    """Trains a `PromptLearner` in front of a frozen CLIP, and tests it.

    What a trainer declares of itself is explained in `trainers.build.BuiltTrainer`.
    """

    stop: StopRequest = StopRequest()
    batch_idx = num_batches = 0

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
        """Resume if there is something to resume; encode the training views if wanted.

        Raises:
            ConfigError: TEST.FINAL_MODEL best_val without validation images; test images only.
        """
        check_trainable(self.dm.dataset)
        self.mode = TRAIN
        if selected_on(self.cfg, self.dm.dataset, self.hasher) == "test":
            self.note(
                "ATTENTION: the validation images are the test images. TEST.FINAL_MODEL best_val "
                "chooses the epoch by them, so that the accuracy is too high: do not compare it"
            )
        super().before_train()
        self.run.keep_inventory(self.identity)
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
        self.batches.epoch, self.batches.first_batch = self.epoch, self.first_batch
        self.num_batches = len(self.batches)
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
                self.take_step.check()
            log.step(index, scalars, lr)
            self._after_step(index + 1)
        self.first_batch = 0
        self.update_lr()

    def after_epoch(self) -> None:
        """Dassl's checkpoints, and the state from which an interrupted run goes on."""
        super().after_epoch()
        self.save_resume_state(self.epoch + 1, 0)
        self.stop.deferred = False  # nothing is lost if the run ends before the next epoch
        if self.ranks.any(bool(self.stop)):
            self.leave(self.epoch + 1, 0)

    def _after_step(self, done: int) -> None:
        """Save the state after `done` batches if it is due or a signal has arrived."""
        every = self.cfg.TRAIN.CHECKPOINT_STEPS
        due = every and (self.epoch * self.num_batches + done) % every == 0
        stop = self.ranks.any(bool(self.stop))  # a signal comes to each at another step
        if done < self.num_batches and (due or stop):
            self.take_step.check()
            self.save_resume_state(self.epoch, done)
            if stop:
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
        elif self.prompt_config.has_visual:  # with gradients: every process has all images
            features = self.encode_image(batch["img"])
        else:
            features = self.ranks.rows(self.encode_image, batch["img"])
        return features, batch["label"].to(self.device, non_blocking=True)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One update, without waiting for the device, where the scalars stay."""
        noise, images = self.noise.get_state(), batch.get("img")
        if images is not None:
            images = images.to(self.device, non_blocking=True)
        with self.autocast():
            features, labels = self.parse_batch_train({**batch, "img": images})
            out = self.model.outputs(features, images=images, generator=self.noise)
            extra = self.guidance(out, features, images)
        prior = self.model.prior
        kl = prior.kl(out.kl, out.residual, labels) if prior else out.kl
        terms = objective(out.logits, labels, kl, self.objective)
        loss = torch.stack([terms.loss, *extra.values()]).sum()
        self.update(loss, batch, noise)
        hits = predictive_log_prob(out.logits.detach()).argmax(-1) == labels
        scalars = {"loss": loss, "acc": 100 * hits.float().mean()}
        if self.prompt_config.kl_weight or extra:
            scalars["nll"] = terms.nll
        if self.prompt_config.kl_weight:
            scalars["kl"] = terms.kl
        return scalars | extra

    def update(self, loss: Tensor, batch: dict[str, Any], noise: Tensor) -> None:
        """A step of the optimizer, unless loss or gradient are NaN or infinite.

        Args:
            loss: scalar.
            batch: what it was computed from.
            noise: state of the generator before that.
        """
        self.take_step(
            loss,
            StepRecord(self.epoch, self.batch_idx, self.num_batches, self.max_epoch, batch, noise),
        )

    def autocast(self) -> torch.autocast:
        """Half precision where torch thinks it safe, for precision "amp" on a GPU."""
        enabled = self.prompt_config.precision == "amp" and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.float16, enabled=enabled)
