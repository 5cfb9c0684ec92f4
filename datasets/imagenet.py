"""ImageNet (Russakovsky et al. 2015): 1.28 million training images, evaluated on its val set."""

import os

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.settings.options import LISTINGS

from .base import log_line
from .caches import read_coop_pickle
from .imagenet_family import CLASSNAMES, CLASSNAMES_SOURCE, ImageNetFamily
from .listing import FILE, ListingCache
from .rules import one_of
from .splits import Split

PICKLE = "preprocessed.pkl"


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFamily):
    """1000 classes; the val images are both the validation and the test list.

    ``DATASET.LISTING`` orders the images of a folder before the few-shot choice: "sorted" gives
    the same choice on every machine, "os" is the order of the file system, which CoOp takes.
    CoOp's preprocessed.pkl, when present, decides in any case.
    """

    dataset_dir = "imagenet"
    image_dir = "images"
    sources = {
        "images/train/": "https://image-net.org/download.php",
        "images/val/": "https://image-net.org/download.php",
        CLASSNAMES: CLASSNAMES_SOURCE,
    }
    sizes = (1281167, None, 50000)
    n_classes = 1000
    val_is_test = True

    def __init__(self, cfg):
        self._order = one_of(cfg.DATASET.get("LISTING", "sorted"), LISTINGS, "DATASET.LISTING")
        super().__init__(cfg)
        self._cache.save()

    def prepare(self, cfg) -> None:
        """Open the cache of listings."""
        self._cache = ListingCache(os.path.join(self.dataset_dir, FILE), self.dataset_dir)

    def scan(self, folder: str) -> list[str]:
        """Return the files of a folder from the cache of listings."""
        return self._cache.names(folder, super().scan)

    def file_names(self, folder: str) -> list[str]:
        """Return the files of a folder of ``image_dir`` in the order of DATASET.LISTING."""
        names = self.scan(os.path.join(self.image_dir, folder))
        return sorted(names) if self._order == "sorted" else names

    def build_split(self) -> Split:
        """Read CoOp's lists if they are there, else the folders."""
        pickle = os.path.join(self.dataset_dir, PICKLE)
        if os.path.isfile(pickle):
            log_line(f"Reading the lists of images from {pickle}")
            lists = read_coop_pickle(pickle, self.anchor)
            return Split(lists.get("train", []), [], lists.get("test", []))
        return Split(self.read_folder("train"), [], self.read_folder("val"))
