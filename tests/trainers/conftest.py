"""Runs on a tiny data set."""

from helpers import own_cache, pictures  # noqa: F401 - fixtures
