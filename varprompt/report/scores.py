"""Tables of how far probabilities can be trusted: `report.py --columns calibration rejection`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import product

from .calibration import SMALL_SET, calibration_notes, small_sets
from .cells import NOT_KNOWN, Cell, average, noted
from .grouping import Data, collect, labels_of, missing, mixed_settings, reading, sections
from .metrics import BEFORE
from .published import ELEVEN, published_calibration
from .runs import Run, seeds_of
from .tables import PARTS, Row, Table


@dataclass(frozen=True)
class Figure:
    """One figure: its name in `Run.metrics`, its heading, and how it is read."""

    key: str
    title: str
    digits: int = 2
    lower: bool = True  # is better


ACCURACY = Figure("accuracy", "Acc", lower=False)
SETS = {
    "calibration": (
        ACCURACY, Figure("nll", "NLL", 3), Figure("brier", "Brier", 3), Figure("ece_10", "ECE"),
        Figure("ace_10", "ACE"),
    ),
    "rejection": (
        ACCURACY, Figure("aurc", "AURC"), Figure("e_aurc", "E-AURC"),
        Figure("accuracy_80", "Acc at 80 %", lower=False),
        Figure("auroc", "AUROC", lower=False), Figure("fpr95", "FPR95"),
    ),
}  # fmt: skip
COMPARED = ("nll", "ece_10")  # also shown as they were before calibration
COLUMNS = ("accuracy", *SETS)
TITLES = {"calibration": "Calibration", "rejection": "Rejection of what is unsure"}
READING = {
    "calibration": (
        "Acc, ECE and ACE in %, NLL in nats, Brier from 0 to 2. ECE: expected calibration error "
        "over 10 bins of equal width, as in the published rows; ACE: over 10 bins of equally many "
        "images. The smaller, the better, but for the accuracy."
    ),
    "rejection": (
        "Images are rejected by their largest probability, all figures in %. AURC: mean error over "
        "all coverages (E-AURC: above that of the best order); Acc at 80 %: accuracy on the 80 % "
        "that are surest; AUROC and FPR95: right against wrong predictions."
    ),
}
PUBLISHED_NOTE = (
    "Published rows: ViT-B/16, 16 shots, errors of the originals kept; averages computed again "
    "from their data sets; not measured here."
)


def score_tables(
    runs: Iterable[Run],
    names: Collection[str],
    seeds: Collection[int] = (),
    with_published: bool = True,
) -> list[Table]:
    """The tables of the sets `names` for which there are runs.

    Those of base and new classes, and those of all classes trained on, stand apart. `seeds` are
    those that every method should have (default: all that occur).
    """  # fmt: skip
    runs = [run for run in runs if not seeds or run.seed is None or run.seed in seeds]
    halves = [run for run in runs if run.part in PARTS]
    whole = [run for run in runs if run.part == "all" and run.source in (run.dataset, "")]
    tables = []
    for name in (name for name in SETS if name in names):
        for chosen, parts in ((halves, PARTS), (whole, ("all",))):
            table = _scores(name, chosen, parts, seeds, with_published)
            tables += [table] if table.rows else []
    return tables


def _scores(
    name: str, runs: list[Run], parts: tuple[str, ...], seeds: Collection[int], published: bool
) -> Table:
    halves = parts == PARTS
    title = f"{TITLES[name]}, base-to-new" if halves else f"{TITLES[name]}, all classes"
    table = Table(name if halves else f"{name}_all", title, [])
    measured = [run for run in runs if any(f.key in run.metrics for f in SETS[name][1:])]
    if not measured:
        return table
    figures = _figures(name, measured)
    columns = [(figure, part) for figure in figures for part in parts]
    heads = [f"{figure.title} {part}" if halves else figure.title for figure, part in columns]
    table.columns = heads
    table.lower = frozenset(
        head for head, (figure, _) in zip(heads, columns, strict=True) if figure.lower
    )
    seeds = seeds or seeds_of(measured)
    labels = labels_of(collect(measured, lambda run: run.dataset))
    data = {f.key: collect(measured, lambda run: (run.dataset, run.part), f.key) for f in figures}
    small = small_sets(measured) if name == "calibration" else {}
    for group, section in sections({run.dataset for run in measured}):
        for method, label in labels.items():
            if not {dataset for dataset, _ in data["accuracy"][method]} & set(group):
                continue
            cells = [
                _cell(data[f.key], method, group, f, part, seeds, small) for f, part in columns
            ]
            table.rows.append(Row(section, label, cells))
        if published and halves and name == "calibration":
            table.rows += _published(group, section, columns)
    keys = list(product(dict.fromkeys(run.dataset for run in measured), parts))
    table.notes += [READING[name], *reading(measured, seeds)[1:]]
    table.notes += [
        f"{note} That is for 15 bins, 10 read less." for note in calibration_notes(small)
    ]
    table.notes += [PUBLISHED_NOTE] * any(row.published for row in table.rows)
    table.notes += _left_out(runs, measured) + mixed_settings(measured, labels)
    table.notes += missing(data["accuracy"], labels, keys, seeds)
    return table


def _figures(name: str, runs: list[Run]) -> list[Figure]:
    """Those that a run has, with what they were before calibration beside them."""
    found = []
    for figure in SETS[name]:
        known = any(figure.key in run.metrics for run in runs)
        found += [figure] * known
        before = replace(figure, key=BEFORE + figure.key, title=f"{figure.title} before")
        if figure.key in COMPARED and any(before.key in run.metrics for run in runs):
            found.append(before)
    return found


def _cell(
    data: Data, method: object, group: list[str], figure: Figure, part: str,
    seeds: Collection[int], small: dict[str, str],
) -> Cell:  # fmt: skip
    of_method = data.get(method, {})  # type: ignore[call-overload]
    by_set = {dataset: of_method.get((dataset, part), {}) for dataset in group}
    if not any(by_set.values()):
        return NOT_KNOWN
    cell = replace(average(by_set, seeds), digits=figure.digits)
    binned = figure.title.startswith(("ECE", "ACE"))
    return noted(cell, SMALL_SET) if binned and small.keys() & set(group) else cell


def _left_out(runs: list[Run], measured: list[Run]) -> list[str]:
    n = len(runs) - len(measured)
    return [f"{n} of {len(runs)} runs record none of these figures: test them again."] * (n > 0)


def _published(group: list[str], section: str, columns: list[tuple[Figure, str]]) -> list[Row]:
    key = group[0] if len(group) == 1 else "average" if group == list(ELEVEN) else ""
    rows = []
    for label, by_set in published_calibration().items():
        values = by_set.get(key, {})
        cells = [Cell(values.get((f.key, part)), digits=f.digits) for f, part in columns]
        cells = [NOT_KNOWN if cell.mean is None else cell for cell in cells]
        if any(cell.mean is not None for cell in cells):
            rows.append(Row(section, f"{label} (published)", cells, published=True))
    return rows
