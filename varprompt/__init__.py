"""Variational prompt tuning for CLIP: posterior, prompt learner, objective, text encoder."""

__version__ = "0.2.0"
