"""The old place of `varprompt.posteriors`."""

from .posteriors import *  # noqa: F403
