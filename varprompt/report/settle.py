"""Which runs may stand in one table: those whose recorded data and weights do not differ.

A mean over seeds of three data sets, or a comparison of two methods on two of them, says nothing.
What differs from most of its group is left out, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

from ..console import printable
from .layout import Method
from .record import Data, Record
from .runs import Run

_CANDIDATES = 50  # kinds of data that are tried as that of most runs of a group


def settled(runs: list[Run], any_root: bool = False) -> tuple[list[Run], list[str]]:
    """The runs that may be compared, with names that tell their data sets apart; and the reasons.

    Args:
        runs: all that were found.
        any_root: see `find_runs`.
    """
    problems: list[str] = []
    runs = _with_names_of_methods(_with_names_of_data(runs))

    def data(run: Run, other: Run) -> str:
        mine, theirs = _data(run), _data(other)
        return mine.difference(theirs, any_root)

    def place(run: Run, other: Run) -> str:
        mine, theirs = _data(run), _data(other)
        if mine.content or theirs.content:
            return ""
        return Data(kind=mine.kind, place=mine.place).difference(
            Data(kind=theirs.kind, place=theirs.place), any_root
        )

    runs = _consistent(runs, lambda run: (run.dataset, run.part), data, problems)
    runs = _consistent(runs, lambda run: run.dataset, place, problems)
    runs = _consistent(runs, lambda run: run.method, _weights, problems)
    return _once(runs, problems), problems


def _data(run: Run) -> Data:
    return run.record.data if run.record else Data()


def _weights(run: Run, other: Run) -> str:
    mine, theirs = (r.record.weights if r.record else "" for r in (run, other))
    if mine and theirs and mine != theirs:
        return f"CLIP weights {mine[:12]}, not {theirs[:12]} as in"
    return ""


def _consistent(
    runs: list[Run],
    key: Callable[[Run], Hashable],
    difference: Callable[[Run, Run], str],
    problems: list[str],
) -> list[Run]:
    """The runs that do not differ from most of those with the same key, in their order."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    references = {name: most_common(group, difference) for name, group in groups.items()}
    kept = []
    for run in runs:
        reference = references[key(run)]
        if reason := difference(run, reference):
            problems.append(f"{run.file}: left out, its {reason} {reference.file}")
        else:
            kept.append(run)
    return kept


def most_common(group: list[Run], difference: Callable[[Run, Run], str]) -> Run:
    """The run from which the fewest others differ; the first of equals."""
    if not any(difference(run, group[0]) for run in group[1:]):
        return next((run for run in group if run.record), group[0])
    kinds: dict[Hashable, list[Run]] = {}
    for run in group:
        if run.record:
            kinds.setdefault((run.record.data, run.record.weights), []).append(run)
    largest = sorted(kinds.values(), key=len, reverse=True)[:_CANDIDATES]
    return max(
        (some[0] for some in largest),
        key=lambda run: sum(not difference(other, run) for other in group),
    )


def odd_ones_out(records: Mapping[str, Record | None]) -> dict[str, str]:
    """File -> what tells it from most of the others, for files that should share a mean."""
    runs = [Run(Method("", ""), "", "", "", None, {}, f, True, r) for f, r in records.items()]

    def difference(run: Run, other: Run) -> str:
        return _data(run).difference(_data(other)) or _weights(run, other)

    problems: dict[str, str] = {}
    if runs:
        reference = most_common(runs, difference)
        problems = {run.file: difference(run, reference) for run in runs}
    return {f: f"{reason} {printable(reference.file)}" for f, reason in problems.items() if reason}


def _once(runs: list[Run], problems: list[str]) -> list[Run]:
    taken: dict[Hashable, Run] = {}
    for run in runs:
        key = (run.method, run.source, run.dataset, run.part, run.seed)
        first = taken.setdefault(key, run)
        if first is not run and first.metrics != run.metrics:  # equal: tested again
            problems.append(f"{run.file}: left out, same run as {first.file}")
    return list(taken.values())


def _with_names_of_data(runs: list[Run]) -> list[Run]:
    """Data sets of one's own in different folders of one name get as much of the path as needed."""
    first: dict[tuple[str, str], str] = {}  # equal content is one data set, wherever it lies
    homes: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for run in runs:
        if run.record and run.record.title:
            data = run.record.data
            home = first.setdefault((run.dataset, data.content), data.place)
            homes[run.file] = home if data.content else data.place
            known = folders.setdefault(run.dataset, [])
            known += [homes[run.file]] * (homes[run.file] not in known)
    names = {name: _tails(places) for name, places in folders.items() if len(places) > 1}
    changed = []
    for run in runs:
        if run.file in homes and run.dataset in names:
            name = names[run.dataset][homes[run.file]]
            source = name if run.source == run.dataset else run.source
            run = replace(run, dataset=name, source=source)
        changed.append(run)
    return changed


def _tails(places: list[str]) -> dict[str, str]:
    """The shortest ends of the paths that differ from each other."""
    parts = {place: place.replace("\\", "/").strip("/").split("/") for place in places}
    length = 1
    while length < max(map(len, parts.values())):
        ends = Counter("/".join(words[-length:]) for words in parts.values())
        if max(ends.values()) == 1:
            break
        length += 1
    return {place: "/".join(words[-length:]) or place for place, words in parts.items()}


def _with_names_of_methods(runs: list[Run]) -> list[Run]:
    """A run outside of every layout is called like those inside that have its settings."""
    known: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for run in runs:
        if run.record and not run.method.config.startswith("settings "):
            key = (run.method.trainer, run.record.settings)
            known.setdefault(key, set()).add((run.method.config, run.method.variant))
    changed = []
    for run in runs:
        names = known.get((run.method.trainer, run.record.settings)) if run.record else None
        if names and len(names) == 1 and run.method.config.startswith("settings "):
            config, variant = next(iter(names))
            run = replace(run, method=replace(run.method, config=config, variant=variant))
        changed.append(run)
    return changed
