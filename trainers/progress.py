"""Dassl's progress line and TensorBoard scalars, read from the device when printed."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable

import torch
from dassl.utils import AverageMeter
from torch import Tensor


class StepLog:
    """Collects the scalars of an epoch's steps and reads them when a line is printed.

    Args:
        n_batches: batches of the epoch.
        print_freq: batches between two lines (every batch if the epoch is shorter).
        head: start of the line, "epoch [e/E]".
        write_scalar: ``(tag, value, step)`` for TensorBoard.
        epochs_left: whole epochs after this one, for the estimated time of arrival.
    """

    def __init__(
        self,
        n_batches: int,
        print_freq: int,
        head: str,
        write_scalar: Callable[[str, float, int], None],
        first_step: int,
        epochs_left: int,
    ):
        self.n_batches = n_batches
        self.every = print_freq if n_batches >= print_freq else 1
        self.head = head
        self.write_scalar = write_scalar
        self.first_step = first_step
        self.epochs_left = epochs_left
        self.batch_time, self.data_time = AverageMeter(), AverageMeter()
        self.meters: dict[str, AverageMeter] = {}
        self._waiting: list[tuple[int, dict[str, Tensor]]] = []
        self._clock = time.time()

    def due(self, batch: int) -> bool:
        """Whether the scalars are read after batch number `batch`."""
        return (batch + 1) % self.every == 0 or batch + 1 == self.n_batches

    def data_ready(self) -> None:
        """Call when the batch has arrived."""
        self.data_time.update(time.time() - self._clock)

    def step(self, batch: int, scalars: dict[str, Tensor], lr: float) -> None:
        """Call after the update of batch number `batch` (from 0) with its scalars.

        A step that was left out, its scalars not finite, counts in no average.
        """
        self._waiting.append((batch, {k: v.detach() for k, v in scalars.items()}))
        if self.due(batch):
            self._read(lr)
        self.batch_time.update(time.time() - self._clock)
        if (batch + 1) % self.every == 0:
            print(self._line(batch, lr), flush=True)  # noqa: T201
        self._clock = time.time()

    def _read(self, lr: float) -> None:
        names = list(self._waiting[0][1])
        values = torch.stack([s[n].float() for _, s in self._waiting for n in names]).tolist()
        rows = zip(*[iter(values)] * len(names), strict=True)
        for (batch, _), row in zip(self._waiting, rows, strict=True):
            if not all(map(math.isfinite, row)):
                continue
            at = self.first_step + batch
            for name, value in zip(names, row, strict=True):
                meter = self.meters.setdefault(name, AverageMeter())
                meter.update(value)
                self.write_scalar(f"train/{name}", meter.avg, at)
            self.write_scalar("train/lr", lr, at)
        self._waiting.clear()

    def _line(self, batch: int, lr: float) -> str:
        left = self.n_batches - batch - 1 + self.epochs_left * self.n_batches
        eta = datetime.timedelta(seconds=int(self.batch_time.avg * left))
        fields = [
            f"{self.head} batch [{batch + 1}/{self.n_batches}]",
            f"time {self.batch_time.val:.3f} ({self.batch_time.avg:.3f})",
            f"data {self.data_time.val:.3f} ({self.data_time.avg:.3f})",
            *(f"{n} {m.val:.4f} ({m.avg:.4f})" for n, m in self.meters.items()),
            f"lr {lr:.4e} eta {eta}",
        ]
        return " ".join(fields)
