"""From data sources to batches."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from PIL import Image

from varprompt.errors import ConfigError, DataError


@pytest.fixture
def manager(cfg, capsys):
    manager = DataManager(cfg)
    manager.printed = capsys.readouterr().out.splitlines()
    return manager


def test_attributes_and_summary(manager):
    assert manager.num_classes == 3
    assert manager.lab2cname == {0: "red_fox", 1: "green frog", 2: "blue whale"}
    assert manager.dataset.classnames == ["red_fox", "green frog", "blue whale"]
    assert manager.num_source_domains == 0
    assert manager.train_loader_u is None
    assert [len(loader) for loader in (manager.val_loader, manager.test_loader)] == [2, 3]
    assert manager.printed[0] == "Loading dataset: ContractPixels"
    table = [line.split() for line in manager.printed if line[0] != "-"][-5:]
    assert table == [
        ["Dataset", "ContractPixels"],
        ["#", "classes", "3"],
        ["#", "train_x", "7"],
        ["#", "val", "3"],
        ["#", "test", "5"],
    ]


def test_domains_are_in_the_summary(cfg, capsys):
    cfg.DATASET.SOURCE_DOMAINS = ["photo", "sketch"]
    cfg.DATASET.TARGET_DOMAINS = ["clipart"]
    assert DataManager(cfg).num_source_domains == 2
    lines = capsys.readouterr().out.splitlines()
    assert "Source     ['photo', 'sketch']" in lines and "Target     ['clipart']" in lines


def test_quiet_without_verbose(cfg, capsys):
    cfg.VERBOSE = False
    DataManager(cfg, custom_tfm_train=np.asarray, custom_tfm_test=np.asarray)
    assert capsys.readouterr().out.splitlines() == [
        "* Using custom transform for training",
        "* Using custom transform for testing",
    ]


def test_batch(manager):
    batch = next(iter(manager.test_loader))
    assert set(batch) == {"label", "domain", "impath", "index", "img"}
    for key, expected in {"label": [0, 1], "domain": [0, 1], "index": [0, 1]}.items():
        assert batch[key].dtype == torch.int64 and batch[key].tolist() == expected
    assert batch["impath"] == [item.impath for item in manager.dataset.test[:2]]
    assert batch["img"].shape == (2, 3, 7, 5) and batch["img"].dtype == torch.float32


@pytest.mark.parametrize("same, size", [(True, 3), (False, 2)])
def test_unlabelled_loader(cfg, monkeypatch, same, size, capsys):
    cfg.DATALOADER.TRAIN_U.SAME_AS_X = same
    cfg.DATALOADER.TRAIN_U.BATCH_SIZE = 2
    monkeypatch.setattr(type(build_dataset(cfg)), "train_u", property(lambda self: self.train_x))
    manager = DataManager(cfg)
    assert manager.train_loader_u.batch_size == size and manager.train_loader_u.drop_last
    assert "# train_u  7" in capsys.readouterr().out.splitlines()


def test_building_draws_nothing(cfg):
    states = torch.get_rng_state(), random.getstate()
    DataManager(cfg)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


@pytest.mark.parametrize(
    "size, is_train, batches",
    [(3, True, [3, 3]), (8, True, [7]), (7, True, [7]), (3, False, [3, 3, 1])],
)
def test_short_batches(cfg, size, is_train, batches):
    """The tail is dropped in training unless it is all there is."""
    loader = build_data_loader(
        cfg,
        data_source=build_dataset(cfg).train_x,
        batch_size=size,
        tfm=build_transform(cfg, is_train),
        is_train=is_train,
    )
    assert [len(batch["label"]) for batch in loader] == batches
    assert len(loader) == len(batches)


def test_no_test_data(cfg, repaired):
    with pytest.raises(DataError, match="ContractPixels has no test images"):
        build_data_loader(cfg, data_source=[], is_train=False)


class Negated(DatasetWrapper):
    def __getitem__(self, idx):
        return {"label": -super().__getitem__(idx)["label"]}


# Python 3.12 says so of every fork behind torch's thread pool
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_and_wrapper(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2
    source = build_dataset(cfg).test
    loader = build_data_loader(
        cfg, data_source=source, batch_size=2, is_train=False, dataset_wrapper=Negated
    )
    assert loader.num_workers == 2
    assert [batch["label"].tolist() for batch in loader] == [[0, -1], [-2, 0], [-1]]


def test_training_order_is_seeded_by_torch_alone(cfg):
    orders = []
    for seed in (1, 1, 2):
        loader = DataManager(cfg).train_loader_x
        torch.manual_seed(seed)
        orders.append([index for batch in loader for index in batch["index"].tolist()])
    assert orders[0] == orders[1] != orders[2]
    torch.manual_seed(1)
    torch.empty((), dtype=torch.int64).random_()  # torch's loader draws a seed for its workers
    inner = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
    assert orders[0] == torch.randperm(7, generator=inner).tolist()[:6]


def test_wrapper_options(cfg):
    source = build_dataset(cfg).train_x
    raw = DatasetWrapper(cfg, source)[1]["img"]
    assert raw.mode == "RGB" and raw.size == (11, 9)
    several = DatasetWrapper(cfg, source, transform=[lambda im: 1, lambda im: im.size])[0]
    assert several["img"] == 1 and several["img2"] == (11, 9)

    cfg.DATALOADER.K_TRANSFORMS = 3
    tfm = build_transform(cfg)
    assert len(DatasetWrapper(cfg, source, tfm, is_train=True)[0]["img"]) == 3
    assert DatasetWrapper(cfg, source, tfm, is_train=False)[0]["img"].shape == (3, 7, 5)
    with pytest.raises((ValueError, ConfigError), match="3 times"):
        DatasetWrapper(cfg, source, None, is_train=True)


@pytest.mark.parametrize("normalize", [True, False])
def test_img0_is_plain(cfg, normalize):
    cfg.DATALOADER.RETURN_IMG0 = True
    cfg.INPUT.TRANSFORMS = ("random_flip", "normalize") if normalize else ("random_flip",)
    source = build_dataset(cfg).train_x
    plain = DatasetWrapper(cfg, source, np.asarray)[4]["img0"]
    image = Image.open(source[4].impath).resize((5, 7), Image.Resampling.BICUBIC)
    expected = np.asarray(image, np.float64) / 255
    if normalize:
        expected = (expected - cfg.INPUT.PIXEL_MEAN) / cfg.INPUT.PIXEL_STD
    np.testing.assert_allclose(plain, expected.transpose(2, 0, 1), atol=1e-6)


def test_grey_images_become_rgb(cfg, tmp_path):
    source = build_dataset(cfg).test
    Image.fromarray(np.full((6, 6), 9, np.uint8)).save(source[0].impath)
    pixels = np.asarray(DatasetWrapper(cfg, source)[0]["img"])
    assert pixels.shape == (6, 6, 3) and (pixels == 9).all()


def test_broken_image_is_named(cfg, repaired):
    manager = DataManager(cfg)
    path = manager.dataset.test[3].impath
    with open(path, "r+b") as file:
        file.truncate(40)
    with pytest.raises(DataError, match=path):
        list(manager.test_loader)


DATUMS = [
    SimpleNamespace(label=label, domain=domain)
    for label, domain in zip([0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 2, 0], [2, 0, 1] * 4, strict=True)
]


def batches(sampler, size):
    order = list(sampler)
    assert len(order) == len(sampler)
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_sequential_and_random_samplers():
    assert list(build_sampler("SequentialSampler", data_source=DATUMS)) == list(range(12))
    torch.manual_seed(0)
    order = list(build_sampler("RandomSampler", data_source=DATUMS))
    assert sorted(order) == list(range(12)) != order


@pytest.mark.parametrize("n_domain, per_domain", [(2, 2), (0, 2), (3, 1)])
def test_random_domain_sampler(n_domain, per_domain):
    random.seed(5)
    size = (n_domain or 3) * per_domain
    sampler = build_sampler("RandomDomainSampler", None, DATUMS, size, n_domain=n_domain)
    order = batches(sampler, size)
    assert len(order) >= 2
    for batch in order:
        domains = Counter(DATUMS[i].domain for i in batch)
        assert list(domains.values()) == [per_domain] * (n_domain or 3)
    assert len({i for batch in order for i in batch}) == sum(map(len, order))


def test_sequential_domain_sampler():
    random.seed(5)
    order = batches(build_sampler("SeqDomainSampler", None, DATUMS, 6), 6)
    assert [[DATUMS[i].domain for i in batch] for batch in order] == [[0, 0, 1, 1, 2, 2]] * 2


def test_random_class_sampler_oversamples_small_classes():
    random.seed(5)
    np.random.seed(5)
    sampler = build_sampler("RandomClassSampler", None, DATUMS, 9, n_ins=4)
    for batch in batches(sampler, 8):  # two classes of four; label 1 has only three images
        assert sorted(Counter(DATUMS[i].label for i in batch).values()) == [4, 4]


def test_samplers_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="RandomSampler"):
        build_sampler("RandomSampler2", data_source=DATUMS)
    with pytest.raises(ValueError):
        build_sampler("RandomClassSampler", None, DATUMS, 3, n_ins=4)
    with pytest.raises((ConfigError, AssertionError)):
        build_sampler("RandomDomainSampler", None, DATUMS, 5, n_domain=2)
    with pytest.raises((ConfigError, AssertionError)):
        build_sampler("RandomClassSampler", None, DATUMS, 8, n_ins=2)
