"""Caltech101 (Fei-Fei et al. 2004): objects."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import google_drive
from .class_folders import ClassFolders


@DATASET_REGISTRY.register()
class Caltech101(ClassFolders):
    """100 object classes: background and the second set of faces are left out."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    sources = {
        "101_ObjectCategories/": "https://data.caltech.edu/records/mzrjq-6wc02",
        "split_zhou_Caltech101.json": google_drive("1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
    }
    sizes = (4128, 1649, 2465)
    n_classes = 100
    ignored = frozenset({"BACKGROUND_Google", "Faces_easy"})
    renames = {
        "airplanes": "airplane",
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
    }
