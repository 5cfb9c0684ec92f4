"""Whether a folder holds this very run, another one or none: with nothing but files."""

import json

import pytest

from varprompt.errors import ConfigError, DataError
from varprompt.run.identity import TEST, TRAIN, Identity, Images, compare
from varprompt.run.run import Run

NAMES = ("cat", "dog")


def images(*contents, labels=None, names=None):
    labels = labels or [0] * len(contents)
    return Images(labels, contents, names or [f"{i}.png" for i in range(len(contents))])


def identity(mode=TRAIN, class_names=NAMES, train=("a", "b"), test=("c",), **files):
    lists = {"train_images": images(*train)} if mode == TRAIN else {}
    if test:
        lists["test_images"] = images(*test)
    files = {"weights_file": "", "init_weights": "", **files}
    if mode == TEST:
        files.setdefault("checkpoint", "x")
    return Identity(mode, class_names, lists, files)


def difference(before, now):
    return [] if before == now else [f"KEY: {before} -> {now}"]


@pytest.fixture
def make(tmp_path):
    """Return a function: config -> run in one folder; what it says is in its `notes`."""

    def make(config="c"):
        notes = []
        run = Run(tmp_path, config, difference, notes.append)
        run.notes = notes
        return run

    return make


def finish(run, known, accuracy=50.0):
    run.write_results({"accuracy": accuracy, "config": run.config}, known)
    run.keep_inventory(known)


def test_nothing_is_finished_without_results(make):
    assert not make().is_finished(1, pytest.fail)


def test_a_folder_in_the_place_of_results_is_said_before_the_work(make, tmp_path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(ConfigError, match=r"results\.json is a folder"):
        make().is_finished(1, pytest.fail)


@pytest.mark.parametrize("mode", [TRAIN, TEST])
def test_this_very_run(make, mode, tmp_path):
    finish(make(), identity(mode))
    model = tmp_path / "prompt_learner/model.pth.tar-50"
    model.parent.mkdir()
    model.touch()
    run = make()
    assert run.is_finished(1, lambda seed: identity(mode))
    assert len(run.notes) == 1 and run.notes[0].startswith("Already done: accuracy 50.00 % (")
    model.unlink()  # to save space; what a test needs is a model of its own
    assert run.is_finished(1, lambda seed: identity(mode))
    assert any("model is not in" in note for note in run.notes[1:]) == (mode == TRAIN)


OTHERS = {
    "training image": (TRAIN, {"train": ("a", "B")}, "1.png has another content"),
    "order": (TRAIN, {"train": ("b", "a")}, "0.png has another content; 1.png has another"),
    "another image": (TRAIN, {"train": ("a",)}, "2 -> 1 images"),
    "class names": (TRAIN, {"class_names": ("dog", "cat")}, "label 0: 'cat' -> 'dog'"),
    "more classes": (TEST, {"class_names": ("cat", "dog", "owl")}, "2 -> 3 classes"),
    "weights": (TEST, {"weights_file": "w"}, "the weights in MODEL.BACKBONE.PATH differ"),
    "start values": (TRAIN, {"init_weights": "w"}, "the start values in MODEL.INIT_WEIGHTS differ"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_and_says_what(make, name):
    mode, change, message = OTHERS[name]
    finish(make(), identity(mode))
    with pytest.raises(ConfigError, match="holds the results of another run") as caught:
        make().is_finished(1, lambda seed: identity(mode, **change))
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", [TRAIN, TEST])
def test_other_test_images_are_tested(make, mode):
    finish(make(), identity(mode))
    run = make()
    assert not run.is_finished(1, lambda seed: identity(mode, test=("d",)))
    (note,) = run.notes
    assert note.startswith("The test images have changed since ") and "another content" in note


def test_another_model_is_tested(make):
    finish(make(), identity(TEST))
    assert not make().is_finished(1, lambda seed: identity(TEST, checkpoint="y"))


def test_another_configuration_is_refused_before_anything_is_read(make):
    finish(make(), identity())
    with pytest.raises(ConfigError, match=r"another configuration .KEY: c -> d."):
        make("d").is_finished(1, pytest.fail)


def test_a_place_is_no_difference(make, tmp_path):
    """If what is there is known."""
    finish(make(), identity())
    run = Run(tmp_path, "c", lambda *_: ["DATASET.PATH: a -> b"], print)
    assert run.is_finished(1, lambda seed: identity())
    found = json.loads((tmp_path / "results.json").read_text())
    del found["identity"]
    (tmp_path / "results.json").write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="DATASET.PATH: a -> b"):
        run.is_finished(1, lambda seed: identity())


def test_a_drawn_seed_is_not_drawn_to_look(make, tmp_path):
    finish(make(), identity())
    assert not make().is_finished(-1, pytest.fail)
    assert not (tmp_path / ".seed").exists()
    seed = make().seed(-1)
    seen = []
    assert make().is_finished(-1, lambda seed: seen.append(seed) or identity())
    assert seen == [seed] == [make().seed(-1)] and make().seed(5) == 5


def state(run, known):
    return {
        "config": run.config, "classnames": list(known.class_names), "identity": known.record(),
    }  # fmt: skip


def test_states(make, tmp_path):
    file = tmp_path / "prompt_learner/resume.pth.tar"
    known = identity(test=())
    run = make()
    run.keep_inventory(known)
    saved = state(run, known)
    run.check_state(saved, file, known)
    assert not run.notes
    for mode, change, message in OTHERS.values():
        if mode == TRAIN:
            with pytest.raises(DataError, match="not those of the unfinished run") as caught:
                run.check_state(saved, file, identity(test=(), **change))
            assert message.removesuffix(" differ") in str(caught.value)
    with pytest.raises(ConfigError, match="unfinished run with another configuration"):
        make("d").check_state(saved, file, known)
    del saved["identity"]  # of version 0.1.0
    saved["images"] = known.images["train_images"].names_digest
    run.check_state(saved, file, known)
    assert "content of images is not compared" in run.notes[0]
    with pytest.raises(DataError, match="training images are not those of the unfinished run"):
        run.check_state(saved | {"images": "0"}, file, known)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"train_images": 5}', '{"class_names": [1]}',
                                     '{"train_images": [[1], [2]]}'])  # fmt: skip
def test_an_inventory_that_is_none_only_costs_details(make, tmp_path, content):
    finish(make(), identity())
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(ConfigError, match="the training images differ"):
        make().is_finished(1, lambda seed: identity(train=("a", "B")))


def test_comparison():
    now = identity().record()
    assert compare(now, now).changed == compare(now, now).unknown == ()
    assert compare({}, now).unknown == ("class_names", "train_images", "test_images")
    assert compare({"train_images": 5}, now).changed == ()


def test_labels_and_order_are_content():
    digests = {
        images("a", "b").digest, images("b", "a").digest, images("a", "b", labels=[0, 1]).digest,
    }  # fmt: skip
    assert len(digests) == 3
    assert images("a", "b", names=["x", "y"]).digest == images("a", "b").digest


def test_log_and_head(make, capsys, tmp_path):
    run = Run(tmp_path, "KEY: value\n", difference, print)
    for _ in range(2):
        with run.lock(), run.log():
            run.print_head({"trainer": "VPT", "head": None}, 3, "built-in")
    text = (tmp_path / "log.txt").read_text()
    assert text == capsys.readouterr().out
    assert text.count("*** Started again; the log goes on ***") == 1
    assert "trainer: VPT\n" in text and "head: \n" in text and "Setting fixed seed: 3" in text
    assert "** Config **\n************\nKEY: value\nVersions: python 3" in text
