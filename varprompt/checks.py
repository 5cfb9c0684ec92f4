"""Checks of single values that collect what is wrong, so that every problem is said at once."""

from __future__ import annotations

import difflib
from numbers import Integral, Real
from typing import Any


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
