"""Oxford Flowers 102 (Nilsback and Zisserman 2008)."""

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.errors import DataError

from .annotations import load_matlab
from .base import FewShotDataset, google_drive
from .rules import split_50_20_30
from .splits import Item, Split, read_json

VGG = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"


@DATASET_REGISTRY.register()
class OxfordFlowers(FewShotDataset):
    """102 flowers; the files count labels from 1, images are numbered in their order."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    sources = {
        "jpg/": f"{VGG}/102flowers.tgz",
        "imagelabels.mat": f"{VGG}/imagelabels.mat",
        "cat_to_name.json": google_drive("1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"),
        "split_zhou_OxfordFlowers.json": google_drive("1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
    }
    only_without_split = ("imagelabels.mat", "cat_to_name.json")
    sizes = (4093, 1633, 2463)
    n_classes = 102

    def build_split(self) -> Split:
        """Divide every class at random."""
        labels = load_matlab(self.need("imagelabels.mat"), "labels")
        path = self.need("cat_to_name.json")
        names = read_json(path)
        try:
            items = [
                Item(f"image_{number:05d}.jpg", int(label) - 1, names[str(int(label))])
                for number, label in enumerate(labels, 1)
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: no name for a label of the images ({error!r})") from error
        return split_50_20_30(items, self.dataset_dir)
