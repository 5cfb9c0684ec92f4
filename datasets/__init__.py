"""The data sets of the CoOp protocol; importing this package registers them with Dassl."""

# ruff: noqa: E402
import sys

from varprompt.common.console import exit_at_interrupt, need_packages
from varprompt.settings.names import explain_taken_names
from varprompt.standin.which import ensure_dassl

if sys.argv[:1] == ["-m"]:  # python -m datasets.check imports this before it can take care itself
    exit_at_interrupt()
    need_packages()
ensure_dassl()

from dassl.data.datasets import DATASET_REGISTRY

explain_taken_names(
    DATASET_REGISTRY,
    "data set",
    "The data sets of a CoOp checkout have the names of those here and read the same folders: "
    "import either one package or the other, and give data sets of your own other names",
)

from .caltech101 import Caltech101
from .digits import Digits
from .dtd import DescribableTextures
from .eurosat import EuroSAT
from .fgvc_aircraft import FGVCAircraft
from .folder import Folder
from .food101 import Food101
from .imagenet import ImageNet
from .imagenet_a import ImageNetA
from .imagenet_r import ImageNetR
from .imagenet_sketch import ImageNetSketch
from .imagenetv2 import ImageNetV2
from .oxford_flowers import OxfordFlowers
from .oxford_pets import OxfordPets
from .rendered import Chalk, Coloured, Shear, Squash, Stretch, Tint, Zoom
from .stanford_cars import StanfordCars
from .sun397 import SUN397
from .ucf101 import UCF101

COOP_DATASETS = (
    ImageNet,
    Caltech101,
    OxfordPets,
    StanfordCars,
    OxfordFlowers,
    Food101,
    FGVCAircraft,
    SUN397,
    DescribableTextures,
    EuroSAT,
    UCF101,
    ImageNetV2,
    ImageNetSketch,
    ImageNetA,
    ImageNetR,
)
"""The 15 data sets of the protocol in the order of its tables."""

EMBEDDED_DATASETS = (Digits, Chalk, Stretch, Zoom, Tint, Squash, Shear, Coloured)
"""Small sets that are made on first use; nothing has to be downloaded."""

__all__ = ["COOP_DATASETS", "EMBEDDED_DATASETS", "Folder"]
