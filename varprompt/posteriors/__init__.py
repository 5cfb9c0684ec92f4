"""Families of posteriors over the prompt residual, by name.

`POSTERIORS["mine"] = MyPosterior` adds one, from another package too; `Posterior` says what it
must answer.
"""

from .base import Marginals, Posterior, PosteriorSpec, PromptSample
from .delta import DeltaPosterior
from .gaussian import LOGVAR_BOUNDS, FixedPosterior, GaussianPosterior, bounded
from .low_rank import LowRankPosterior
from .meta_net import MetaNet
from .mixture import MixturePosterior

POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": GaussianPosterior,
    "fixed": FixedPosterior,
    "delta": DeltaPosterior,
    "low_rank": LowRankPosterior,
    "mixture": MixturePosterior,
    "meta_net": MetaNet,
}

__all__ = [
    "LOGVAR_BOUNDS",
    "POSTERIORS",
    "DeltaPosterior",
    "FixedPosterior",
    "GaussianPosterior",
    "LowRankPosterior",
    "Marginals",
    "MetaNet",
    "MixturePosterior",
    "Posterior",
    "PosteriorSpec",
    "PromptSample",
    "bounded",
]
