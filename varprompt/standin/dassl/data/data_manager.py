"""From the config to batches of images."""

# ruff: noqa: T201 - the printed lines are the log that tools parse
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision.transforms as T
from torch.utils.data import DataLoader, Dataset

from varprompt.errors import ConfigError, DataError

from ..utils import read_image
from .datasets import build_dataset
from .samplers import build_sampler
from .transforms import INTERPOLATION_MODES, build_transform


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

    Raises:
        DataError: no data.
    """
    if not data_source:
        raise DataError(
            f"dataset {cfg.DATASET.NAME} has no {'training' if is_train else 'test'} images"
        )
    sampler = build_sampler(
        sampler_type,
        cfg=cfg,
        data_source=data_source,
        batch_size=batch_size,
        n_domain=n_domain,
        n_ins=n_ins,
    )
    wrapper = dataset_wrapper or DatasetWrapper
    return DataLoader(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class DataManager:
    """Dataset DATASET.NAME with its loaders: train_loader_x, train_loader_u, val_, test_loader.

    The loaders of data that the dataset lacks (unlabelled, validation) are None.
    """

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
        train_x, train_u, test = (cfg.DATALOADER[key] for key in ("TRAIN_X", "TRAIN_U", "TEST"))
        if train_u.SAME_AS_X:
            train_u = train_x

        def loader(items: list[Any], node: Any, is_train: bool) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=node.SAMPLER,
                data_source=items,
                batch_size=node.BATCH_SIZE,
                n_domain=node.get("N_DOMAIN", 0),
                n_ins=node.get("N_INS", 2),
                tfm=tfm_train if is_train else tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        self.train_loader_x = loader(data.train_x, train_x, True)
        self.train_loader_u = loader(data.train_u, train_u, True) if data.train_u else None
        self.val_loader = loader(data.val, test, False) if data.val else None
        self.test_loader = loader(data.test, test, False)
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        """Number of DATASET.SOURCE_DOMAINS."""
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        """Class name of each label."""
        return self.dataset.lab2cname

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
            ("# train_u", f"{len(data.train_u):,}" if data.train_u else None),
            ("# val", f"{len(data.val):,}" if data.val else None),
            ("# test", f"{len(data.test):,}"),
        ]
        print(tabulate([row for row in rows if row[1]]))


class DatasetWrapper(Dataset):
    """Items as dicts: img (transformed), label, domain, impath, index.

    With K_TRANSFORMS > 1 (training only) `img` is a list of K; a list of transforms gives img,
    img2, img3, ...; RETURN_IMG0 adds img0, resized and normalised only; without transform `img`
    is the PIL image.
    """

    def __init__(
        self, cfg: Any, data_source: list[Any], transform: Any = None, is_train: bool = False
    ):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ConfigError(
                f"there is no transform to be applied {self.k_tfm} times "
                "(DATALOADER.K_TRANSFORMS, INPUT.NO_TRANSFORM)"
            )
        self.to_tensor = _plain_transform(cfg.INPUT)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = read_image(item.impath)
        output = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for number, transform in enumerate(self.transform, start=1):
                output["img" if number == 1 else f"img{number}"] = self._apply(transform, image)
        else:
            output["img"] = self._apply(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _apply(self, transform: Callable[[Any], Any], image: Any) -> Any:
        images = [transform(image) for _ in range(self.k_tfm)]
        return images if len(images) > 1 else images[0]


def _plain_transform(inp: Any) -> T.Compose:
    steps = [T.Resize(inp.SIZE, interpolation=INTERPOLATION_MODES[inp.INTERPOLATION])]
    steps.append(T.ToTensor())
    if "normalize" in inp.TRANSFORMS:
        steps.append(T.Normalize(inp.PIXEL_MEAN, inp.PIXEL_STD))
    return T.Compose(steps)


def _transform(cfg: Any, custom: Any, is_train: bool) -> Any:
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    print(f"* Using custom transform for {'training' if is_train else 'testing'}")
    return custom
