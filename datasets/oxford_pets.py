"""Oxford-IIIT Pets (Parkhi et al. 2012): breeds of cats and dogs."""

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import parse_lines
from .base import FewShotDataset, google_drive
from .rules import split_80_20
from .splits import Item, Split

VGG = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"


@DATASET_REGISTRY.register()
class OxfordPets(FewShotDataset):
    """37 breeds, named in lower case with underscores."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    sources = {
        "images/": f"{VGG}/images.tar.gz",
        "annotations/": f"{VGG}/annotations.tar.gz",
        "split_zhou_OxfordPets.json": google_drive("1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
    }
    only_without_split = ("annotations/",)
    sizes = (2944, 736, 3669)
    n_classes = 37

    def build_split(self) -> Split:
        """Keep the official test list; divide the official trainval list at random."""
        trainval, test = (
            parse_lines(self.need(f"annotations/{part}.txt"), self._parse)
            for part in ("trainval", "test")
        )
        return split_80_20(trainval, test, self.dataset_dir)

    @staticmethod
    def _parse(line: str) -> Item:
        image, label, _species, _breed = line.split(" ")
        return Item(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower())
