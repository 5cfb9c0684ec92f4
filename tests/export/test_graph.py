"""The way of an image as a graph, and the matrix of the mean texts, against float64 formulas."""

import json

import pytest
import torch
from classifiers import SIZE, classifier, pictures
from safetensors import safe_open

from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.export.check import N_IMAGES, check_images
from varprompt.export.graph import ImageClassifier, described, texts_of
from varprompt.export.matrix import class_matrix, what_is_lost, write_matrix
from varprompt.model import PromptedCLIP


@pytest.fixture(scope="module")
def learned():
    return classifier().learned_


@pytest.fixture(scope="module")
def graph(learned):
    texts = texts_of(learned.model, "it")
    return ImageClassifier(learned.clip.visual, texts, learned.temperature).eval()


def normalised(learned, images):
    mean, std = (torch.tensor(v)[:, None, None] for v in (learned.pixels.mean, learned.pixels.std))
    return (images - mean) / std


def test_graph_says_what_the_model_says(learned, graph):
    images = normalised(learned, pictures(7, seed=3))
    found = learned.predict(learned.encode_image(images))
    prob, *uncertainty = (x.double() for x in graph(images))
    torch.testing.assert_close(prob, torch.from_numpy(found.prob), rtol=0, atol=1e-6)
    for ours, theirs in zip(uncertainty, found.uncertainty, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=2e-6)
    assert uncertainty[2].max() > 1e-5  # the samples do differ


def test_another_temperature_flattens(learned):
    texts = texts_of(learned.model, "it")
    features = torch.nn.functional.normalize(torch.randn(5, texts.features.shape[-1]), dim=-1)
    graph = ImageClassifier(learned.clip.visual, texts, 2.5)
    logits = texts.scale / 2.5 * features.double() @ texts.features.double().transpose(-2, -1)
    torch.testing.assert_close(
        graph.judged(features)[0].double(), logits.softmax(-1).mean(0), rtol=0, atol=1e-6
    )


def test_matrix_gives_the_mean_of_the_logits_and_says_what_is_lost(learned, graph, tmp_path):
    texts = texts_of(learned.model, "it")
    matrix, scale = class_matrix(texts, learned.temperature)
    features = graph.features(check_images([], None, SIZE))
    logits = scale * features.double() @ texts.features.double().transpose(-2, -1)  # (L, B, C)
    plain = logits.mean(0).softmax(-1)
    torch.testing.assert_close(
        (scale * features @ matrix.T).softmax(-1).double(), plain, rtol=0, atol=1e-5
    )
    loss = what_is_lost(graph, matrix, scale, features)
    exact = logits.softmax(-1).mean(0)
    assert loss.n_images == N_IMAGES
    assert loss.mean_difference == pytest.approx((exact - plain).abs().mean().item(), rel=1e-2)
    assert loss.largest_difference == pytest.approx((exact - plain).abs().max().item(), rel=1e-2)
    assert loss.agreement == (exact.argmax(-1) == plain.argmax(-1)).double().mean()
    write_matrix(matrix, scale, loss, described(learned), tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        said = file.metadata()
        assert torch.equal(file.get_tensor("weight"), matrix)
    assert json.loads(said["classnames"]) == learned.names
    assert float(said["logit_scale"]) == scale
    assert json.loads(said["compared_with_the_model"])["agreement"] == loss.agreement


def test_nothing_is_lost_without_noise():
    learned = classifier("delta").learned_
    texts = texts_of(learned.model, "it")
    graph = ImageClassifier(learned.clip.visual, texts, learned.temperature)
    matrix, scale = class_matrix(texts, learned.temperature)
    loss = what_is_lost(graph, matrix, scale, graph.features(check_images([], None, SIZE)))
    assert loss.agreement == 1 and loss.largest_difference < 1e-5 and loss.epistemic < 1e-6


def test_prompts_that_depend_on_the_image_have_no_texts(learned):
    config = PromptConfig(posterior="gaussian", conditional=True)
    with pytest.raises(ConfigError, match=r"--onnx x cannot be written: the prompts .* depend"):
        texts_of(PromptedCLIP(learned.clip, ["a", "b"], config), "--onnx x")


def test_fresh_noise_is_drawn_once(learned):
    config = PromptConfig(posterior="gaussian", n_samples=3, test_seed=-1)
    model = PromptedCLIP(learned.clip, ["a", "b"], config)
    first, again = texts_of(model, "it"), texts_of(model, "it")
    assert first.redrawn and torch.equal(first.features, again.features)
    assert not texts_of(learned.model, "it").redrawn
