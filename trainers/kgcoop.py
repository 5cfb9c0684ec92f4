"""KgCoOp: CoOp's context, kept near hand-written prompts; and with a posterior."""

from typing import ClassVar

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .templates import DEFAULT_TEMPLATE, TEMPLATES


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTrainer):
    """A context whose texts stay near hand-written ones (arXiv 2303.13283); TRAINER.KGCOOP."""

    node = "KGCOOP"
    regularisers: ClassVar = {"text_cosine": "W"}

    def templates(self) -> list[str]:
        """CoOp's prompt for the data set, but for textures, where KgCoOp has another."""
        own = TEMPLATES | {"DescribableTextures": "a photo of a {}, a type of texture."}
        return [own.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)]


@TRAINER_REGISTRY.register()
class VPT_KgCoOp(KgCoOp):  # noqa: N801
    """KgCoOp with a residual from a posterior; options in TRAINER.VPT_KGCOOP."""

    node = "VPT_KGCOOP"
    conditional = None
    variational = True
