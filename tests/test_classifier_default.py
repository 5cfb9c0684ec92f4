"""The benchmark of the classifier's default: it learns what the classifier learns."""

import numpy as np
import pytest
import yaml

from benchmarks import classifier_default as benchmark
from benchmarks._mixture_tasks import draw, towers
from varprompt import PromptClassifier
from varprompt.classifier import classifier as shipped
from varprompt.classifier import recipe


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return draw("Chalk", 901, 16, towers(), tmp_path_factory.mktemp("features"))


@pytest.mark.parametrize("name", ["gaussian", "captions", "default"])
def test_it_learns_what_the_classifier_learns(task, name, monkeypatch):
    """Features stand for images: then both have the same probabilities and temperature."""
    kind = benchmark.kinds()[name]
    monkeypatch.setattr(recipe, "_EPOCHS", 2)
    expected = benchmark.learned(task, kind, towers().clip)
    monkeypatch.setattr(
        shipped.Learned, "encode", lambda self, images, *_: task.train.features.clone()
    )
    images = np.zeros((len(task.train.labels), 4, 4, 3), np.uint8)
    new = PromptClassifier("embedded", device="cpu", progress=False, **kind)
    fitted = new.fit(
        images, task.train.labels.numpy(), class_names=dict(enumerate(task.names["base"]))
    )
    assert fitted.temperature_ == pytest.approx(expected.temperature, rel=1e-4) != 1
    got, want = (own.predict(task.val.features).prob for own in (fitted.learned_, expected))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_step_of_each_kind_is_timed():
    args = benchmark.parser().parse_args(["--step", "--repeats", "1"])
    found = benchmark.step_seconds(args, "tiny")["kinds"]
    assert list(found) == list(benchmark.kinds()) and found["gaussian"]["ratio"] == 1
    assert all(kind["step_s"]["p50"] > 0 for kind in found.values())


def test_the_default_is_that_of_the_configuration():
    file = benchmark.ROOT / "configs/trainers/VPT/vit_b16_c4_ep50_mixture_words.yaml"
    node = yaml.safe_load(file.read_text())["TRAINER"]["VPT"]
    assert list(recipe.TEMPLATES) == node["TEMPLATES"] and recipe.CLASS_WORDS == node["CLASS_WORDS"]


def test_the_table_counts_tasks_above_another_kind():
    rows = [
        {"dataset": d, "seed": 901, "kind": kind, **dict.fromkeys(benchmark.FIGURES, value)}
        for d, more in (("a", 1.0), ("b", -1.0))
        for kind, value in (("gaussian", 5.0), ("default", 5.0 + more), ("templates", 6.0))
    ]  # fmt: skip
    lines = benchmark.table(rows).splitlines()
    gains = [line.split(" | ")[8] for line in lines[2:]]
    assert gains == ["-", "+0 ± 12.7, 1 of 2", "+1 ± 0, 2 of 2"]
    assert lines[4].startswith("| templates | 6.000 |")
    other = benchmark.table(rows, "templates").splitlines()
    assert [line.split(" | ")[8] for line in other[2:]] == [
        "-1 ± 0, 0 of 2", "-1 ± 12.7, 0 of 2", "-",
    ]  # fmt: skip
