"""What data sets and methods are called that have no name in CoOp's layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ..common.characters import printable
from .layout import Method
from .recorded import differing
from .runs import NAMELESS, Run

_MOST_OPTIONS = 3  # in the name of a method


def with_names_of_data(runs: list[Run], any_root: bool = False) -> list[Run]:
    """Data sets of one's own in different folders of one name get as much of the path as needed."""
    first: dict[tuple[str, str], str] = {}  # equal content is one data set, wherever it lies
    homes: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for run in runs:
        if run.record and run.record.title:
            data = run.record.data
            place = data.path if any_root else data.place
            home = first.setdefault((run.dataset, data.content), place)
            homes[run.file] = home if data.content else place
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


def with_names_of_methods(runs: list[Run]) -> list[Run]:
    """Runs outside of every layout are called like those inside that have their settings.

    Others are called by the options in which those of one trainer differ, if these are few.
    """
    inside: dict[tuple[str, str], set[tuple[str, str]]] = {}
    outside: dict[str, dict[str, Mapping[str, str]]] = {}
    for run in runs:
        if run.record and is_nameless(run.method):
            outside.setdefault(run.method.trainer, {})[run.record.settings] = run.record.options
        elif run.record:
            key = (run.method.trainer, run.record.settings)
            inside.setdefault(key, set()).add((run.method.config, run.method.variant))
    names = {trainer: _by_options(options) for trainer, options in outside.items()}
    changed = []
    for run in runs:
        if run.record and is_nameless(run.method):
            trainer, settings = run.method.trainer, run.record.settings
            known = inside.get((trainer, settings), set())
            config, variant = next(iter(known)) if len(known) == 1 else ("", "")
            config = config or names[trainer].get(settings, run.method.config)
            run = replace(run, method=replace(run.method, config=config, variant=variant))
        changed.append(run)
    return changed


def is_nameless(method: Method) -> bool:
    """Whether no path says what its configuration is called."""
    return method.config.startswith(NAMELESS)


def _by_options(several: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Settings -> the options that tell them from each other, if there are few."""
    keys = differing(list(several.values()))
    if not 0 < len(keys) <= _MOST_OPTIONS:
        return {}
    return {
        settings: printable(
            ", ".join(f"{key.rpartition('.')[2]} {options.get(key, '-')[:30]}" for key in keys)
        )
        for settings, options in several.items()
    }
