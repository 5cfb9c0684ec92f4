"""Families of posteriors over the prompt residual, by name."""

from .base import (
    LOGVAR_BOUNDS,
    POSTERIORS,
    DeltaPosterior,
    FixedPosterior,
    GaussianPosterior,
    MetaNet,
    Posterior,
    bounded,
)

__all__ = [
    "LOGVAR_BOUNDS",
    "POSTERIORS",
    "DeltaPosterior",
    "FixedPosterior",
    "GaussianPosterior",
    "MetaNet",
    "Posterior",
    "bounded",
]
