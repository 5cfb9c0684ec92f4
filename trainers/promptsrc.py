"""IVLP: independent prompts in both towers. PromptSRC: kept near the frozen CLIP; variational."""

from typing import Any, ClassVar

from dassl.engine import TRAINER_REGISTRY

from varprompt.errors import CheckpointError
from varprompt.run.average import WeightedAverage
from varprompt.run.store import SavedState

from .base import PromptTrainer
from .guidance import average_weights
from .templates import DIVERSE


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Independent prompts in several layers of both towers, nothing else; TRAINER.IVLP."""

    node = "IVLP"
    prompt = "independent"


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """IVLP kept near the frozen CLIP, averaged over epochs (arXiv 2307.06948); TRAINER.PROMPTSRC.

    Attributes:
        average: of what is learned; None with GPA_STD 0.
    """

    node = "PROMPTSRC"
    averages = True
    regularisers: ClassVar = {
        "text_l1": "TEXT_LOSS_WEIGHT", "image_l1": "IMAGE_LOSS_WEIGHT", "logits_kl": 1.0,
    }  # fmt: skip

    def templates(self) -> list[str]:
        """The sixty of the authors, for every data set."""
        return list(DIVERSE)

    def build_model(self) -> None:
        """The average besides all others."""
        super().build_model()
        options, self.average = self.cfg.TRAINER[self.node], None
        if options.GPA_STD:
            weights = average_weights(options.GPA_MEAN, options.GPA_STD, self.cfg.OPTIM.MAX_EPOCH)
            self.average = WeightedAverage(self.model.prompt_learner, weights)

    def run_epoch(self) -> None:
        """An epoch; after the last one, what was learned is the average."""
        super().run_epoch()
        if self.average:
            self.take_step.check()  # a step that is put back must not be in it
            self.average.end_epoch(self.epoch)
            if self.epoch + 1 == self.max_epoch:
                self.note("What was learned is now the weighted average over epochs")

    def state(self, epoch: int, batch: int = 0, val_result: float | None = None) -> dict[str, Any]:
        """With what was added up so far."""
        average = {"average": self.average.state_dict()} if self.average else {}
        return super().state(epoch, batch, val_result) | average

    def restore(self, saved: SavedState) -> int:
        """Put back a state with its average.

        Raises:
            CheckpointError: it has none that fits.
        """
        state = saved.content.get("average", {})
        if self.average and (problem := self.average.problem(state)):
            raise CheckpointError(f"{saved.file} is no state of this run: {problem}")
        epoch = super().restore(saved)
        if self.average:
            self.average.load_state_dict(state)
        return epoch


@TRAINER_REGISTRY.register()
class VPT_PromptSRC(PromptSRC):  # noqa: N801
    """PromptSRC with a residual from a posterior; options in TRAINER.VPT_PROMPTSRC."""

    node = "VPT_PROMPTSRC"
    conditional = None
    variational = True
