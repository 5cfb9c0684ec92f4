"""The figure of benchmarks/uncertainty.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from benchmarks._embedded_runs import METHODS
from benchmarks._uncertainty_stats import Table
from varprompt.common.files import write_atomic

SCORES = ("max_probability", "max_logit", "energy", "entropy", "mutual_information")


def draw(table: Table, path: Path) -> None:
    """Accuracy against calibration, likelihood base against new, and scores for other classes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 5), layout="constrained")
    ten = plt.get_cmap("tab10").colors
    colours = dict(zip(METHODS, [*ten, "black"], strict=True))
    _arrows(left, table, colours, "H", "new/ece")
    left.set(
        xlabel="H, harmonic mean of accuracies in %", ylabel="ECE of new classes in %, 15 bins"
    )
    _arrows(middle, table, colours, "base/nll", "new/nll")
    middle.set(xlabel="NLL of base classes in nats", ylabel="NLL of new classes in nats")
    _scores(right, table, colours)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    handles, labels = middle.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    sets, seeds = len(table.sets), len(table.seeds)
    figure.suptitle(
        f"Means of {sets} embedded sets, {seeds} seed{'s' * (seeds > 1)}; filled: plain, open: "
        "with the temperature of the validation images"
    )
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    plt.close(figure)
    write_atomic(path, lambda file: file.write(data.getvalue()))


def _arrows(axes: Any, table: Table, colours: dict[str, Any], x: str, y: str) -> None:
    """From each method to the same with temperature."""
    for method in table.methods:
        points = [
            (table.mean((method, calibrator), x), table.mean((method, calibrator), y))
            for calibrator in ("none", "temperature")
        ]
        across, up = zip(*points, strict=True)
        colour = colours[method]
        axes.plot(across, up, "-", color=colour, linewidth=1)
        axes.plot(across[0], up[0], "o", color=colour, label=METHODS[method].title)
        axes.plot(across[1], up[1], "o", color=colour, markerfacecolor="white")


def _scores(axes: Any, table: Table, colours: dict[str, Any]) -> None:
    """AUROC of new against base images; mutual information of a single sample is no score."""
    for method in table.methods:
        values = [table.mean((method, "none"), f"ood/ood_{name}_auroc") for name in SCORES]
        axes.plot(
            range(len(SCORES)),
            [float("nan") if v is None else v for v in values],
            "o-", color=colours[method],
        )  # fmt: skip
    axes.set_xticks(range(len(SCORES)), [name.replace("_", "\n") for name in SCORES], fontsize=8)
    axes.set_ylabel("AUROC in %, images of new against base classes")
