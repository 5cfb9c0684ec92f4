"""Rendered pictures of the embedded benchmark, each set under its own systematic shift."""

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.embedded import make_dataset

from .base import FewShotDataset


class EmbeddedDataset(FewShotDataset):
    """A small set that is made on first use; nothing has to be downloaded."""

    image_dir = "images"

    def prepare(self, cfg) -> None:
        """Make the folder unless it is there.

        Raises:
            DataError: if it cannot be made under DATASET.ROOT.
        """
        make_dataset(type(self).__name__, self.dataset_dir)


@DATASET_REGISTRY.register()
class Chalk(EmbeddedDataset):
    """40 things as blurred lines on a greenish board."""

    dataset_dir = "chalk"
    split_file = "split_zhou_Chalk.json"


@DATASET_REGISTRY.register()
class Stretch(EmbeddedDataset):
    """40 things, all widened by the same factor."""

    dataset_dir = "stretch"
    split_file = "split_zhou_Stretch.json"


@DATASET_REGISTRY.register()
class Zoom(EmbeddedDataset):
    """40 things seen from too close."""

    dataset_dir = "zoom"
    split_file = "split_zhou_Zoom.json"


@DATASET_REGISTRY.register()
class Tint(EmbeddedDataset):
    """8 shapes in 5 colours under coloured light; hard: the tiny CLIP hardly sees colour."""

    dataset_dir = "tint"
    split_file = "split_zhou_Tint.json"


@DATASET_REGISTRY.register()
class Squash(EmbeddedDataset):
    """40 things, all narrowed by the same factor."""

    dataset_dir = "squash"
    split_file = "split_zhou_Squash.json"


@DATASET_REGISTRY.register()
class Shear(EmbeddedDataset):
    """40 things, all slanted to the same side."""

    dataset_dir = "shear"
    split_file = "split_zhou_Shear.json"


@DATASET_REGISTRY.register()
class Coloured(EmbeddedDataset):
    """8 shapes in 5 colours, seen from too close."""

    dataset_dir = "coloured"
    split_file = "split_zhou_Coloured.json"
