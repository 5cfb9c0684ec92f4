"""A run: its folder, log, states and results; knows no CLIP."""
