"""A data-set file in CoOp's style: nothing in it knows this project."""

import os
import pickle

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import listdir_nohidden, mkdir_if_missing, read_json

from .dtd import DescribableTextures as DTD
from .oxford_pets import OxfordPets

NAMES = {"b1": "shirt_button", "b2": "coat_button"}


@DATASET_REGISTRY.register()
class Buttons(DatasetBase):
    dataset_dir = "buttons"

    def __init__(self, cfg):
        self.dataset_dir = os.path.join(os.path.abspath(cfg.DATASET.ROOT), self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, "pictures")
        self.split_path = os.path.join(self.dataset_dir, "split_Buttons.json")
        self.few_dir = os.path.join(self.dataset_dir, "split_fewshot")
        mkdir_if_missing(self.few_dir)
        if os.path.exists(self.split_path):
            train, val, test = OxfordPets.read_split(self.split_path, self.image_dir)
        else:
            train, val, test = DTD.read_and_split_data(
                self.image_dir, ignored=["spare"], new_cnames=NAMES
            )
            OxfordPets.save_split(train, val, test, self.split_path, self.image_dir)
            assert set(read_json(self.split_path)) == {"train", "val", "test"}
        assert "spare" in listdir_nohidden(self.image_dir)
        shots = cfg.DATASET.NUM_SHOTS
        if shots >= 1:
            cache = os.path.join(self.few_dir, f"shot_{shots}-seed_{cfg.SEED}.pkl")
            if os.path.exists(cache):
                with open(cache, "rb") as file:
                    data = pickle.load(file)
                train, val = data["train"], data["val"]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=shots)
                val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
                with open(cache, "wb") as file:
                    pickle.dump({"train": train, "val": val}, file, pickle.HIGHEST_PROTOCOL)
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        train, val, test = OxfordPets.subsample_classes(train, val, test, subsample=subsample)
        assert all(isinstance(item, Datum) for item in train)
        super().__init__(train_x=train, val=val, test=test)
