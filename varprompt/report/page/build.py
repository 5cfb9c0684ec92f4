"""The page: what stands where."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from ..detail import Detail, pooled
from ..grouping import labels_of, sections
from ..layout import Method
from ..published import ELEVEN
from ..runs import Found, Run, seeds_of
from ..tables import Table
from .confusion import by_class, confusions
from .html import Value, link, notes, of_table, sortable, text
from .plots import Series, fewshot, reliability, scatter

_HERE = Path(__file__).parent
_PLOTS = {"base2new": scatter, "fewshot": fewshot}
_PARTS = {"all": "all classes", "base": "base classes", "new": "new classes"}
Place = tuple[str, str, str]  # data set, classes tested, data set trained on ("": not told apart)


def to_html(tables: Sequence[Table], found: Found, page: Path, seeds: Collection[int] = ()) -> str:
    """The page as text; it holds everything it shows and asks the network for nothing.

    Args:
        tables: those of the report.
        found: the runs that they were made of, and what was left out.
        page: where the page will lie, for the links.
        seeds: those that every method should have (default: all that occur).
    """
    runs = [run for run in found.runs if not seeds or run.seed is None or run.seed in seeds]
    labels = labels_of(dict.fromkeys(run.method for run in _in_order(runs)))
    measured = (row.method for table in tables for row in table.rows if not row.published)
    names = dict.fromkeys((*measured, *labels.values()))
    series = {name: i for i, name in enumerate(names)}  # one colour a method, on the whole page
    parts = [_head(runs, found)]
    for table in tables:
        plot = _PLOTS.get(table.name)
        drawn = plot(table, series) if plot else ""
        parts.append(_section(table.name, table.title, of_table(table) + drawn))
    parts.append(_section("missing", "What is missing", _missing(runs, found, labels, seeds)))
    parts.append(_section("classes", "By class", _details(runs, labels, series)))
    parts.append(_section("runs", "Runs", _runs(runs, labels, page)))
    return _document("Results", "\n".join(parts))


def _document(title: str, body: str) -> str:
    style, script = ((_HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>\n{body}\n"
        f"<script>\n{script}</script></body></html>\n"
    )


def _head(runs: Sequence[Run], found: Found) -> str:
    n_sets = len({run.dataset for run in runs})
    n_methods = len({run.method for run in runs})
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    said = f"{len(runs)} runs of {n_methods} methods on {n_sets} data sets; {now}."
    if found.problems:
        said += f" Left out: {len(found.problems)}, see what is missing."
    return (
        f"<header><h1>Results</h1><p>{said} Click a heading to sort.</p>"
        '<p><input id="filter" type="search" placeholder="show rows with ..." '
        'aria-label="show only rows with these words"></p></header>'
    )


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>{body}</section>'


def _missing(
    runs: Sequence[Run], found: Found, labels: Mapping[Method, str], seeds: Collection[int]
) -> str:
    """How many of the seeds each method has, by data set and classes; and what was left out."""
    seeds = sorted(seeds or seeds_of(runs))
    parts = [f"<p>Seeds of {', '.join(map(str, seeds))} that are there.</p>"] * bool(seeds)
    halves = [run for run in runs if run.part != "all"]
    whole = [run for run in runs if run.part == "all"]
    for some in filter(None, (halves, whole)):
        places, rows = _places(some), []
        for method in dict.fromkeys(run.method for run in _in_order(some)):
            mine = [run for run in some if run.method == method]
            row = [text(labels[method])]
            for place in places:
                row.append(_coverage({run.seed for run in mine if _place(run) == place}, seeds))
            rows.append(row)
        parts.append(sortable(["Method", *map(_name_of, places)], rows))
    left_out = f"<h3>Left out</h3>{notes(found.problems)}" if found.problems else ""
    return "".join(parts) + left_out


def _coverage(there: set[int | None], seeds: Sequence[int]) -> Value:
    if None in there:  # zero-shot
        return "one run", 1.0
    absent = [seed for seed in seeds if seed not in there]
    if not there:
        return '<span class="gap">missing</span>', 0.0
    share = (len(seeds) - len(absent)) / max(len(seeds), 1)
    if not absent:
        return "all", share
    lacks = f"without {', '.join(map(str, absent))}"
    return f'{len(seeds) - len(absent)} <span class="gap">{lacks}</span>', share


def _details(runs: Sequence[Run], labels: Mapping[Method, str], series: Series) -> str:
    """For each data set and half: accuracy by class, reliability, confusions; seeds together."""
    parts = [
        "<p>Counts of all seeds together. In a matrix rows are the true classes and columns the "
        "predicted ones, in the order of the table; the darker, the larger the share of the "
        "row.</p>"
    ]
    without = 0
    for place in _places(runs):
        mine = [run for run in runs if _place(run) == place]
        known = [run for run in mine if run.record and run.record.detail.classes]
        without += len(mine) - len(known)
        if known:
            parts.append(_detail(place, known, labels, series))
    if without:
        parts.append(
            f"<p>{without} of {len(runs)} runs hold no figures by class: logs, and results of "
            "earlier versions.</p>"
        )
    return "\n".join(parts)


def _detail(place: Place, runs: Sequence[Run], labels: Mapping[Method, str], series: Series) -> str:
    details: dict[str, Detail] = {}
    for method in dict.fromkeys(run.method for run in _in_order(runs)):
        tests = [r.record.detail for r in runs if r.method == method and r.record]
        details[labels[method]] = pooled(tests)
    return (
        f"<details><summary>{escape(_name_of(place))}</summary>{by_class(details)}"
        f"<h3>Reliability</h3>{reliability(details, series)}"
        f"<h3>Confusions</h3>{confusions(details)}</details>"
    )


def _runs(runs: Sequence[Run], labels: Mapping[Method, str], page: Path) -> str:
    """Every run with its figures and a link to its file."""
    metrics = [
        m for m in ("accuracy", "macro_f1", "nll", "ece") if any(m in r.metrics for r in runs)
    ]
    head = ["Data set", "Classes", "Method", "Seed", *metrics, "File"]
    rows = []
    for run in _in_order(runs):
        seed: Value = ("-", None) if run.seed is None else (str(run.seed), run.seed)
        row = [text(ELEVEN.get(run.dataset, run.dataset)), text(_PARTS[run.part])]
        row += [text(labels[run.method]), seed]
        for metric in metrics:
            value = run.metrics.get(metric)
            digits = 4 if metric == "nll" else 2
            row.append(text("-") if value is None else (f"{value:.{digits}f}", value))
        row.append((link(run.file, page, Path(run.file).name), None))
        rows.append(row)
    return sortable(head, rows)


def _in_order(runs: Iterable[Run]) -> list[Run]:
    """Zero-shot first, then by method, data set, classes, seed."""
    return sorted(
        runs,
        key=lambda r: (not r.method.is_zeroshot, r.method, r.dataset, r.part, r.seed or 0),
    )


def _place(run: Run) -> Place:
    transferred = run.source not in ("", run.dataset)
    return run.dataset, run.part, run.source if transferred else ""


def _places(runs: Iterable[Run]) -> list[Place]:
    """In the order of the tables."""
    found = {_place(run) for run in runs}
    order = [name for group, _ in sections({place[0] for place in found}) for name in group]
    rank = {name: i for i, name in reversed(list(enumerate(order)))}
    return sorted(found, key=lambda place: (rank[place[0]], *place[1:]))


def _name_of(place: Place) -> str:
    dataset, part, source = place
    words = ELEVEN.get(dataset, dataset) + (f", {part}" if part != "all" else "")
    return words + (f" (from {ELEVEN.get(source, source)})" if source else "")
