"""Running averages of what a training step reports."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor


class AverageMeter:
    """Last value `val`, average `avg`, `sum` and `count`."""

    def __init__(self) -> None:
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val: float | Tensor, n: int = 1) -> None:
        """Add a value that stands for `n` items."""
        self.val = val.item() if isinstance(val, Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = self.sum / self.count


class MetricMeter:
    """One AverageMeter per name; as a string ``name last (average)``, in order of appearance."""

    def __init__(self, delimiter: str = " "):
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict[str, float | Tensor] | None) -> None:
        """Add one value per name; None adds nothing.

        Raises:
            TypeError: `input_dict` is something else.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"metrics must be a dict, got {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )
