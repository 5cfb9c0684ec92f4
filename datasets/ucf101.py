"""UCF101 (Soomro et al. 2012): actions, seen in the middle frame of each video."""

import re

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import parse_lines
from .base import FewShotDataset, google_drive
from .rules import split_80_20
from .splits import Item, Split


@DATASET_REGISTRY.register()
class UCF101(FewShotDataset):
    """101 actions; "ApplyEyeMakeup" is called "Apply_Eye_Makeup"."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    sources = {
        "UCF-101-midframes/": google_drive("10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),
        "ucfTrainTestlist/": "https://www.crcv.ucf.edu/data/UCF101/"
        "UCF101TrainTestSplits-RecognitionTask.zip",
        "split_zhou_UCF101.json": google_drive("1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
    }
    only_without_split = ("ucfTrainTestlist/",)
    sizes = (7639, 1898, 3783)
    n_classes = 101

    def build_split(self) -> Split:
        """Keep the first official test list; divide the first training list at random."""
        labels = dict(parse_lines(self.need("ucfTrainTestlist/classInd.txt"), self._parse_class))

        def parse(line: str) -> Item:
            action, video = line.split(" ")[0].split("/")
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            return Item(f"{name}/{video.replace('.avi', '.jpg')}", labels[action], name)

        trainval, test = (
            parse_lines(self.need(f"ucfTrainTestlist/{part}list01.txt"), parse)
            for part in ("train", "test")
        )
        return split_80_20(trainval, test, self.dataset_dir)

    @staticmethod
    def _parse_class(line: str) -> tuple[str, int]:
        label, action = line.split(" ")
        return action, int(label) - 1
