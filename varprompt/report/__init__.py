"""Comparison tables and figures from folders of results; needs neither torch nor Dassl."""
