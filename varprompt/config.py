"""What a prompted CLIP needs to know, in one validated object without a configuration tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RESIDUALS = ("shared", "per_token")


@dataclass(frozen=True)
class PromptConfig:
    """All that `varprompt.model.PromptedCLIP` needs to know; see `varprompt.settings.nodes`."""

    precision: str = "fp32"
    n_ctx: int = 4
    ctx_init: str = "a photo of a"
    position: str = "end"
    class_specific: bool = False
    posterior: str = ""  # a name in POSTERIORS, "meta_net", or "" for no residual
    conditional: bool = False
    residual: str = "shared"
    learn_context: bool = True
    logvar_init: float | None = None
    prior_std: float = 1.0
    sampler: str = "gaussian"
    n_samples: int = 1
    n_samples_test: int = 1
    test_seed: int = 0
    objective: str = "iwae"
    kl_weight: float = 0.0
    kl_reduction: str = "mean"
    mem_budget: int = 0


def __getattr__(name: str) -> Any:
    """`extend_cfg`, where CoOp checkouts look for it; it needs yacs, this module does not."""
    if name == "extend_cfg":
        from .settings.nodes import extend_cfg

        return extend_cfg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
