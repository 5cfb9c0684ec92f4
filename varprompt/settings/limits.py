"""Whether a tree of options can be run, besides what `PromptConfig` checks."""

from __future__ import annotations

from importlib.util import find_spec

from yacs.config import CfgNode

from ..run.predictions import EXTRA
from .option import value_of
from .options import OPTIONS


def limit_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with the options that are not of the prompt."""
    problems: list[str] = []
    for key, option in OPTIONS.items():
        option.check(value_of(cfg, key), key, problems)
    return problems + _contradictions(cfg)


def _contradictions(cfg: CfgNode) -> list[str]:
    problems, optim = [], cfg.OPTIM
    scale = [v for v in cfg.INPUT.RRCROP_SCALE if isinstance(v, int | float)]
    if len(scale) == 2 and scale[0] > scale[1]:
        problems.append(f"INPUT.RRCROP_SCALE is {cfg.INPUT.RRCROP_SCALE}; give the smaller first")
    if cfg.INPUT.GB_K % 2 == 0:
        problems.append(f"INPUT.GB_K is {cfg.INPUT.GB_K}; it must be odd")
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.SGD_DAMPNING or not optim.MOMENTUM):
        problems.append(
            "OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 (it is "
            f"{optim.MOMENTUM}) and OPTIM.SGD_DAMPNING 0 (it is {optim.SGD_DAMPNING})"
        )
    if cfg.TEST.PREDICTIONS == "parquet" and find_spec("pyarrow") is None:
        problems.append(
            "TEST.PREDICTIONS parquet needs the package pyarrow, which is not installed: "
            f'pip install "varprompt[{EXTRA}]" or pyarrow, or use csv'
        )
    return problems
