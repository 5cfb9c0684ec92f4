"""What is known of one option, and how options are found in a tree."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from typing import Any

from yacs.config import CfgNode

from ..common.checks import check_choice, check_range, check_template

DASSL = object()
"""Stands for a default value that Dassl's own tree gives."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        default: its value if it is not set; its type is the type of the option, None that of a
            number or None.
        help: what it does.
        choices: the values it may have, of a list each member; () = those of its type.
        least: the smallest number it may be, of a list each member.
        most: the largest.
        numbers: of a list: how many numbers (0 = one or more) of which type; None = no numbers.
        template: its members are texts with one {} each, where the class name goes.
        field: what it is called in `PromptConfig`, which checks it then; "" = it is not there.
        decides: whether results depend on it, by more than rounding.
    """

    default: Any
    help: str = ""
    choices: Collection[Any] = ()
    least: float = -math.inf
    most: float = math.inf
    numbers: tuple[int, type] | None = None
    template: bool = False
    field: str = ""
    decides: bool = True

    def check(self, value: Any, key: str, problems: list[str]) -> None:
        """Note in `problems` what is wrong with a value of the right type."""
        members = list(value) if isinstance(value, list | tuple) else [value]
        where = f"a name in {key}" if isinstance(value, list | tuple) else key
        if self.choices:
            for member in members:
                check_choice(member, self.choices, where, problems)
        elif self.numbers:
            count, kind = self.numbers
            good = all(type(v) in (int, kind) and self.least <= v <= self.most for v in members)
            if not good or len(members) != (count or max(1, len(members))):
                what = f"{count or 'one or more'} {'whole ' * (kind is int)}numbers"
                problems.append(f"{key} is {value}; give {what} from {self.least} to {self.most}")
        elif self.template:
            for text in members:
                check_template(text, key, problems)
        elif (self.least, self.most) != (-math.inf, math.inf):
            check_range(value, self.least, self.most, key, problems)


def dassl(help: str = "", decides: bool = True) -> Option:
    """One of Dassl's options."""
    return Option(DASSL, help, decides=decides)


def number(least: float, most: float, help: str = "", decides: bool = True) -> Option:
    """A number of Dassl's, from `least` to `most`."""
    return Option(DASSL, help, least=least, most=most, decides=decides)


def one_of(*values: Any, help: str = "") -> Option:
    """One of Dassl's options that may have these values only."""
    return Option(DASSL, help, values)


def numbers(count: int, kind: type, least: float, most: float) -> Option:
    """A list of Dassl's: `count` numbers (0 = one or more), each from `least` to `most`."""
    return Option(DASSL, "", (), least, most, (count, kind))


def node_options(node: str, options: Mapping[str, Option], **defaults: Any) -> dict[str, Option]:
    """The rows of a node: full key -> option, with other default values where given."""
    return {
        f"TRAINER.{node}.{name}": replace(option, default=defaults.get(name, option.default))
        for name, option in options.items()
    }


def value_of(cfg: Any, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getitem, key.split("."), cfg)


def place_of(cfg: CfgNode, key: str) -> tuple[CfgNode, str]:
    """The node and the name in it of a dotted key; nodes on the way are made."""
    *path, name = key.split(".")
    return reduce(lambda node, part: node.setdefault(part, CfgNode()), path, cfg), name


def leaves(
    tree: Mapping[Any, Any], like: Mapping[Any, Any] | None = None, path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, going down only where `like` does; None = everywhere."""
    for key, value in tree.items():
        below = (tree if like is None else like).get(key)
        if not isinstance(below, dict):
            yield f"{path}{key}", value
        elif isinstance(value, dict):
            yield from leaves(value, None if like is None else below, f"{path}{key}.")
        elif value is not None:  # a heading with nothing under it says nothing
            yield f"{path}{key}", value
