"""SUN397 (Xiao et al. 2010): scenes."""

import posixpath

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import parse_lines
from .base import FewShotDataset, google_drive
from .rules import split_80_20
from .splits import Item, Split

PRINCETON = "https://vision.princeton.edu/projects/2010/SUN"
COPIES = "https://github.com/pytorch/vision/issues/9348"  # Princeton's files were reported dead


@DATASET_REGISTRY.register()
class SUN397(FewShotDataset):
    """397 scenes; "/a/apartment_building/outdoor" is called "outdoor apartment_building"."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    sources = {
        "SUN397/": COPIES,
        "ClassName.txt": f"{PRINCETON}/download/Partitions.zip",
        "Training_01.txt": f"{PRINCETON}/download/Partitions.zip",
        "Testing_01.txt": f"{PRINCETON}/download/Partitions.zip",
        "split_zhou_SUN397.json": google_drive("1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
    }
    only_without_split = ("ClassName.txt", "Training_01.txt", "Testing_01.txt")
    sizes = (15880, 3970, 19850)
    n_classes = 397

    def build_split(self) -> Split:
        """Keep the first official test list; divide the first training list at random."""
        folders = parse_lines(self.need("ClassName.txt"), lambda line: line[1:])
        labels = {folder: label for label, folder in enumerate(folders)}

        def parse(line: str) -> Item:
            folder = posixpath.dirname(line[1:])
            name = " ".join(reversed(folder.split("/")[1:]))  # without the initial letter
            return Item(line[1:], labels[folder], name)

        trainval, test = (
            parse_lines(self.need(name), parse) for name in ("Training_01.txt", "Testing_01.txt")
        )
        return split_80_20(trainval, test, self.dataset_dir)
