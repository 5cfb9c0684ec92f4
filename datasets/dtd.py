"""Describable Textures (Cimpoi et al. 2014)."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import google_drive
from .class_folders import ClassFolders


@DATASET_REGISTRY.register()
class DescribableTextures(ClassFolders):
    """47 textures."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    sources = {
        "images/": "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        "split_zhou_DescribableTextures.json": google_drive("1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
    }
    sizes = (2820, 1128, 1692)
    n_classes = 47
