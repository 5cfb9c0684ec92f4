"""Frozen products go to the faster library; images are the same by either."""

import json
import os

import pytest
import torch
from helpers import error, images, small_clip, textbook_clip
from reference import image_features
from torch import nn

from varprompt.towers import products
from varprompt.towers.frozen import ONEDNN, FrozenCLIP

VIT = {"vision_width": 128, "vision_layers": 4, "patch": 8}


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """The file of what was measured; what this process knows already is put aside."""
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path))
    products.onednn_is_faster.cache_clear()
    yield tmp_path / products.REMEMBERED
    products.onednn_is_faster.cache_clear()


def times(monkeypatch, onednn, default):
    """Let the measurement find these seconds; returns a list that grows with each."""
    asked = []
    monkeypatch.setattr(products, "_least", lambda *f: asked.append(1) or [onednn, default])
    return asked


@pytest.mark.parametrize(("default", "faster"), [(2.0, True), (0.95, True), (0.85, False)])
def test_it_is_measured_once_per_machine(default, faster, remembered, monkeypatch):
    asked = times(monkeypatch, 1.0, default)
    for _ in range(3):
        assert products.onednn_is_faster() is faster
        products.onednn_is_faster.cache_clear()  # another process
    assert len(asked) == 1
    assert list(json.loads(remembered.read_text()).values()) == [faster]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1, "b": "x"}', "\x00\xff", "NaN"])
def test_a_damaged_file_is_measured_again(content, remembered, monkeypatch):
    remembered.write_text(content)
    times(monkeypatch, 1.0, 0.5)
    assert products.onednn_is_faster() is False
    assert list(json.loads(remembered.read_text()).values()) == [False]


def test_other_machines_are_kept_a_hundred_at_most(remembered, monkeypatch):
    remembered.write_text(json.dumps({f"machine {i}": True for i in range(120)}))
    times(monkeypatch, 1.0, 0.5)
    assert products.onednn_is_faster() is False
    names = list(json.loads(remembered.read_text()))
    assert len(names) == 100 and names[-2] == "machine 119" and torch.__version__ in names[-1]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, remembered, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / "file/below"))
    times(monkeypatch, 1.0, 0.5)
    assert products.onednn_is_faster() is False and os.listdir(tmp_path) == ["file"]


def test_without_the_private_operator_torch_multiplies(remembered, monkeypatch):
    monkeypatch.setattr(products.torch.ops, "mkldnn", object())
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 5, generator=draw), torch.randn(7, 5, generator=draw)
    assert not products.takes_onednn(x, weight)
    assert torch.equal(products.linear(x, weight), nn.functional.linear(x, weight))
    towers = FrozenCLIP(small_clip(**VIT))
    assert towers.image_products == "torch"
    assert error(towers.encode_image(images(2)), _wanted(images(2))) < 1e-5


def test_an_operator_that_fails_is_not_taken(remembered, monkeypatch):
    def fails(*args):
        raise RuntimeError("built for another CPU")

    monkeypatch.setattr(products, "_onednn", fails)
    assert products.onednn_is_faster() is False


def test_the_measurement_touches_no_generator(remembered):
    before = torch.get_rng_state()
    assert products.onednn_is_faster() in (True, False)
    assert torch.equal(torch.get_rng_state(), before)


def _wanted(x):
    return image_features(textbook_clip(**VIT), x.double())


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize("n_images", [1, 3, 13])
def test_images_are_the_same_by_either(n_images, faster, monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: faster)
    x, towers = images(n_images), FrozenCLIP(small_clip(**VIT))
    there = torch.backends.mkldnn.is_available()
    assert towers.image_products == (ONEDNN if faster and there else "torch")
    features = towers.encode_image(x)
    assert features.shape == (n_images, 24) and features.dtype == torch.float32
    assert not features.requires_grad and error(features, _wanted(x)) < 1e-5


def test_chunks_change_nothing(monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    x = images(7)
    for budget in (1, 1 << 40):
        towers = FrozenCLIP(small_clip(**VIT), mem_budget=budget)
        assert error(towers.encode_image(x), _wanted(x)) < 1e-5


def test_what_is_not_known_keeps_its_own_forward(monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    changed = small_clip(**VIT)
    changed.visual.transformer.resblocks[1].mlp.gelu = nn.ReLU()
    others = (small_clip(**VIT), "bf16"), (small_clip(vision_layers=(1,) * 4), "fp32")
    for clip, precision in ((changed, "fp32"), *others):
        towers = FrozenCLIP(clip, precision)
        assert towers.image_products == "torch"
        want = nn.functional.normalize(clip.encode_image(images(2)).float(), dim=-1)
        assert torch.equal(towers.encode_image(images(2)), want)
