"""The comparison tables: base-to-new, transfer from ImageNet, domain generalisation, few-shot."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import product

from .calibration import SMALL_SET, calibration_notes, small_sets
from .cells import NOT_KNOWN, Cell, average, harmonic_cell, noted, summary
from .grouping import collect, labels_of, missing, mixed_settings, reading, sections, shots_in_words
from .layout import Method
from .published import ELEVEN, VARIANTS, Published, published
from .record import ALL_IMAGES
from .runs import Run, seeds_of
from .stats import harmonic

PARTS = ("base", "new")
SHOTS = (1, 2, 4, 8, 16)
TARGETS = {name: shown for name, shown in ELEVEN.items() if name != "imagenet"}
TRANSFERS = {
    "cross_dataset": ("Cross-dataset transfer from ImageNet", TARGETS),
    "domain": ("Domain generalisation from ImageNet", VARIANTS),
}
PUBLISHED_NOTE = (
    "Published rows are the papers' figures (ViT-B/16, 16 shots, 3 seeds); not measured here."
)


@dataclass(frozen=True)
class Row:
    """A method in a section of a table. Published rows were not measured by this project."""

    section: str
    method: str
    cells: list[Cell]
    published: bool = False


@dataclass
class Table:
    """Rows in the order of their sections; `notes` say how to read it and what is missing.

    `lower`: the columns in which the smallest is the best.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lower: frozenset[str] = frozenset()


def all_tables(
    runs: Iterable[Run], seeds: Collection[int] = (), with_published: bool = True
) -> list[Table]:
    """The tables for which there are runs.

    `seeds` are those that every method should have (default: all that occur in the table).
    """
    runs = [run for run in runs if not seeds or run.seed is None or run.seed in seeds]
    figures = published() if with_published else {}
    tables = [base2new(runs, seeds, figures)]
    tables += [transfer(runs, seeds, figures, name) for name in TRANSFERS]
    return [table for table in (*tables, fewshot(runs, seeds)) if table.rows]


def base2new(runs: list[Run], seeds: Collection[int], figures: dict[str, Published]) -> Table:
    """Accuracy on base and new classes, and their harmonic mean, by data set and on average."""
    runs = [run for run in runs if run.part != "all"]
    seeds = seeds or seeds_of(runs)
    calibrated = [run for run in runs if run.part == "new" and "ece" in run.metrics]
    table = Table("base2new", "Base-to-new generalisation", ["Base", "New", "H"])
    table.columns += ["ECE new"] * bool(calibrated)
    table.lower = frozenset({"ECE new"})
    data = collect(runs, lambda run: (run.dataset, run.part))
    small = small_sets(calibrated)
    errors = collect(calibrated, lambda run: run.dataset, "ece")
    labels = labels_of(data)
    for group, section in sections({run.dataset for run in runs}):
        for method, label in labels.items():
            base, new = ({d: data[method].get((d, part), {}) for d in group} for part in PARTS)
            if not any(base.values()) and not any(new.values()):
                continue
            cells = [average(base, seeds), average(new, seeds)]
            cells.append(harmonic_cell(base, new, *cells))
            if calibrated:
                known = errors.get(method, {}).keys() & set(group)
                by_set = {d: errors[method].get(d, {}) for d in group} if known else {}
                cell = average(by_set, seeds) if known else NOT_KNOWN
                cells.append(noted(cell, SMALL_SET) if known & small.keys() else cell)
            table.rows.append(Row(section, label, cells))
        table.rows += _published_halves(group, section, figures, blanks=bool(calibrated))
    table.notes += reading(runs, seeds) + _published_note(table)
    table.notes.append("H is the harmonic mean of the two means, its interval that of H by seed.")
    table.notes += calibration_notes(small)
    keys = list(product(dict.fromkeys(run.dataset for run in runs), PARTS))
    table.notes += mixed_settings(runs, labels) + missing(data, labels, keys, seeds)
    return table


def _published_halves(
    group: list[str], section: str, figures: dict[str, Published], blanks: bool
) -> list[Row]:
    key = group[0] if len(group) == 1 else "average" if group == list(ELEVEN) else ""
    rows = []
    for name, figure in figures.items():
        values = dict(figure.base2new.get(key, {}))
        if len(values) == len(PARTS):
            values["h"] = harmonic(values["base"], values["new"])
        if values:
            cells = [Cell(values[p]) if p in values else NOT_KNOWN for p in (*PARTS, "h")]
            cells += [NOT_KNOWN] * blanks
            rows.append(Row(section, f"{name} (published)", cells, published=True))
    return rows


def transfer(
    runs: list[Run], seeds: Collection[int], figures: dict[str, Published], name: str
) -> Table:
    """Trained on ImageNet: accuracy there and on other data sets; `name` is in TRANSFERS."""
    title, targets = TRANSFERS[name]
    where = ["imagenet", *targets]
    table = Table(name, title, [ELEVEN["imagenet"], *targets.values(), "Average"])
    runs = [r for r in runs if r.part == "all" and r.source in ("imagenet", "")]
    runs = _without_lost_variant([r for r in runs if r.dataset in where])
    seeds = seeds or seeds_of(runs)
    data = collect(runs, lambda run: run.dataset)
    data = {method: series for method, series in data.items() if series.keys() & targets.keys()}
    labels = labels_of(data)
    for method, label in labels.items():
        cells = [summary(data[method].get(d, {}), seeds) for d in where]
        cells.append(average({d: data[method].get(d, {}) for d in targets}, seeds))
        table.rows.append(Row("", label, cells))
    for other, figure in figures.items() if table.rows else ():
        if figure.transfer:
            values = [figure.transfer[d] for d in targets]
            mean = sum(values) / len(values)
            cells = [Cell(value) for value in (figure.transfer["imagenet"], *values, mean)]
            table.rows.append(Row("", f"{other} (published)", cells, published=True))
    table.notes += reading([run for run in runs if run.method in data], seeds)
    table.notes += _published_note(table)
    table.notes.append("The average is over the targets, without ImageNet.")
    table.notes += mixed_settings([run for run in runs if run.method in data], labels)
    table.notes += missing(data, labels, [(d,) for d in where], seeds)
    return table


def fewshot(runs: list[Run], seeds: Collection[int]) -> Table:
    """Accuracy on all classes against the number of images per class trained on."""
    runs = [r for r in runs if r.part == "all" and r.source in (r.dataset, "")]
    if {r.method.shots for r in runs if r.source == "imagenet"} == {16}:
        runs = [r for r in runs if r.source != "imagenet"]  # for the transfer tables, no curve
    trained = {(r.dataset, r.method.shots) for r in runs if r.source}
    table = Table("fewshot", "Few-shot learning", [])
    runs = [r for r in runs if r.source or r.dataset in {dataset for dataset, _ in trained}]
    seeds = seeds or seeds_of(runs)
    columns = sorted({run.method.shots for run in runs} | set(SHOTS), key=_by_number)
    table.columns = [shots_in_words(n) for n in columns]
    data = collect(
        runs,
        lambda run: (run.dataset, run.method.shots),
        row=lambda run: replace(run.method, shots=0),
    )
    labels = labels_of(data)
    for group, section in sections({run.dataset for run in runs}):
        for method, label in labels.items():
            if not {dataset for dataset, _ in data[method]} & set(group):
                continue
            cells = [NOT_KNOWN] * len(columns)
            for i, shots in enumerate(columns):
                if (shots == 0) == method.is_zeroshot:
                    by_set = {d: data[method].get((d, shots), {}) for d in group}
                    cells[i] = average(by_set, seeds)
            table.rows.append(Row(section, label, cells))
    table.notes += reading(runs, seeds)
    keys = list(product(sorted({dataset for dataset, _ in trained}), SHOTS))
    trained_only = {method: label for method, label in labels.items() if not method.is_zeroshot}
    table.notes += mixed_settings(runs, labels)
    table.notes += missing(data, trained_only, keys, seeds, unit="-shot")
    return table


def _by_number(shots: int) -> float:
    return math.inf if shots == ALL_IMAGES else shots


def _published_note(table: Table) -> list[str]:
    return [PUBLISHED_NOTE] if any(row.published for row in table.rows) else []


def _without_lost_variant(runs: list[Run]) -> list[Run]:
    """BPL names samples and epochs in the path of the training run only: join the two."""
    sources: dict[Method, set[str]] = {}
    for run in runs:
        if run.dataset == "imagenet":
            sources.setdefault(replace(run.method, variant=""), set()).add(run.method.variant)
    joined = []
    for run in runs:
        known = sources.get(run.method, set())
        only = next(iter(known)) if len(known) == 1 and not run.method.variant else ""
        joined.append(replace(run, method=replace(run.method, variant=only)) if only else run)
    return joined
