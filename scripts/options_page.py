"""Write docs/options.md from the table of options: python scripts/options_page.py."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varprompt.config import allowed  # noqa: E402
from varprompt.settings.nodes import default_tree  # noqa: E402
from varprompt.settings.option import Option, leaves  # noqa: E402
from varprompt.settings.options import OPTIONS, UNREAD  # noqa: E402
from varprompt.standin.which import ensure_dassl  # noqa: E402

PAGE = ROOT / "docs" / "options.md"
HEAD = """# Options

Every option with its default, what it may be, and what it does. Written by
`python scripts/options_page.py` from the table that the program itself checks values with; do not
edit. Where no meaning is given the option is Dassl's own.

Set options in a YAML file (`--config-file`, `--dataset-config-file`) or as `KEY VALUE` pairs at the
end of a command line: `varprompt train ... TRAINER.VPT.L 4 OPTIM.MAX_EPOCH 20`. A key that does not
exist is refused with the nearest name. Options marked with \\* change where or how a run is done,
not its result: two runs that differ in nothing else are the same run. `TRAINER.X` belongs to the
trainers that declare the node X; trainers of plug-ins add nodes of their own. In Python the options
of a trainer are the fields of `PromptConfig` ([python-api](python-api.md)).
"""
TITLES = {
    "TRAINER": "What is learned", "TRAIN": "Training", "OPTIM": "Optimizer", "TEST": "Test",
    "DATASET": "Data set", "DATALOADER": "Loading", "INPUT": "Images", "MODEL": "CLIP",
    "": "The run",
}  # fmt: skip


def page() -> str:
    """The text of docs/options.md."""
    ensure_dassl()
    import trainers.baselines  # noqa: F401 - their nodes, and those of trainers.VPT

    defaults = dict(leaves(default_tree()))
    parts = [HEAD]
    for part, title in TITLES.items():
        keys = [key for key in sorted(defaults) if _part(key) == part and not _unread(key)]
        parts.append(f"\n## {title}\n\n| key | default | values | meaning |\n|---|---|---|---|\n")
        parts += [_row(key, defaults[key], OPTIONS.get(key, Option(None))) for key in keys]
    unread = ", ".join(f"`{name}`" for name in UNREAD)
    parts.append(
        f"\nOptions of Dassl's whose names begin with {unread} are read by nothing here.\n"
    )
    return "".join(parts)


def _part(key: str) -> str:
    """The heading under which an option stands."""
    first = key.split(".")[0]
    return first if first in TITLES else ""


def _unread(key: str) -> bool:
    return key.startswith(UNREAD)


def _row(key: str, default: Any, option: Option) -> str:
    words = [f"`{key}`" + r" \*" * (not option.decides)]
    words += [f"`{_shown(default)}`", _values(option), option.help]
    return "| " + " | ".join(word.replace("|", r"\|") for word in words) + " |\n"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _values(option: Option) -> str:
    """What an option may be, in words; empty where its type says it."""
    choices, least, most = allowed(option.field)
    choices = option.choices or choices
    if choices:
        return ", ".join(
            f"`{_shown(choice)}`" if choice == "" else f"`{choice}`" for choice in choices
        )
    if not option.field:
        least, most = option.least, option.most
    if math.isfinite(least) and math.isfinite(most):
        return f"{least:g} to {most:g}"
    if math.isfinite(least):
        return f"{least:g} or more"
    return f"at most {most:g}" if math.isfinite(most) else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
