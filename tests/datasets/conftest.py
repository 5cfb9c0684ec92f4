"""Configs and folders for the tests of the data sets."""

import layouts
import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY

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


@pytest.fixture
def as_published(monkeypatch):
    """Return a function: makes a fixture and takes its sizes for the published ones."""

    def make(name, root):
        top = layouts.make(name, root)
        kind = DATASET_REGISTRY.get(name)
        sizes = (None, None, None)
        if name in layouts.WITH_SPLIT_FILE:
            sizes = tuple(len(rows) for rows in layouts.write_split(name, top).values())
        monkeypatch.setattr(kind, "sizes", sizes)
        monkeypatch.setattr(kind, "n_classes", len(layouts.CLASSNAMES[name]))
        return top

    return make
