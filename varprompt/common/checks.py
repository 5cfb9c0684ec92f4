"""Checks that collect what is wrong, so that every problem is said at once."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from numbers import Integral, Real
from typing import Any

from ..errors import DataError

SHOWN = 10  # examples in a report of problems
COLLAPSED = 0.999  # mean cosine between the texts of different classes
N_BINS = 15  # of calibration errors; here, because tables of them are made without torch


def check_choice(value: Any, allowed: Any, where: str, problems: list[str]) -> Any:
    """Return `value`; if it is not in `allowed`, note so in `problems` with the nearest name."""
    if value not in list(allowed):
        names = [str(a) for a in allowed]
        lower = {name.lower(): name for name in names} if len(names) > 1 else {}
        near = difflib.get_close_matches(str(value).lower(), lower, 1, 0.4)
        hint = f", did you mean {lower[near[0]]!r}?" if near else ""
        problems.append(f"{where} is {value!r}; choose from {', '.join(names)}{hint}")
    return value


def check_range(
    value: Any, least: float, most: float, where: str, problems: list[str], *, whole: bool = False
) -> Any:
    """Return `value`; note in `problems` if it is no number in [least, most] (`whole`: no int)."""
    kind: Any = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind):
        problems.append(f"{where} is {value!r}; give a {'whole ' if whole else ''}number")
    elif not least <= value <= most:
        limit = f"it must be at least {least}"
        if value >= least:
            limit = f"it must be at most {most}"
        problems.append(f"{where} is {value}; {limit}")
    return value


def check_template(text: Any, where: str, problems: list[str]) -> None:
    """Note in `problems` if `text` is no template with one place for the class name."""
    if not isinstance(text, str) or not re.fullmatch(r"[^{}]*\{\}[^{}]*", text):
        problems.append(
            f"{where} has {text!r}; a template has one {{}} for the class name, such as "
            "'an x-ray of a {}.'"
        )


def collapse(similarity: float, remedy: str) -> str:
    """What is to be said if texts of different classes have this mean cosine; "" if it can be."""
    if similarity <= COLLAPSED:
        return ""
    return (
        f"the texts of all classes are nearly the same (mean cosine {similarity:.4f}, in the worst "
        f"sample): training has collapsed; {remedy}"
    )


class Problems:
    """Collects what is wrong, so that it can be reported all at once."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, example: str) -> None:
        """Note one example of a kind of problem."""
        self._found[kind].append(example)

    def raise_if_any(self, where: str) -> None:
        """Report every kind with its count and its first ten examples.

        Raises:
            DataError: if anything was added.
        """
        if self:
            lines = [
                f"  {kind}: {len(found)}\n"
                + "\n".join(f"    {example}" for example in found[:SHOWN])
                + (f"\n    ... and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
                for kind, found in self._found.items()
            ]
            raise DataError(f"{where}\n" + "\n".join(lines))
