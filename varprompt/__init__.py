"""Variational prompt tuning for CLIP: posterior, prompt learner, objective, text encoder.

The names in `__all__` are the public ones. They are imported when they are first used: importing
this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import PromptClassifier
    from .config import PromptConfig
    from .errors import CheckpointError, ConfigError, DataError, VarPromptError
    from .learner_state import load_learner
    from .model import PromptedCLIP, zero_shot
    from .objective import ObjectiveConfig, Terms, kl_scale, predictive_log_prob
    from .ops import reparam_kl
    from .posteriors import POSTERIORS, Posterior, PosteriorSpec, PromptSample
    from .prompt import PromptLearner
    from .towers.load import load_clip
    from .trained import load_classifier

__version__ = "0.2.0"
_HOMES = {
    "classifier": ("PromptClassifier",),
    "config": ("PromptConfig",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "VarPromptError"),
    "learner_state": ("load_learner",),
    "model": ("PromptedCLIP", "zero_shot"),
    "objective": ("ObjectiveConfig", "Terms", "kl_scale", "predictive_log_prob"),
    "ops": ("reparam_kl",),
    "posteriors": ("POSTERIORS", "Posterior", "PosteriorSpec", "PromptSample"),
    "prompt": ("PromptLearner",),
    "towers.load": ("load_clip",),
    "trained": ("load_classifier",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "POSTERIORS",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ObjectiveConfig",
    "Posterior",
    "PosteriorSpec",
    "PromptClassifier",
    "PromptConfig",
    "PromptLearner",
    "PromptSample",
    "PromptedCLIP",
    "Terms",
    "VarPromptError",
    "__version__",
    "kl_scale",
    "load_classifier",
    "load_clip",
    "load_learner",
    "objective",
    "predictive_log_prob",
    "reparam_kl",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name == "objective":  # the module of this name; the function has the same one in there
        return import_module(".objective", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
