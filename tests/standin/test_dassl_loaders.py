"""From data sources to batches."""

import random

import numpy as np
import pytest
import torch
from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from PIL import Image

from varprompt.errors import DataError


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


@pytest.mark.parametrize("name", ["SequentialSampler", "RandomSampler", "RandomSampler2"])
def test_samplers(cfg, name):
    source = build_dataset(cfg).train_x
    options = {"n_domain": 0, "n_ins": 16, "is_train": True}  # as CoOp's forks give them
    if name.endswith("2"):
        with pytest.raises(ValueError, match=name):
            build_data_loader(cfg, name, source, 7, tfm=np.asarray, **options)
        return
    torch.manual_seed(0)
    loader = build_data_loader(cfg, name, source, 7, tfm=np.asarray, **options)
    order = list(loader.sampler)
    assert sorted(order) == list(range(7))
    assert (order == sorted(order)) == (name == "SequentialSampler")


def test_no_test_data(cfg, repaired):
    with pytest.raises(DataError, match="ContractPixels has no test images"):
        build_data_loader(cfg, data_source=[], is_train=False)


class Negated(DatasetWrapper):
    def __getitem__(self, idx):
        return {"label": -super().__getitem__(idx)["label"]}


# Python 3.12 says so of every fork behind torch's thread pool
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_and_wrapper(cfg, stand_in):
    cfg.DATALOADER.NUM_WORKERS = 2
    source = build_dataset(cfg).test
    loader = build_data_loader(
        cfg, data_source=source, batch_size=2, is_train=False, dataset_wrapper=Negated
    )
    assert loader.num_workers == 2
    if stand_in:  # the real one leaves it to Python
        assert loader.multiprocessing_context.get_start_method() == "fork"
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
