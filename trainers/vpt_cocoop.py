"""VPT_CoCoOp: a residual from a posterior q(r | image) computed from the image feature."""

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer


@TRAINER_REGISTRY.register()
class VPT_CoCoOp(PromptTrainer):  # noqa: N801
    """Variational prompt tuning on CoCoOp (arXiv 2210.02390); options in TRAINER.VPT."""

    node = "VPT"
    conditional = True
    variational = True
