"""Runs on a tiny data set."""

from helpers import own_cache, pictures, theirs  # noqa: F401 - fixtures
