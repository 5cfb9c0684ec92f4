"""From a yacs tree and a command line to validated objects."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`extend_cfg`, for the train.py of a CoOp checkout; it is imported when it is asked for."""
    if name == "extend_cfg":
        from .nodes import extend_cfg

        return extend_cfg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
