"""Food101 (Bossard et al. 2014): dishes."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import google_drive
from .class_folders import ClassFolders


@DATASET_REGISTRY.register()
class Food101(ClassFolders):
    """101 dishes."""

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    sources = {
        "images/": "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "split_zhou_Food101.json": google_drive("1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
    }
    sizes = (50500, 20200, 30300)
    n_classes = 101
