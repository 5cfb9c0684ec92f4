"""From runs to rows: which belong together, what they are called, which are missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..common.characters import printable
from .cells import Series
from .layout import Method
from .published import ELEVEN
from .record import ALL_IMAGES
from .recorded import differing
from .runs import Run

_SHOWN = 5
Data = dict[Method, dict[Any, dict[int | None, float]]]


def collect(
    runs: Iterable[Run],
    key: Callable[[Run], Any],
    metric: str = "accuracy",
    row: Callable[[Run], Method] = lambda run: run.method,
) -> Data:
    """Method -> key of the run -> seed -> value, zero-shot first."""
    data: Data = {}
    for run in sorted(runs, key=lambda run: (not run.method.is_zeroshot, run.method)):
        series = data.setdefault(row(run), {}).setdefault(key(run), {})
        if metric in run.metrics:
            series[run.seed] = run.metrics[metric]
    return data


def sections(datasets: Collection[str]) -> list[tuple[list[str], str]]:
    """Groups of data sets and their headings: averages, then the single sets, in CoOp's order."""
    official = [name for name in ELEVEN if name in datasets]
    others = sorted(set(datasets) - set(ELEVEN))
    groups = []
    if official:
        groups.append((list(ELEVEN), f"Average over {len(ELEVEN)} data sets"))
    if len(others) > 1:
        groups.append((others, f"Average over {', '.join(others)}"))
    return groups + [([name], ELEVEN.get(name, name)) for name in (*official, *others)]


def shots_in_words(shots: int) -> str:
    """Number of training images per class."""
    return "all images" if shots == ALL_IMAGES else f"{shots} shot{'s' * (shots != 1)}"


def labels_of(methods: Iterable[Method]) -> dict[Method, str]:
    """What each method is called: its trainer, and as much more as tells it from the others."""
    methods = list(methods)
    labels = {}
    for method in methods:
        same = [m for m in methods if m.trainer == method.trainer]
        label = method.trainer
        if len({m.config for m in same}) > 1:
            label += f" {method.config}"
        if len({m.variant for m in same}) > 1 and method.variant:
            label += f" {method.variant}"
        usual = method.shots in (0, 16)
        labels[method] = label + ("" if usual else f", {shots_in_words(method.shots)}")
    return labels


def missing(
    data: Data,
    labels: Mapping[Method, str],
    keys: Collection[tuple[Any, ...]],
    seeds: Collection[int],
    unit: str = "",
) -> list[str]:
    """One note a method: which of its runs are not there."""
    notes = []
    for method, label in labels.items():
        gaps = []
        for key in keys:
            series: Series = data[method].get(key if len(key) > 1 else key[0], {})
            absent = [] if None in series else sorted(set(seeds) - set(series))
            what = " ".join(map(str, key)) + unit
            if not series:
                gaps.append(what)
            elif absent:
                gaps.append(f"{what} seed {', '.join(map(str, absent))}")
        if gaps:
            notes.append(f"Missing, {label}: {'; '.join(gaps)}.")
    return notes


def reading(runs: list[Run], seeds: Collection[int]) -> list[str]:
    """Notes on what the numbers are."""
    over = ", ".join(map(str, sorted(seeds)))
    notes = ["Accuracy in %" + (f", mean over seeds {over}." if seeds else ".")]
    if len(seeds) > 1:
        notes.append("Behind ± stands half of the 95 % Student t interval over seeds.")
    chosen = sum(run.record.selected_on_test for run in runs if run.record)
    if chosen:
        notes.append(f"{chosen} of {len(runs)} runs chose their epoch on the test images.")
    rough = sum(not run.exact for run in runs)
    if rough:
        notes.append(f"{rough} of {len(runs)} runs come from logs, which have one decimal only.")
    return notes


def mixed_settings(runs: Iterable[Run], labels: Mapping[Method, str]) -> list[str]:
    """Notes on methods whose runs on one data set differ in more than their seed."""
    groups: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
    for run in runs:
        if run.record and run.record.options:
            label = labels.get(run.method) or labels.get(replace(run.method, shots=0), "")
            part = "" if run.part == "all" else f" {run.part}"
            key = (label, f"{run.dataset}{part}", shots_in_words(run.method.shots))
            groups.setdefault(key, {})[run.record.settings] = run.record.options
    notes = []
    for (label, where, shots), several in groups.items():
        if len(several) > 1:
            keys = differing(list(several.values()))
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            what = ", ".join(keys[:_SHOWN]) + more
            notes.append(f"Seeds of {label} on {where} ({shots}) differ in {printable(what)}.")
    rest = [f"So do those of {len(notes) - _SHOWN} others."] if len(notes) > _SHOWN else []
    return notes[:_SHOWN] + rest
