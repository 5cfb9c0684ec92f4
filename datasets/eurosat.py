"""EuroSAT (Helber et al. 2019): land use seen by Sentinel-2, RGB version."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import google_drive
from .class_folders import ClassFolders


@DATASET_REGISTRY.register()
class EuroSAT(ClassFolders):
    """10 kinds of land use, with names written out."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    sources = {
        "2750/": "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
        "split_zhou_EuroSAT.json": google_drive("1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
    }
    sizes = (13500, 5400, 8100)
    n_classes = 10
    renames = {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    }
