"""Variational prompt tuning for CLIP: posterior, prompt learner, objective, text encoder."""
