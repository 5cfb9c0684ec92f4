"""Dassl trainers of variational prompt tuning; importing this registers VPT and VPT_CoCoOp."""

from varprompt.errors import ConfigError
from varprompt.standin.which import ensure_dassl

ensure_dassl()

from dassl.engine import TRAINER_REGISTRY  # noqa: E402

for _name in ("VPT", "VPT_CoCoOp"):
    if _name in TRAINER_REGISTRY.registered_names():
        _other = TRAINER_REGISTRY.get(_name).__module__
        raise ConfigError(
            f"the trainer name {_name!r} is already taken by {_other}. MaPLe and its descendants "
            "register another method, visual prompt tuning, as VPT: import either those trainers "
            "or varprompt.trainers in one process, not both"
        )

from .vpt import VPT  # noqa: E402
from .vpt_cocoop import VPT_CoCoOp  # noqa: E402

__all__ = ["VPT", "VPT_CoCoOp"]
