"""VPT: CoOp's context plus a residual from an unconditional posterior q(r)."""

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Variational prompt tuning on CoOp (arXiv 2210.02390); options in TRAINER.VPT."""

    node = "VPT"
    variational = True
