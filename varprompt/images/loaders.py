"""Training batches whose order and augmentation are a function of (seed, epoch, image) alone."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .workers import PlainLoader


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^31) for the purpose that `parts` name; unrelated for other parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def only_deterministic() -> None:
    """Make this process use torch's deterministic algorithms only; an operator without fails."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first use of CUDA
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (index, seed of that item) in an order that `seed` and `epoch` decide.

    Set `epoch`, and `first_batch` to leave out what an interrupted epoch had already seen.

    Args:
        n_items: how many there are, and how many an epoch has.
        batch_size: items of a batch.
        seed: decides the order.
        labels: `(n_items,)` for balanced epochs, in which all classes are as frequent: the images
            of small classes come several times, of large ones a new part in each epoch.
    """

    def __init__(
        self, n_items: int, batch_size: int, seed: int, labels: Sequence[int] | None = None
    ):
        self.n_items = n_items
        self.batch_size = min(batch_size, n_items)  # a smaller set makes one short batch
        self.seed = seed
        self.labels = None if labels is None else torch.tensor(list(labels))
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        return self.n_items // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, "order"))
        order = self._order(generator).tolist()
        for batch in range(self.first_batch, len(self)):
            items = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(i, derive_seed(self.seed, self.epoch, i)) for i in items]

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        if self.labels is None:
            return torch.randperm(self.n_items, generator=generator)
        classes = self.labels.unique()
        share = -(-self.n_items // len(classes))
        drawn = []
        for label in classes:
            mine = (self.labels == label).nonzero()[:, 0]
            rounds = [torch.randperm(len(mine), generator=generator)
                      for _ in range(-(-share // len(mine)))]  # fmt: skip
            drawn.append(mine[torch.cat(rounds)[:share]])
        every = torch.cat(drawn)
        return every[torch.randperm(len(every), generator=generator)[: self.n_items]]


class SeededItems(Dataset):
    """Items of another data set, with the random generators seeded around each access.

    The result does not depend on the number of workers, and the generators of the process are
    left as they were.
    """

    def __init__(self, items: Dataset):
        self.items: Any = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        index, seed = key
        python, numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # leaves CUDA alone
            random.seed(seed)
            np.random.seed(seed)
            try:
                return self.items[index]
            finally:
                random.setstate(python)
                np.random.set_state(numpy)


def seeded_loader(
    loader: DataLoader, batch_size: int, seed: int, labels: Sequence[int] | None = None
) -> DataLoader:
    """`loader`'s items in `EpochBatches`; the sampler is the new loader's ``batch_sampler``."""
    n_workers = loader.num_workers
    return PlainLoader(
        SeededItems(loader.dataset),
        batch_sampler=EpochBatches(len(cast(Sized, loader.dataset)), batch_size, seed, labels),
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        pin_memory=loader.pin_memory,
    )
