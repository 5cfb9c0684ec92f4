"""FGVC Aircraft (Maji et al. 2013): variants of aircraft."""

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import parse_lines
from .base import FewShotDataset
from .splits import Item, Split

ARCHIVE = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    """100 variants in the order of variants.txt; the official lists are the split."""

    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    sources = {
        "images/": ARCHIVE,
        "variants.txt": ARCHIVE,
        "images_variant_train.txt": ARCHIVE,
        "images_variant_val.txt": ARCHIVE,
        "images_variant_test.txt": ARCHIVE,
    }
    sizes = (3334, 3333, 3333)
    n_classes = 100

    def build_split(self) -> Split:
        """Read the official lists; nothing is random."""
        names = parse_lines(self.need("variants.txt"), str)
        labels = {name: label for label, name in enumerate(names)}

        def parse(line: str) -> Item:
            image, _, name = line.partition(" ")
            return Item(f"{image}.jpg", labels[name], name)

        return Split(
            *(parse_lines(self.need(f"images_variant_{part}.txt"), parse) for part in Split._fields)
        )
