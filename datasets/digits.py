"""Handwritten digits (Alpaydin and Kaynak 1998): 1,797 scans that scikit-learn ships."""

from dassl.data.datasets import DATASET_REGISTRY

from .rendered import EmbeddedDataset


@DATASET_REGISTRY.register()
class Digits(EmbeddedDataset):
    """Ten digits by 13 writers, 8 x 8 pixels enlarged to 32 x 32: real, not rendered."""

    dataset_dir = "digits"
    split_file = "split_zhou_Digits.json"
