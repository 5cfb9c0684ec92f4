"""Orders in which a loader goes through a list of items."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from varprompt.errors import ConfigError

from ..utils import check_availability

_BUILDERS = {
    "RandomSampler": lambda items, batch_size, n_domain, n_ins: RandomSampler(items),
    "SequentialSampler": lambda items, batch_size, n_domain, n_ins: SequentialSampler(items),
    "RandomDomainSampler": lambda items, batch_size, n_domain, n_ins: RandomDomainSampler(
        items, batch_size, n_domain
    ),
    "SeqDomainSampler": lambda items, batch_size, n_domain, n_ins: SeqDomainSampler(
        items, batch_size
    ),
    "RandomClassSampler": lambda items, batch_size, n_domain, n_ins: RandomClassSampler(
        items, batch_size, n_ins
    ),
}


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: Sequence[Any] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """The sampler `sampler_type` over `data_source`.

    Raises:
        ValueError: unknown name.
    """
    check_availability(sampler_type, list(_BUILDERS), "DATALOADER.*.SAMPLER")
    return _BUILDERS[sampler_type](data_source, batch_size, n_domain, n_ins)


class _GroupSampler(Sampler[int]):
    """Batches of equal parts from several groups; draws once to learn its length."""

    def __init__(self, groups: Sequence[int], batch_size: int, per_batch: int):
        self._indices: dict[int, list[int]] = {}
        for index, group in enumerate(groups):
            self._indices.setdefault(group, []).append(index)
        self._per_batch = per_batch if per_batch > 0 else len(self._indices)
        self._size = batch_size // self._per_batch  # items per group and batch
        self._check(batch_size)
        self._length = len(self._draw())

    def __iter__(self) -> Iterator[int]:
        return iter(self._draw())

    def __len__(self) -> int:
        return self._length

    def _check(self, batch_size: int) -> None:
        if batch_size % self._per_batch:
            raise ConfigError(
                f"a batch of {batch_size} cannot be split equally over {self._per_batch} domains; "
                "change DATALOADER.TRAIN_X.BATCH_SIZE or N_DOMAIN"
            )

    def _draw(self) -> list[int]:
        """Until one of a batch's domains has too few items left for another."""
        left = {domain: list(indices) for domain, indices in self._indices.items()}
        drawn: list[int] = []
        exhausted = False
        while not exhausted:
            for domain in self._choose():
                chosen = random.sample(left[domain], self._size)
                drawn.extend(chosen)
                left[domain] = [index for index in left[domain] if index not in chosen]
                exhausted |= len(left[domain]) < self._size
        return drawn

    def _choose(self) -> list[int]:
        raise NotImplementedError


class RandomDomainSampler(_GroupSampler):
    """Each batch: equal parts from `n_domain` randomly chosen domains (all if < 1)."""

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_domain: int):
        super().__init__([item.domain for item in data_source], batch_size, n_domain or 0)

    def _choose(self) -> list[int]:
        return random.sample(list(self._indices), self._per_batch)


class SeqDomainSampler(_GroupSampler):
    """Each batch: equal parts from all domains, in ascending order."""

    def __init__(self, data_source: Sequence[Any], batch_size: int):
        super().__init__([item.domain for item in data_source], batch_size, 0)

    def _choose(self) -> list[int]:
        return sorted(self._indices)


class RandomClassSampler(_GroupSampler):
    """Each batch: `n_ins` images from each of batch_size // n_ins randomly chosen classes."""

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_ins: int):
        if batch_size < n_ins:
            raise ValueError(
                f"a batch of {batch_size} is smaller than {n_ins} images of a class; "
                "change DATALOADER.TRAIN_X.BATCH_SIZE or N_INS"
            )
        self._n_ins = n_ins
        super().__init__([item.label for item in data_source], batch_size, batch_size // n_ins)

    def _check(self, batch_size: int) -> None:
        if len(self._indices) < self._per_batch:
            raise ConfigError(
                f"a batch of {self._per_batch} classes needs more than the {len(self._indices)} "
                "there are; change DATALOADER.TRAIN_X.BATCH_SIZE or N_INS"
            )

    def _draw(self) -> list[int]:
        """Until too few classes have `n_ins` images left; small classes are oversampled."""
        portions = {label: self._portions(indices) for label, indices in self._indices.items()}
        available = list(portions)
        drawn: list[int] = []
        while len(available) >= self._per_batch:
            for label in random.sample(available, self._per_batch):
                drawn.extend(portions[label].pop(0))
                if not portions[label]:
                    available.remove(label)
        return drawn

    def _portions(self, indices: list[int]) -> list[list[int]]:
        size = self._n_ins
        if len(indices) < size:
            indices = np.random.choice(indices, size=size, replace=True)
        indices = list(indices)
        random.shuffle(indices)
        return [indices[i : i + size] for i in range(0, len(indices) - size + 1, size)]
