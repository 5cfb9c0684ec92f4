"""Configs and folders for the tests of the data sets."""

import pytest
from dassl.config import get_cfg_default

import datasets  # noqa: F401 - registers the data sets
from varprompt.settings.nodes import extend_cfg


@pytest.fixture
def make_cfg():
    """Return a function: root, seed and DATASET keys -> config."""

    def make(root, seed=1, **keys):
        cfg = get_cfg_default()
        extend_cfg(cfg)
        cfg.SEED, cfg.DATASET.ROOT = seed, str(root)
        for key, value in keys.items():
            cfg.DATASET[key] = value
        return cfg

    return make
