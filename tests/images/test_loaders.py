"""Order and augmentation are a function of seed, epoch and image."""

import random

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from varprompt.images.loaders import (
    EpochBatches,
    SeededItems,
    derive_seed,
    seeded_loader,
)

N, BATCH = 11, 4


class Noisy(Dataset):
    """Item i is (i, noise of torch, noise of Python)."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return i, torch.rand(2), random.random()


def run(loader, epoch, first_batch=0):
    loader.batch_sampler.epoch, loader.batch_sampler.first_batch = epoch, first_batch
    return [(i.tolist(), a.tolist(), b.tolist()) for i, a, b in loader]


def loader(seed=5, batch=BATCH, **options):
    return seeded_loader(DataLoader(Noisy(), **options), batch, seed)


def test_repeatable_whatever_happened_before():
    one = run(loader(), 3)
    torch.manual_seed(0)
    random.seed(0)
    again = loader()
    run(again, 0)
    assert run(again, 3) == one
    assert run(loader(seed=6), 3) != one and run(loader(), 4) != one


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_change_nothing():
    assert run(loader(num_workers=2), 3) == run(loader(), 3)


def test_resuming_in_the_middle_of_an_epoch():
    whole = run(loader(), 2)
    assert run(loader(), 2, first_batch=1) == whole[1:]
    assert run(loader(), 2, first_batch=2) == []


def test_an_epoch_shows_every_image_at_most_once():
    """Whole batches only, as Dassl's; each epoch leaves out others."""
    seen = [[i for batch in run(loader(), epoch) for i in batch[0]] for epoch in range(30)]
    assert all(len(set(epoch)) == len(epoch) == 8 for epoch in seen)
    assert {i for epoch in seen for i in epoch} == set(range(N))
    assert len({tuple(epoch) for epoch in seen}) == 30


@pytest.mark.parametrize(("batch", "sizes"), [(11, [11]), (50, [11]), (1, [1] * 11), (6, [6])])
def test_sizes(batch, sizes):
    made = loader(batch=batch)
    assert [len(b[0]) for b in run(made, 0)] == sizes and len(made) == len(sizes)


def test_generators_are_left_alone():
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    SeededItems(Noisy())[3, 17]
    list(EpochBatches(N, BATCH, 5))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_derived_seeds():
    seeds = {
        derive_seed(s, e, p) for s in range(9) for e in range(9) for p in ("order", "noise", 0)
    }
    assert len(seeds) == 9 * 9 * 3 and all(0 <= s < 2**31 for s in seeds)
    assert derive_seed(1, 11) != derive_seed(11, 1)
    assert derive_seed(0, 0, "order") == 1355522797  # runs stay repeatable between versions


def test_balanced_epochs_show_every_class_as_often():
    labels = [0] * 30 + [1] * 7 + [2] * 3
    batches = EpochBatches(len(labels), 5, 1, labels)
    seen = torch.zeros(40)
    for epoch in range(9):
        batches.epoch = epoch
        epochs = [[i for batch in batches for i, _ in batch] for _ in range(2)]
        assert epochs[0] == epochs[1] and len(epochs[0]) == 40
        per_class = torch.tensor([labels[i] for i in epochs[0]]).bincount(minlength=3)
        assert per_class.max() - per_class.min() <= 2
        count = torch.tensor(epochs[0]).bincount(minlength=40)
        assert all(part.max() - part.min() <= 2 for part in count.split([30, 7, 3]))
        seen += count
    assert (seen > 0).all()
