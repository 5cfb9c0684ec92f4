"""A tiny data set and trainer for contract tests, on whichever Dassl is active."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_optimizer
from PIL import Image
from torch import nn

from varprompt.run.schedule import build_lr_scheduler

NAMES = ["red_fox", "green frog", "blue whale"]


def make_image(path: Path, label: int, number: int) -> str:
    noise = np.random.RandomState(100 * label + number).randint(0, 60, (9, 11, 3))
    noise[..., label] += 150
    Image.fromarray(noise.astype(np.uint8)).save(path)
    return str(path)


@DATASET_REGISTRY.register()
class ContractPixels(DatasetBase):
    """Seven training, three val and five test images of three colours, two domains."""

    def __init__(self, cfg):
        root = Path(cfg.DATASET.ROOT)
        splits = {}
        for split, count in {"train": 7, "val": 3, "test": 5}.items():
            (root / split).mkdir(parents=True, exist_ok=True)
            splits[split] = [
                Datum(make_image(root / split / f"{i}.png", i % 3, i), i % 3, i % 2, NAMES[i % 3])
                for i in range(count)
            ]
        super().__init__(train_x=splits["train"], val=splits["val"], test=splits["test"])


@TRAINER_REGISTRY.register()
class ContractNet(TrainerX):
    """A linear classifier trained as CoOp trains its prompts."""

    def build_model(self):
        height, width = self.cfg.INPUT.SIZE
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, self.num_classes))
        nn.init.zeros_(self.model[1].weight)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("classifier", self.model, self.optim, self.sched)

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        output = self.model(images)
        loss = nn.functional.cross_entropy(output, labels)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, labels)[0].item()}


@pytest.fixture
def repaired(stand_in):
    """For behaviour in which the stand-in departs from the real Dassl on purpose."""
    if not stand_in:
        pytest.skip("the stand-in departs from the real Dassl here: run without DASSL_ROOT")


@pytest.fixture
def cfg(tmp_path):
    """Config of ContractNet on ContractPixels: two epochs of two batches of three."""
    cfg = get_cfg_default()
    cfg.merge_from_list(
        ["OUTPUT_DIR", str(tmp_path / "out"), "SEED", 1, "USE_CUDA", False]
        + ["DATASET.ROOT", str(tmp_path / "data"), "DATASET.NAME", "ContractPixels"]
        + ["TRAINER.NAME", "ContractNet"]
        + ["INPUT.SIZE", (7, 5), "INPUT.INTERPOLATION", "bicubic", "INPUT.GB_K", 3]
        + ["INPUT.TRANSFORMS", ("normalize", "random_flip", "random_resized_crop")]
        + ["DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 3]
        + ["DATALOADER.TEST.BATCH_SIZE", 2, "TRAIN.PRINT_FREQ", 1]
        + ["OPTIM.NAME", "sgd", "OPTIM.LR", 0.002, "OPTIM.MAX_EPOCH", 2]
        + ["OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1]
        + ["OPTIM.WARMUP_TYPE", "constant"]
    )
    torch.manual_seed(0)
    return cfg
