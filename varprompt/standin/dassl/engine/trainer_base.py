"""Models with their optimizers and schedules, checkpoints, TensorBoard."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ..utils import load_checkpoint, resume_from_checkpoint, save_checkpoint, tolist_if_not
from ..utils.torchtools import BEST, POINTER


class TrainerBase:
    """What a trainer does with its models: register, switch, step, save, load."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None

    def register_model(
        self, name: str = "model", model: Any = None, optim: Any = None, sched: Any = None
    ) -> None:
        """Register a model to be switched, saved and loaded, with what trains it.

        Raises:
            AttributeError: called before ``TrainerBase.__init__``.
            KeyError: the name is taken.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("register_model needs super().__init__() to be called first")
        if name in self._models:
            raise KeyError(f"a model named {name!r} was already registered")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """All registered names, or `names` as a list if they are registered.

        Raises:
            KeyError: one is not.
        """
        registered = list(self._models)
        if names is None:
            return registered
        names = tolist_if_not(names)
        unknown = [name for name in names if name not in registered]
        if unknown:
            raise KeyError(f"no model is called {unknown}; registered: {registered}")
        return names

    def save_model(
        self, epoch: int, directory: str, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Save each registered model after `epoch` (from 0) to ``directory/<name>/``."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim and optim.state_dict(),
                "scheduler": sched and sched.state_dict(),
                "val_result": val_result,
            }
            save_checkpoint(state, os.path.join(directory, name), model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Load what was saved last in `directory`, if all models were; returns epochs done."""
        folders = {name: os.path.join(directory, name) for name in self.get_model_names()}
        if not folders or not all(
            os.path.exists(os.path.join(folder, POINTER)) for folder in folders.values()
        ):
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        epoch = 0
        for name, folder in folders.items():
            epoch = resume_from_checkpoint(
                folder, self._models[name], self._optims[name], self._scheds[name]
            )
        return epoch

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights saved after `epoch` epochs, or the best ones, for evaluation.

        Raises:
            FileNotFoundError: no such checkpoint.
        """
        if not directory:
            print("Loading is skipped: no model folder is given")
            return
        file_name = BEST if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = os.path.join(directory, name, file_name)
            if not os.path.exists(path):
                hint = "; --load-epoch names another one" if epoch is None else ""
                raise FileNotFoundError(f"No model at {path}{hint}")
            state = load_checkpoint(path)
            result = state["val_result"]
            result = "None" if result is None else f"{result:.1f}"
            print(f"Load {path} to {name} (epoch={state['epoch']}, val_result={result})")
            self._models[name].load_state_dict(state["state_dict"])

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Switch registered models to "train", or "test" or "eval".

        Raises:
            KeyError: another mode.
        """
        training = {"train": True, "test": False, "eval": False}[mode]
        for name in self.get_model_names(names):
            self._models[name].train(training)

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedules."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def detect_anomaly(self, loss: Tensor) -> None:
        """Check a loss.

        Raises:
            FloatingPointError: it is infinite or NaN.
        """
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def init_writer(self, log_dir: str) -> None:
        """Open the TensorBoard writer, once."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        """Close the TensorBoard writer, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write to TensorBoard, if there is a writer."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Clear the gradients."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        """Backward of a loss that is finite."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Step the optimizers."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """Clear gradients, backward, step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)
