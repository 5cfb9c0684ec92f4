"""Testing with nothing but PyTorch: any predictor, any figures, any images."""

import math

import pytest
import torch
from PIL import Image
from torchvision.transforms import ToTensor

from varprompt.errors import VarPromptError
from varprompt.images.feature_cache import FeatureCache
from varprompt.images.read import ImageItems
from varprompt.run.evaluate import Evaluator

COLORS = ("red", "lime", "blue")


class Item:
    """A record of a data set."""

    domain = 0

    def __init__(self, path, label):
        self.impath, self.label = str(path), label


class Colour:
    """Predicts the brightest channel, sure of it by `scale`."""

    def __init__(self, scale=5.0, similarity=0.1):
        self.scale, self.cosine = scale, similarity

    def samples(self, features):
        return (self.scale * features).log_softmax(-1)[None]

    def similarity(self, features):
        return self.cosine

    drawn = True


class Count:
    """Figures of the simplest kind."""

    def reset(self):
        self.hits = []

    def process(self, mo, gt):
        self.hits += (mo.argmax(1) == gt).tolist()

    def evaluate(self):
        return {"accuracy": 100 * sum(self.hits) / len(self.hits), "perclass_accuracy": 1.0}


@pytest.fixture
def loader(tmp_path):
    items = []
    for i in range(7):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (5, 5), COLORS[i % 3]).save(path)
        items.append(Item(path, i % 3 if i else 1))  # the first label is wrong
    images = ImageItems(None, items, ToTensor())
    return torch.utils.data.DataLoader(images, batch_size=3)


def evaluator(notes, **depends_on):
    return Evaluator(
        FeatureCache(0, notes.append), lambda images: images.mean((2, 3)),
        {"precision": "fp32", **depends_on},
        classnames=COLORS, metrics=Count(), device=torch.device("cpu"), note=notes.append,
    )  # fmt: skip


def test_figures(loader):
    notes = []
    found = evaluator(notes)(Colour(), loader, "val")
    assert found["accuracy"] == pytest.approx(600 / 7) and found["n_total"] == 7
    assert [row["name"] for row in found["per_class"].values()] == list(COLORS)
    sure = torch.tensor([5.0, 0, 0]).log_softmax(0)
    assert found["nll"] == pytest.approx(-(6 * sure[0] + sure[1]).item() / 7)
    assert notes[0] == "Evaluate on the *val* set"
    assert notes[-1] == f"* nll: {found['nll']:.4f}\n* ece: {found['ece']:.1f}%"


def test_probabilities_that_are_not_finite_are_no_result(loader):
    with pytest.raises(VarPromptError, match="of the test images are not finite in precision fp32"):
        evaluator([])(Colour(math.inf), loader, "test")


def test_equal_texts_are_a_warning(loader):
    with pytest.warns(UserWarning, match="training has collapsed"):
        evaluator([])(Colour(similarity=0.9999), loader, "test")
