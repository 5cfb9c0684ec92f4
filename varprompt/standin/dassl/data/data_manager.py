"""From the config to batches of images."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from varprompt.errors import DataError
from varprompt.images.workers import start_of_workers

from ..utils import check_availability, read_image
from .datasets import build_dataset
from .transforms import build_transform

_SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_data_loader(
    cfg: Any,
    sampler_type: str = "SequentialSampler",
    data_source: list[Any] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset] | None = None,
) -> DataLoader:
    """Loader over `data_source`; training drops a short last batch unless it is the only one.

    `n_domain` and `n_ins` are of samplers that only the real Dassl has.

    Raises:
        DataError: no data.
        ValueError: `sampler_type` is unknown.
    """
    if not data_source:
        raise DataError(
            f"dataset {cfg.DATASET.NAME} has no {'training' if is_train else 'test'} images"
        )
    check_availability(sampler_type, list(_SAMPLERS), "DATALOADER.*.SAMPLER")
    wrapper = dataset_wrapper or DatasetWrapper
    return DataLoader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=_SAMPLERS[sampler_type](data_source),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        multiprocessing_context=start_of_workers(cfg.DATALOADER.NUM_WORKERS),
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class DataManager:
    """Dataset DATASET.NAME with its loaders: train_loader_x, val_loader, test_loader.

    `val_loader` is None if there are no validation images; so is `train_loader_u` always: prompt
    learning knows no unlabelled data.
    """

    train_loader_u = None

    def __init__(
        self,
        cfg: Any,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable[..., Dataset] | None = None,
    ):
        self.dataset = data = build_dataset(cfg)
        tfm_train = _transform(cfg, custom_tfm_train, is_train=True)
        tfm_test = _transform(cfg, custom_tfm_test, is_train=False)

        def loader(items: list[Any], node: Any, tfm: Any, is_train: bool) -> DataLoader:
            return build_data_loader(
                cfg, node.SAMPLER, items, node.BATCH_SIZE, tfm=tfm, is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )  # fmt: skip

        test = cfg.DATALOADER.TEST
        self.train_loader_x = loader(data.train_x, cfg.DATALOADER.TRAIN_X, tfm_train, True)
        self.val_loader = loader(data.val, test, tfm_test, False) if data.val else None
        self.test_loader = loader(data.test, test, tfm_test, False)
        self.num_classes, self.lab2cname = data.num_classes, data.lab2cname
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def show_dataset_summary(self, cfg: Any) -> None:
        """Print a table of sizes."""
        from tabulate import tabulate

        data = self.dataset
        rows = [
            ("Dataset", cfg.DATASET.NAME),
            ("Source", cfg.DATASET.SOURCE_DOMAINS),
            ("Target", cfg.DATASET.TARGET_DOMAINS),
            ("# classes", f"{self.num_classes:,}"),
            ("# train_x", f"{len(data.train_x):,}"),
            ("# val", f"{len(data.val):,}" if data.val else None),
            ("# test", f"{len(data.test):,}"),
        ]
        print(tabulate([row for row in rows if row[1]]))


class DatasetWrapper(Dataset):
    """Items as dicts: img (transformed), label, domain, impath, index.

    A list of transforms gives img, img2, img3, ...; without transform `img` is the PIL image.
    """

    def __init__(
        self, cfg: Any, data_source: list[Any], transform: Any = None, is_train: bool = False
    ):
        self.data_source = data_source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = read_image(item.impath)
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        several = isinstance(self.transform, (list, tuple))
        for number, transform in enumerate(self.transform if several else [self.transform], 1):
            name = "img" if number == 1 else f"img{number}"
            output[name] = image if transform is None else transform(image)
        return output


def _transform(cfg: Any, custom: Any, is_train: bool) -> Any:
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    print(f"* Using custom transform for {'training' if is_train else 'testing'}")
    return custom
