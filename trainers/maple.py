"""MaPLe: prompts in several layers of both towers, coupled; and with a posterior."""

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Visual prompts that are linear maps of deep text prompts (2210.03117); TRAINER.MAPLE."""

    node = "MAPLE"
    prompt = "coupled"


@TRAINER_REGISTRY.register()
class VPT_MaPLe(MaPLe):  # noqa: N801
    """MaPLe with a residual from a posterior; options in TRAINER.VPT_MAPLE."""

    node = "VPT_MAPLE"
    conditional = None
    variational = True
