"""The trainer that CoOp-style trainers extend: data, evaluation, log lines, TensorBoard."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import datetime
import math
import os
import time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data import DataManager
from ..evaluation import build_evaluator
from ..utils import AverageMeter, MetricMeter, mkdir_if_missing
from ..utils.torchtools import BEST
from .trainer_base import TrainerBase


class TrainerX(TrainerBase):
    """Builds data, model (by the subclass) and evaluator from a config; trains and tests."""

    model: nn.Module  # set by `build_model`

    def __init__(self, cfg: Any):
        super().__init__()
        self.check_cfg(cfg)
        use_cuda = torch.cuda.is_available() and cfg.USE_CUDA
        self.device = torch.device("cuda" if use_cuda else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -math.inf

    def check_cfg(self, cfg: Any) -> None:
        """Hook: refuse a config that the trainer cannot work with."""

    def build_data_loader(self) -> None:
        """Set the loaders and what is known of the classes; `dm` is the DataManager."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Build `model`, its optimizer and schedule, and register them."""
        raise NotImplementedError

    def train(self) -> None:
        """Run the epochs, from where `before_train` says, then test."""
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        """Resume from RESUME or the output folder, open TensorBoard, start the clock."""
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.cfg.OUTPUT_DIR)
        writer_dir = os.path.join(self.output_dir, "tensorboard")
        mkdir_if_missing(writer_dir)
        self.init_writer(writer_dir)
        self.time_start = time.time()

    def before_epoch(self) -> None:
        """Hook."""

    def after_train(self) -> None:
        """Test the last or best model, unless TEST.NO_TEST; close TensorBoard."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    def after_epoch(self) -> None:
        """Keep the best model on val if that is to be deployed; save where due."""
        cfg, done = self.cfg, self.epoch + 1
        if not cfg.TEST.NO_TEST and cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
        every = cfg.TRAIN.CHECKPOINT_FREQ
        if done == self.max_epoch or (every > 0 and done % every == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on `split` ("val" if there is one, else "test"); returns the accuracy."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            loader = self.val_loader
        else:
            split, loader = "test", self.test_loader
        print(f"Evaluate on the *{split}* set")
        for batch in tqdm(loader):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input), label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: Tensor) -> Tensor:
        """Scores (B, C) of images (B, 3, H, W)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) and labels (B,) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Rate of the first parameter group of the first model."""
        return self._optims[self.get_model_names(names)[0]].param_groups[0]["lr"]

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One training step; returns named scalars."""
        raise NotImplementedError

    def run_epoch(self) -> None:
        """One pass over the training data; `forward_backward` steps the schedule itself."""
        self.set_model_mode("train")
        metrics, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        end = time.time()
        for batch_idx, batch in enumerate(self.train_loader_x):
            self.batch_idx = batch_idx
            data_time.update(time.time() - end)
            metrics.update(self.forward_backward(batch))
            batch_time.update(time.time() - end)
            print_freq = self.cfg.TRAIN.PRINT_FREQ
            if (self.batch_idx + 1) % print_freq == 0 or self.num_batches < print_freq:
                self._print_progress(metrics, batch_time, data_time)
            step = self.epoch * self.num_batches + self.batch_idx
            for name, meter in metrics.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", self.get_current_lr(), step)
            end = time.time()

    def _print_progress(
        self, metrics: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter
    ) -> None:
        epochs_left = self.max_epoch - self.epoch - 1
        batches_left = (epochs_left + 1) * self.num_batches - self.batch_idx - 1
        eta = datetime.timedelta(seconds=int(batch_time.avg * batches_left))
        print(
            f"epoch [{self.epoch + 1}/{self.max_epoch}]",
            f"batch [{self.batch_idx + 1}/{self.num_batches}]",
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f})",
            f"data {data_time.val:.3f} ({data_time.avg:.3f})",
            metrics,
            f"lr {self.get_current_lr():.4e}",
            f"eta {eta}",
        )

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))
