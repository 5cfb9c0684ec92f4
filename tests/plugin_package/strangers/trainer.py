"""A trainer with its own node of options."""

from dassl.engine import TRAINER_REGISTRY
from varprompt.trainers.base import PromptTrainer

from varprompt.errors import ConfigError


@TRAINER_REGISTRY.register()
class PromptForStrangers(PromptTrainer):
    """A variational trainer that multiplies the learning rate."""

    node = "STRANGERS"
    variational = True

    @classmethod
    def extend_cfg(cls, cfg):
        """One option more than every variational trainer has."""
        super().extend_cfg(cfg)
        cfg.TRAINER.STRANGERS.SPEED = 1.0

    def check_cfg(self, cfg):
        """The owner of an option checks it."""
        if cfg.TRAINER.STRANGERS.SPEED <= 0:
            raise ConfigError(f"TRAINER.STRANGERS.SPEED is {cfg.TRAINER.STRANGERS.SPEED}")
        super().check_cfg(cfg)

    def build_model(self):
        """As always, then faster."""
        super().build_model()
        self.note(f"speed {self.cfg.TRAINER.STRANGERS.SPEED}")
        for group in self.optim.param_groups:
            group["lr"] *= self.cfg.TRAINER.STRANGERS.SPEED
