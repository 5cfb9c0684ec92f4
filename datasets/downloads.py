"""What can be downloaded of the data sets, and what cannot.

Addresses and MD5 sums are those of torchvision 0.29.2, except that those of ImageNet-A and -R are
their authors' and UCF101's is CoOp's; split files and class names come from the addresses in
`FewShotDataset.sources`. Nothing here was tried on its true server: tests serve archives of the
same form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_COPIES = (
    "https://huggingface.co/koorye/datasets was named as a copy in a thread of CoOp's family; it "
    "was not looked at here"
)


@dataclass(frozen=True)
class Archive:
    """A tar or zip file and where its parts go.

    Attributes:
        url: its address, or the page of a file on Google Drive.
        md5: hex digest; '' where none is published, then the finished data set is all the check.
        parts: path in the archive -> path in the folder of the data set.
        inner: the archive in it that holds the parts.
        name: of the file, if the address does not end with it.
    """

    url: str
    md5: str
    parts: Mapping[str, str] = field(default_factory=dict)
    inner: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """What it is called while it is there."""
        return self.name or self.url.rpartition("/")[2]


ARCHIVES = {
    "caltech101": (
        Archive(
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            "3138e1922a9193bfa496528edbbc45d0",
            {"101_ObjectCategories": "101_ObjectCategories"},
            inner="caltech-101/101_ObjectCategories.tar.gz",
        ),
    ),
    "oxford_pets": (
        Archive(
            f"{_VGG}/pets/data/images.tar.gz",
            "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            {"images": "images"},
        ),
        Archive(
            f"{_VGG}/pets/data/annotations.tar.gz",
            "95a8c909bbe2e81eed6a22bccdf3f68f",
            {"annotations": "annotations"},
        ),
    ),
    "oxford_flowers": (
        Archive(
            f"{_VGG}/flowers/102/102flowers.tgz",
            "52808999861908f626f3c1f4e79d11fa",
            {"jpg": "jpg"},
        ),
    ),
    "food101": (
        Archive(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            "85eeb15f3717b99a5da872d97d918f87",
            {"food-101/images": "images"},
        ),
    ),
    "fgvc_aircraft": (
        Archive(
            f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            "",
            {
                f"fgvc-aircraft-2013b/data/{name}": name
                for name in (
                    "images",
                    "variants.txt",
                    "images_variant_train.txt",
                    "images_variant_val.txt",
                    "images_variant_test.txt",
                )
            },
        ),
    ),
    "dtd": (
        Archive(
            f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz",
            "fff73e5086ae6bdbea199a49dfb8a4c1",
            {"dtd/images": "images"},
        ),
    ),
    "eurosat": (
        Archive(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
            "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            "c8fa014336c82ac7804f0398fcb19387",
            {"2750": "2750"},
        ),
    ),
    "ucf101": (
        Archive(
            "https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view",
            "",
            {"UCF-101-midframes": "UCF-101-midframes"},
            name="UCF-101-midframes.zip",
        ),
    ),
    "imagenet_a": (
        Archive(
            f"{_BERKELEY}/imagenet-a.tar",
            "c3e55429088dc681f30d81f4726b6595",
            {"imagenet-a": "imagenet-a"},
        ),
    ),
    "imagenet_r": (
        Archive(
            f"{_BERKELEY}/imagenet-r.tar",
            "a61312130a589d0ca1a8fca1f2bd3337",
            {"imagenet-r": "imagenet-r"},
        ),
    ),
}
"""Data set -> its archives."""

BY_HAND = {
    "imagenet": "its images need an account at https://image-net.org/download.php",
    "stanford_cars": (
        "the pages of its images have been reported dead since 2023; "
        "https://github.com/pytorch/vision/issues/7545 collects copies: take one with the original "
        f"file names; {_COPIES}"
    ),
    "sun397": (
        "the pages of its images have been reported dead since 2025; "
        "https://github.com/pytorch/vision/issues/9348 follows the search for copies; " + _COPIES
    ),
    "imagenetv2": (
        "take imagenetv2-matched-frequency.tar.gz from "
        "https://huggingface.co/datasets/vaishaal/ImageNetV2 (no checksum is known here)"
    ),
    "imagenet_sketch": "see https://github.com/HaohanWang/ImageNet-Sketch",
}
"""Data set -> why its images are not fetched and where they may be had."""
