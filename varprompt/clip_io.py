"""The old place of `varprompt.towers.load`."""

from .towers.load import *  # noqa: F403
