"""The methods that VPT is compared with, numerically what their authors' code computes."""

from dassl.engine import TRAINER_REGISTRY

from varprompt.model import Predictor, zero_shot
from varprompt.towers.frozen import FrozenCLIP

from . import kgcoop, maple, promptsrc  # noqa: F401 - they register themselves
from .base import PromptTrainer
from .data import prompt_texts
from .templates import DEFAULT_TEMPLATE, ENSEMBLE, TEMPLATES


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Context vectors learned as a point (arXiv 2109.01134); options in TRAINER.COOP."""

    node = "COOP"


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Context vectors shifted by a network of the image (arXiv 2203.05557); TRAINER.COCOOP."""

    node = "COCOOP"
    conditional = True
    posterior = "meta_net"


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """CLIP with one hand-written prompt per data set, or TRAINER.ZEROSHOT.TEMPLATES."""

    node = "ZEROSHOT"
    prompt = ""
    also_reads = ("TRAINER.COOP.PREC",)  # as CoOp's files for the zero-shot trainer have it

    def templates(self) -> list[str]:
        """Prompts with a {} for the class name; features of several are averaged."""
        return list(self.cfg.TRAINER.ZEROSHOT.TEMPLATES) or self.default_templates()

    def default_templates(self) -> list[str]:
        """CoOp's prompt for the data set."""
        return [TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)]

    def build_model(self) -> None:
        """Load the towers only."""
        config = self.prompt_config
        self.texts = prompt_texts(self.cfg, self.dm.dataset.classnames)
        self.towers = FrozenCLIP(self.load_clip(), config.precision, config.mem_budget)

    def predictor(self) -> Predictor:
        """Classifier from the class names."""
        return zero_shot(self.towers, self.dm.dataset.classnames, self.templates(), self.texts)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Do nothing: nothing was learned."""

    def train(self) -> None:
        """Test: there is nothing to train."""
        self.note(f"{type(self).__name__} has nothing to train, it is tested only")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """CLIP with an ensemble of prompts, features averaged."""

    def default_templates(self) -> list[str]:
        """Seven generic prompts, and the data set's own except for ImageNet."""
        own = [] if self.cfg.DATASET.NAME == "ImageNet" else super().default_templates()
        return [*ENSEMBLE, *own]
