"""Items, their lists, and the few-shot choice."""

import pickle
import random

import pytest
from dassl.data.datasets import DatasetBase, Datum

from varprompt.errors import DataError

NAMES = {0: "ant", 1: "bee", 4: "cat"}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "some.png"
    path.touch()
    return str(path)


def items(image, labels):
    """Items that can be told apart by their domain."""
    return [Datum(image, label, n, NAMES[label]) for n, label in enumerate(labels)]


def test_datum_is_read_only_and_pickles_without_its_file(image, tmp_path):
    gone = tmp_path / "gone.png"
    gone.touch()
    datum = Datum(str(gone), 4, 2, "cat")
    assert type(datum).__module__ == "dassl.data.datasets.base_dataset"
    assert vars(datum) == {
        "_impath": str(gone), "_label": 4, "_domain": 2, "_classname": "cat"
    }  # fmt: skip
    with pytest.raises(AttributeError):
        datum.label = 3
    stored = pickle.dumps(datum)
    gone.unlink()
    assert vars(pickle.loads(stored)) == vars(datum)
    assert (Datum(image).label, Datum(image).domain, Datum(image).classname) == (0, 0, "")


@pytest.mark.filterwarnings("ignore:No file found")
def test_missing_image_is_named(tmp_path, stand_in):
    with pytest.raises((DataError, AssertionError)) as caught:
        Datum(str(tmp_path / "no.jpg"), 1, 0, "bee")
    if stand_in:
        assert "no.jpg" in str(caught.value) and "'bee'" in str(caught.value)
        assert "DATASET.ROOT" in str(caught.value)


def test_dataset_knows_its_classes(image):
    train = items(image, [4, 0, 4, 1])
    test = items(image, [0])
    dataset = DatasetBase(train_x=train, test=test)
    assert (dataset.train_x, dataset.test) == (train, test)
    assert dataset.val is None
    assert dataset.num_classes == 5
    assert dataset.lab2cname == NAMES
    assert dataset.classnames == ["ant", "bee", "cat"]


def test_groups_keep_first_appearance(image):
    dataset = DatasetBase(train_x=items(image, [0]))
    groups = dataset.split_dataset_by_label(items(image, [4, 0, 4, 1]))
    assert {k: [d.domain for d in v] for k, v in groups.items()} == {4: [0, 2], 0: [1], 1: [3]}
    assert list(groups) == [4, 0, 1]


def test_label_with_two_names_is_refused(image, repaired):
    with pytest.raises(DataError, match="label 1.*'bee'.*'wasp'"):
        DatasetBase(train_x=[Datum(image, 1, 0, "bee"), Datum(image, 1, 0, "wasp")])
    with pytest.raises(DataError, match="no training images"):
        DatasetBase(train_x=[])


@pytest.mark.parametrize("seed, shots", [(1, 1), (2, 2), (0, 8), (3, 3)])
def test_fewshot_choice(image, seed, shots, capsys):
    """Per label in order of first appearance, from Python's generator; train first, then val."""
    mixed = random.Random(9)
    train = items(image, [4] * 7 + mixed.choices([0, 1, 4], k=23) + [1, 0])
    val = items(image, [1, 1, 4, 0, 0, 0, 0, 0, 4])
    dataset = DatasetBase(train_x=train)

    random.seed(seed)
    chosen = dataset.generate_fewshot_dataset(train, num_shots=shots)
    chosen_val = dataset.generate_fewshot_dataset(val, num_shots=min(shots, 4))

    generator, expected = random.Random(seed), []
    for source, count in ((train, shots), (val, min(shots, 4))):
        part = []
        for label in dict.fromkeys(d.label for d in source):
            pool = [d for d in source if d.label == label]
            part += generator.sample(pool, count) if len(pool) >= count else pool
        expected.append(part)
    assert [chosen, chosen_val] == expected
    assert random.random() == generator.random()  # nothing else was drawn
    said = [f"Creating a {n}-shot dataset" for n in (shots, min(shots, 4))]
    assert capsys.readouterr().out.splitlines() == said


def test_fewshot_several_lists(image):
    first, second = items(image, [0, 0, 1]), items(image, [1, 4, 4, 4])
    dataset = DatasetBase(train_x=first)
    parts = dataset.generate_fewshot_dataset(first, second, num_shots=2)
    assert [[d.label for d in part] for part in parts] == [[0, 0, 1], [1, 4, 4]]
    assert dataset.generate_fewshot_dataset(first, num_shots=0) is first
    assert list(dataset.generate_fewshot_dataset(first, second)) == [first, second]
