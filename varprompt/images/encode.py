"""From images to features, all at once: for a test, or to train on views encoded beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..common.ranks import ranks
from .loaders import EpochBatches, derive_seed
from .workers import PlainLoader

Encode = Callable[[Tensor], Tensor]  # images (B, 3, H, W) -> unit-norm features (B, E)


def encode_images(
    loader: DataLoader,
    keys: Iterable[Any],
    encode: Encode,
    batch_size: int,
    progress: bool = True,
) -> Tensor:
    """Features `(N, E)`, float32 on the CPU, of the items of `loader` that `keys` names, in order.

    The processes of a run encode whole batches each, the same ones as a process alone would.

    Args:
        loader: of Dassl's items; its workers are used.
        keys: which of them.
        encode: images -> unit-norm features.
        batch_size: images to encode at once.
        progress: show a bar where somebody sees it.

    Raises:
        DataError: an image cannot be read.
    """
    wanted = list(keys)
    own = wanted[ranks().share(len(wanted), batch_size)]
    images = PlainLoader(
        _Images(loader.dataset), batch_size, sampler=own,
        num_workers=loader.num_workers, pin_memory=loader.pin_memory,
        generator=torch.Generator(),  # leaves the global one as it is
    )  # fmt: skip
    hidden = None if progress and ranks().first else True
    with closing(iter(images)) as batches:  # its workers end, too, if `encode` fails
        bar = tqdm(batches, "encoding images", len(images), disable=hidden)
        mine = [encode(batch).cpu() for batch in bar]
    return torch.cat([batch for theirs in ranks().all_of(mine) for batch in theirs])


class Views(Dataset):
    """Features in place of images: all images show their next view in each epoch, in turn.

    Args:
        features: `(V, N, E)`, V views of N images.
        items: the N records (label, impath).
        batches: tells the epoch.
    """

    def __init__(self, features: Tensor, items: Sequence[Any], batches: EpochBatches):
        self.features = features
        self.data_source = items
        self.batches = batches

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, _ = key
        item = self.data_source[index]
        features = self.features[self.batches.epoch % len(self.features), index]
        return {"features": features, "label": item.label, "impath": item.impath, "index": index}


def view_loader(loader: DataLoader, n_views: int, encode: Encode, batch_size: int) -> DataLoader:
    """`loader`'s batches with "features" `(B, E)` instead of "img"; encodes all views now.

    View v of image i is a function of (seed, v, i); epoch e shows view e mod `n_views`.

    Args:
        loader: from `varprompt.images.loaders.seeded_loader`; its sampler is the new loader's, too.
        n_views: V; as many as epochs make every epoch a fresh augmentation.
        encode: images -> unit-norm features.
        batch_size: images to encode at once.

    Raises:
        DataError: an image cannot be read.
    """
    batches = cast(EpochBatches, loader.batch_sampler)
    n_images = batches.n_items
    keys = [
        (i, derive_seed(batches.seed, "view", view, i))
        for view in range(n_views)
        for i in range(n_images)
    ]
    features = encode_images(loader, keys, encode, batch_size).unflatten(0, (n_views, n_images))
    views = Views(features, data_source(loader.dataset), batches)
    return DataLoader(views, batch_sampler=batches, pin_memory=loader.pin_memory)


def data_source(items: Any) -> Sequence[Any]:
    """The records (impath, label) behind Dassl's items or a wrapper of them."""
    while not hasattr(items, "data_source"):
        items = items.items
    return items.data_source


class _Images(Dataset):
    """The images alone of Dassl's items."""

    def __init__(self, items: Dataset):
        self.items: Any = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> Tensor:
        return self.items[key]["img"]
