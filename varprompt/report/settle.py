"""Which runs may stand in one table: those whose recorded data and weights do not differ.

A mean over seeds of three data sets, or a comparison of two methods on two of them, says nothing.
What differs from most of its group is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from ..common.characters import printable
from .layout import Method
from .names import with_names_of_data, with_names_of_methods
from .record import PLACE, Data, Record
from .runs import Run

_CANDIDATES = 50  # kinds of data that are tried as that of most runs of a group


def settled(runs: list[Run], any_root: bool = False) -> tuple[list[Run], list[str]]:
    """The runs that may be compared, with names that tell their data sets apart; and the reasons.

    Args:
        runs: all that were found.
        any_root: see `find_runs`.
    """
    problems: list[str] = []
    runs = with_names_of_methods(with_names_of_data(runs, any_root))

    def data(run: Run, other: Run) -> str:
        mine, theirs = _data(run), _data(other)
        return mine.difference(theirs, any_root)

    def place(run: Run, other: Run) -> str:
        mine, theirs = _data(run), _data(other)
        if mine.content or theirs.content:
            return ""
        return Data(kind=mine.kind, place=mine.place, path=mine.path).difference(
            Data(kind=theirs.kind, place=theirs.place, path=theirs.path), any_root
        )

    runs = _consistent(runs, lambda run: (run.dataset, run.part), data, problems)
    runs = _consistent(runs, lambda run: run.dataset, place, problems)
    runs = _consistent(runs, lambda run: run.method, _weights, problems)
    runs = _consistent(runs, _training, _other_training, problems)
    return _once(runs, problems), problems


def _data(run: Run) -> Data:
    return run.record.data if run.record else Data()


def _weights(run: Run, other: Run) -> str:
    mine, theirs = (r.record.weights if r.record else "" for r in (run, other))
    if mine and theirs and mine != theirs:
        return f"CLIP weights {mine[:12]}, not {theirs[:12]} as in"
    return ""


def _training(run: Run) -> Hashable:
    """What says on which images a run was trained: runs that share it saw the same ones."""
    here = run.source == run.dataset
    return (run.dataset, run.part, run.method.shots, run.seed) if here else run.file


def _other_training(run: Run, other: Run) -> str:
    return _data(run).other_training(_data(other))


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
            hint = " (--any-root, if it holds the same)" if reason.startswith(PLACE) else ""
            problems.append(f"{run.file}: left out, its {reason} {reference.file}{hint}")
        else:
            kept.append(run)
    return kept


def most_common(group: list[Run], difference: Callable[[Run, Run], str]) -> Run:
    """The run from which the fewest others differ; the first of equals."""
    first = next((run for run in group if run.record), group[0])
    if not any(difference(run, first) for run in group):
        return first
    kinds: dict[Hashable, list[Run]] = {}
    for run in group:
        if run.record:
            kinds.setdefault((run.record.data, run.record.weights), []).append(run)
    largest = sorted(kinds.values(), key=len, reverse=True)[:_CANDIDATES]
    return max(
        (some[0] for some in largest),
        key=lambda run: sum(not difference(other, run) for other in group),
    )


def odd_ones_out(records: Mapping[str, Record | None], any_root: bool = False) -> dict[str, str]:
    """File -> what tells it from most of the others, for files that should share a mean."""
    runs = [Run(Method("", ""), "", "", "", None, {}, f, True, r) for f, r in records.items()]

    def difference(run: Run, other: Run) -> str:
        return _data(run).difference(_data(other), any_root) or _weights(run, other)

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
