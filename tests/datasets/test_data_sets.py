"""Every data set, read by the real code from its true layout."""

import os
import random
from pathlib import Path

import layouts
import pytest
import yaml
from dassl.data.datasets import DATASET_REGISTRY

import datasets

ROOT = Path(__file__).parents[2]
PARTS = ("train_x", "val", "test")
CONFIGS = {
    "Caltech101": "caltech101",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "OxfordFlowers": "oxford_flowers",
    "Food101": "food101",
    "FGVCAircraft": "fgvc_aircraft",
    "SUN397": "sun397",
    "DescribableTextures": "dtd",
    "EuroSAT": "eurosat",
    "UCF101": "ucf101",
    "ImageNet": "imagenet",
    "ImageNetV2": "imagenetv2",
    "ImageNetSketch": "imagenet_sketch",
    "ImageNetA": "imagenet_a",
    "ImageNetR": "imagenet_r",
}


def load(name, cfg):
    return DATASET_REGISTRY.get(name)(cfg)


def triples(items, top):
    return [(os.path.relpath(i.impath, top), i.label, i.classname) for i in items or []]


@pytest.mark.parametrize("name", layouts.CLASSNAMES)
def test_names_labels_and_files_follow_the_layout(name, tmp_path, make_cfg):
    layouts.make(name, tmp_path)
    dataset = load(name, make_cfg(tmp_path))
    names = layouts.CLASSNAMES[name]
    assert dataset.classnames == names
    assert dataset.num_classes == len(names)
    for part in PARTS:
        for item in getattr(dataset, part) or []:
            assert os.path.isfile(item.impath)
            assert item.classname == names[item.label]
            assert item.domain == 0


@pytest.mark.parametrize("name", ["Caltech101", "OxfordPets", "SUN397", "UCF101"])
def test_every_image_gets_the_label_of_its_name(name, tmp_path, make_cfg):
    top = layouts.make(name, tmp_path)
    dataset = load(name, make_cfg(tmp_path))
    found = {
        (os.path.relpath(item.impath, dataset.image_dir), item.label)
        for part in PARTS
        for item in getattr(dataset, part)
    }
    assert found == set(layouts.images_of(name, top))
    assert sum(len(getattr(dataset, part)) for part in PARTS) == len(found)


def test_stanford_cars_reads_label_and_file_from_the_annotations(tmp_path, make_cfg):
    layouts.make("StanfordCars", tmp_path)
    dataset = load("StanfordCars", make_cfg(tmp_path))
    labels = [label for label in range(5) for _ in range(layouts.n_images(label))]
    random.Random("cars_test").shuffle(labels)
    assert [(Path(i.impath).parts[-2:], i.label) for i in dataset.test] == [
        (("cars_test", f"{k + 1:05d}.jpg"), label) for k, label in enumerate(labels)
    ]


def test_flowers_are_numbered_in_the_order_of_their_labels(tmp_path, make_cfg):
    layouts.make("OxfordFlowers", tmp_path)
    dataset = load("OxfordFlowers", make_cfg(tmp_path))
    labels = [label for label in range(4) for _ in range(layouts.n_images(label))]
    random.Random(3).shuffle(labels)
    found = {Path(i.impath).name: i.label for part in PARTS for i in getattr(dataset, part)}
    assert found == {f"image_{k + 1:05d}.jpg": label for k, label in enumerate(labels)}


def test_aircraft_has_the_official_lists(tmp_path, make_cfg):
    top = layouts.make("FGVCAircraft", tmp_path)
    dataset = load("FGVCAircraft", make_cfg(tmp_path))
    for part, name in zip(PARTS, ("train", "val", "test"), strict=True):
        rows = (top / f"images_variant_{name}.txt").read_text().splitlines()
        assert [f"{Path(i.impath).stem} {i.classname}" for i in getattr(dataset, part)] == rows


@pytest.mark.parametrize("name", layouts.WITH_SPLIT_FILE)
def test_split_file_is_used_as_it_is(name, tmp_path, make_cfg, capsys):
    top = layouts.make(name, tmp_path)
    parts = layouts.write_split(name, top)
    dataset = load(name, make_cfg(tmp_path))
    for part, key in zip(PARTS, parts, strict=True):
        found = triples(getattr(dataset, part), dataset.image_dir)
        assert found == [tuple(row) for row in parts[key]]
    assert "NOT the official" not in capsys.readouterr().out


def expected_choice(rows, n_shots):
    """The few-shot rule, written again: per label in order of first appearance."""
    by_label = {}
    for row in rows:
        by_label.setdefault(row[1], []).append(tuple(row))
    chosen = []
    for items in by_label.values():
        chosen += random.sample(items, n_shots) if len(items) >= n_shots else items
    return chosen


@pytest.mark.parametrize("n_shots", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ["OxfordPets", "EuroSAT", "SUN397"])
def test_few_shot_choice(name, seed, n_shots, tmp_path_factory, make_cfg, made):
    top, parts = made(name)
    random.seed(seed)
    dataset = load(name, make_cfg(top.parent, seed, NUM_SHOTS=n_shots))
    state = random.getstate()
    random.seed(seed)
    assert triples(dataset.train_x, dataset.image_dir) == expected_choice(parts["train"], n_shots)
    val = expected_choice(parts["val"], min(n_shots, 4))
    assert triples(dataset.val, dataset.image_dir) == val
    assert random.getstate() == state
    assert len(dataset.test) == len(parts["test"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function: name -> folder and split, made once."""
    known = {}

    def make(name):
        if name not in known:
            top = layouts.make(name, tmp_path_factory.mktemp(name))
            known[name] = top, layouts.write_split(name, top)
        return known[name]

    return make


@pytest.mark.parametrize("subset", ["base", "new"])
@pytest.mark.parametrize("name", ["OxfordPets", "UCF101", "ImageNet"])
def test_halves_of_the_classes(name, subset, tmp_path, make_cfg):
    layouts.make(name, tmp_path)
    everything = load(name, make_cfg(tmp_path))
    half = load(name, make_cfg(tmp_path, SUBSAMPLE_CLASSES=subset))
    names = layouts.CLASSNAMES[name]
    n_base = (len(names) + 1) // 2
    kept = names[:n_base] if subset == "base" else names[n_base:]
    assert half.classnames == kept
    for part in PARTS:
        assert triples(getattr(half, part), tmp_path) == [
            (path, kept.index(classname), classname)
            for path, _, classname in triples(getattr(everything, part), tmp_path)
            if classname in kept
        ]


def test_few_shot_choice_comes_before_the_halves(tmp_path, make_cfg):
    layouts.write_split("EuroSAT", layouts.make("EuroSAT", tmp_path))
    chosen = {}
    for subset in ("all", "base", "new"):
        random.seed(2)
        cfg = make_cfg(tmp_path, 2, NUM_SHOTS=2, SUBSAMPLE_CLASSES=subset)
        chosen[subset] = {item.impath for item in load("EuroSAT", cfg).train_x}
    assert chosen["base"] | chosen["new"] == chosen["all"]
    assert not chosen["base"] & chosen["new"]


def test_imagenet_validates_on_its_test_images_and_samples_only_training_ones(tmp_path, make_cfg):
    layouts.make("ImageNet", tmp_path)
    everything = load("ImageNet", make_cfg(tmp_path))
    random.seed(1)
    dataset = load("ImageNet", make_cfg(tmp_path, NUM_SHOTS=2))
    state = random.getstate()
    random.seed(1)
    rows = triples(everything.train_x, tmp_path)
    assert triples(dataset.train_x, tmp_path) == expected_choice(rows, 2)
    assert random.getstate() == state
    assert dataset.val == dataset.test
    assert triples(dataset.test, tmp_path) == triples(everything.test, tmp_path)
    assert len(dataset.test) == 12


@pytest.mark.parametrize("name", ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"])
def test_imagenet_test_sets_ignore_shots_and_halves(name, tmp_path, make_cfg, capsys):
    layouts.make(name, tmp_path)
    dataset = load(name, make_cfg(tmp_path, NUM_SHOTS=1, SUBSAMPLE_CLASSES="new"))
    assert dataset.classnames == layouts.CLASSNAMES[name]
    assert triples(dataset.train_x, tmp_path) == triples(dataset.test, tmp_path)
    assert len(dataset.test) == 3 * len(dataset.classnames)
    assert not dataset.val
    assert f"{name} is for testing only" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "config"), CONFIGS.items())
def test_config_file_has_one_key(name, config):
    text = (ROOT / "configs" / "datasets" / f"{config}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"DATASET": {"NAME": name}}
    assert DATASET_REGISTRY.get(name).__module__ == f"datasets.{config}"


def test_all_fifteen_are_listed_once():
    assert sorted(kind.__name__ for kind in datasets.COOP_DATASETS) == sorted(CONFIGS)


def test_published_class_counts_and_halves():
    """Classes and base/new halves as published by CoCoOp."""
    halves = {
        kind.__name__: ((kind.n_classes + 1) // 2, kind.n_classes // 2)
        for kind in datasets.COOP_DATASETS[:11]
    }
    assert halves == {
        "Caltech101": (50, 50), "OxfordPets": (19, 18), "StanfordCars": (98, 98),
        "OxfordFlowers": (51, 51), "Food101": (51, 50), "FGVCAircraft": (50, 50),
        "SUN397": (199, 198), "DescribableTextures": (24, 23), "EuroSAT": (5, 5),
        "UCF101": (51, 50), "ImageNet": (500, 500),
    }  # fmt: skip


def test_every_source_is_in_the_guide():
    guide = (ROOT / "DATASETS.md").read_text(encoding="utf-8")
    for kind in datasets.COOP_DATASETS:
        assert f"{kind.dataset_dir}/" in guide
        for name, source in kind.sources.items():
            assert name in guide and source in guide, (kind, name)
