"""Results files of one line a run, and the end of the commands that write them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from varprompt.common.files import write_atomic
from varprompt.errors import ConfigError

DIGITS = 5  # significant digits that are kept
# what may differ between the results.json of equal runs
PASSING = ("date", "git_commit", "resources", "memory")
KEY = ("dataset", "seed", "method")
Row = dict[str, Any]  # of one run: the columns of a key, and figures


def guarded(work: Callable[[], None]) -> int:
    """Do it with one thread, unless the user says how many; 2 for input that cannot be."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        work()
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read(path: Path, key: tuple[str, ...] = KEY) -> list[Row]:
    """The rows of a results file, none if there is no file.

    Args:
        path: of the file.
        key: columns that say what a row is of.

    Raises:
        ConfigError: it is no results file.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [*key, *content["columns"]]
        rows = [dict(zip(names, row, strict=True)) for row in content["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of this benchmark ({error!r})") from error
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def write(
    path: Path, rows: Sequence[Row], head: dict[str, Any], key: tuple[str, ...] = KEY
) -> None:
    """One line a run; columns that not all methods have are null there."""
    columns = sorted({name for row in rows for name in row} - set(key))
    lines = [json.dumps([row.get(name) for name in (*key, *columns)], separators=(",", ":"))
             for row in rows]  # fmt: skip
    start = json.dumps(head | {"columns": columns}, indent=1).removesuffix("\n}")
    text = start + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def rounded(value: float | None) -> float | None:
    """To `DIGITS` significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
