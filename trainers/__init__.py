"""Dassl trainers of variational prompt tuning; importing this registers VPT and VPT_CoCoOp."""

# ruff: noqa: E402
from varprompt.common.console import explain_errors
from varprompt.settings.names import explain_taken_names
from varprompt.standin.which import ensure_dassl

ensure_dassl()
explain_errors()

from dassl.engine import TRAINER_REGISTRY

explain_taken_names(
    TRAINER_REGISTRY,
    "trainer",
    "MaPLe and its descendants register another method, visual prompt tuning, as VPT, and CoOp's "
    "own trainers have the names of the baselines here: import either those trainers or "
    "varprompt.trainers in one process, not both",
)

from . import evaluation  # noqa: F401  registers TEST.EVALUATOR Calibration
from .vpt import VPT
from .vpt_cocoop import VPT_CoCoOp

__all__ = ["VPT", "VPT_CoCoOp"]
