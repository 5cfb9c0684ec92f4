"""PromptClassifier: scikit-learn's habits, and the same probabilities wherever it is loaded."""

import functools
import json
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from varprompt import load_classifier
from varprompt.classifier import PromptClassifier
from varprompt.classifier.given import hold_out, names_of
from varprompt.classifier.recipe import NOISE, PRIOR, TEMPLATES
from varprompt.errors import CheckpointError, ConfigError, DataError
from varprompt.objective import predictive_log_prob
from varprompt.towers.load import load_clip
from varprompt.towers.templates import token_rms
from varprompt.towers.tokens import embed_words

WORDS = ["small ring", "king_of_hearts", "sun"]


def pictures(n, seed=0):
    """Images (n, 3, 32, 32) in [0, 1], patches of colour, and the words of the strongest one."""
    cells = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    images = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return images, [WORDS[int(i)] for i in images.mean((2, 3)).argmax(1)]


def new(**parameters):
    return PromptClassifier("embedded", **{"epochs": 3, "device": "cpu", **parameters})


@functools.cache
def fitted(**parameters):
    """Not to be changed by a test."""
    return new(holdout=0.5, **parameters).fit(*pictures(90))


@pytest.mark.parametrize(
    ("given", "learned"),
    [
        ({}, {"templates": TEMPLATES, "posterior": "mixture", "class_words": 0.2}),
        ({"class_words": 0.0}, {"templates": TEMPLATES, "class_words": 0.0}),
        (
            {"templates": ["my {}.", "a {}."]},
            {"templates": ("my {}.", "a {}."), "class_words": 0.2},
        ),
        ({"context": "my"}, {"ctx_init": "my", "posterior": "gaussian", "class_words": 0.0}),
        ({"posterior": "delta"}, {"ctx_init": "a photo of a", "templates": (), "class_words": 0.0}),
        ({"posterior": "gaussian", "class_words": 0.1}, {"templates": (), "class_words": 0.1}),
    ],
)
def test_what_is_learned_around_which_words(given, learned):
    config = new(epochs=1, **given).fit(*pictures(9)).learned_.model.config
    assert {name: getattr(config, name) for name in learned} == learned


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"context": "my", "templates": TEMPLATES}, "context is 'my' and templates are .*: give"),
        ({"context": "my", "posterior": "mixture"}, "context is 'my', but .* give templates"),
        ({"templates": TEMPLATES, "posterior": "delta"}, "only posterior 'mixture' takes: give"),
        ({"templates": []}, "two or more"),
        ({"templates": "a {}."}, "templates is 'a {}.'; give a list"),
        ({"templates": set(TEMPLATES)}, "templates is {.*; give a list"),
        ({"templates": (text for text in TEMPLATES)}, "templates is <gen.*; give a list"),
        ({"templates": ["a {}.", None, "my"]}, "has None; a template has one(.|\n)*has 'my'"),
        ({"templates": np.array([["a {}.", "my {}."]])}, "a template has one"),
        ({"templates": 5}, "templates is 5; give a list"),
        ({"context": 5}, "context is 5; give words"),
        ({"context": "my {}."}, "^context 'my {}.' has a {}, .* behind these words by itself"),
        ({"context": "my|a"}, "^context 'my.a' has templates separated"),
        ({"context": "", "class_words": 0.2}, "give context$"),
        ({"class_words": 2}, "class_words is 2"),
        ({"posterior": ""}, "^posterior is ''; choose from gaussian, fixed, delta, .*mixture$"),
        ({"posterior": "meta_net"}, "^posterior is 'meta_net'; choose from [^\n]*$"),
        ({"posterior": "gauss"}, "did you mean 'gaussian'"),
    ],
)
def test_words_of_one_prompt_or_of_several(given, said):
    with pytest.raises(ConfigError, match=said):
        new(**given).fit(*pictures(9))


def test_templates_may_be_an_array(tmp_path):
    given = ["my {}.", "a {}."]
    one, other = (
        new(epochs=1, templates=own).fit(*pictures(9)) for own in (given, np.array(given))
    )
    other.save(tmp_path)
    loaded = PromptClassifier.load(tmp_path, device="cpu")
    for clf in (other, loaded, loaded.fit(*pictures(9))):
        np.testing.assert_array_equal(*(c.predict_proba(pictures(3)[0]) for c in (one, clf)))


def test_prompts_are_a_file_or_a_mapping():
    with pytest.raises(DataError, match=r"prompts are \['a photo of {}'\]; give a file, or a map"):
        new(prompts=["a photo of {}"]).fit(*pictures(9))


@pytest.mark.parametrize("posterior", [None, "gaussian"])
def test_it_learns_what_it_is_shown(posterior):
    images, labels = pictures(60)

    def nll(**parameters):
        clf = new(holdout=0, posterior=posterior, **parameters).fit(images, labels)
        prob = clf.predict_proba(images)
        index = [clf.class_names_.index(name) for name in labels]
        return -np.log(prob[range(60), index]).mean()

    assert nll(epochs=40) < 0.5 * nll(epochs=1, learning_rate=0.0)


@pytest.mark.parametrize(("posterior", "n_samples"), [(None, 6), ("gaussian", 16)])
def test_probabilities_are_the_mean_over_samples_at_the_temperature(posterior, n_samples):
    clf, (images, _) = fitted(posterior=posterior), pictures(5, seed=1)
    samples = clf.learned_.samples(clf.encode(images)).double()
    assert samples.shape == (n_samples, 5, 3) and clf.temperature_ != 1
    wanted = predictive_log_prob(samples / clf.temperature_).exp().numpy()
    np.testing.assert_allclose(clf.predict_proba(images), wanted, rtol=1e-12)
    assert list(clf.predict(images)) == [clf.classes_[i] for i in wanted.argmax(1)]
    total, aleatoric, epistemic = clf.uncertainty(images)
    np.testing.assert_allclose(total, -(wanted * np.log(wanted)).sum(1), rtol=1e-9)
    np.testing.assert_allclose(total, aleatoric + epistemic)
    assert (epistemic > 0).all()


def test_labels_may_be_numbers_with_names():
    images, labels = pictures(30)
    numbers = [10 + WORDS.index(label) for label in labels]
    clf = new().fit(images, numbers, class_names=WORDS)
    assert clf.classes_.tolist() == [10, 11, 12] and clf.class_names_ == WORDS
    assert set(clf.predict(images)) <= {10, 11, 12}
    names = {12: "sun", 10: "small ring", 11: "king_of_hearts"}
    assert names_of(np.array([10, 11, 12]), names) == WORDS
    assert names_of(np.array([3, 5]), None) == ["3", "5"]
    for bad in (WORDS[:2], {10: "a", 11: "b"}, [1, 2, 3]):
        with pytest.raises(DataError, match="give a name for each"):
            names_of(np.array([10, 11, 12]), bad)


def test_the_same_seed_learns_the_same():
    one, two = new().fit(*pictures(30)), new().fit(*pictures(30))
    other = new(seed=1).fit(*pictures(30))
    for name, value in one.learned_.tensors().items():
        assert torch.equal(value, two.learned_.tensors()[name])
    assert not np.array_equal(
        one.predict_proba(pictures(3)[0]), other.predict_proba(pictures(3)[0])
    )


def test_the_scale_is_that_of_the_towers_own_tokens():
    """A CLIP whose embeddings are all three times as large gets three times the noise."""
    clip, texts = load_clip("embedded"), ["a photo of a ring", "x"]
    rows = torch.cat([embed_words(clip, text) for text in texts]).double()
    rms = token_rms(clip, texts)
    assert rms == pytest.approx(rows.square().mean().sqrt().item(), rel=1e-6)
    with torch.no_grad():
        clip.token_embedding.weight.mul_(3)
    assert token_rms(clip, texts) == pytest.approx(3 * rms, rel=1e-6)
    around = [text.replace("{}", "") for text in TEMPLATES]
    for words, posterior in ((around, None), (["a photo of a"], "gaussian")):
        config = fitted(posterior=posterior).learned_.model.config
        rms = token_rms(load_clip("embedded"), [f"{w} {n}" for w in words for n in sorted(WORDS)])
        assert config.prior_std == pytest.approx(PRIOR * rms)
        assert np.exp(config.logvar_init / 2) == pytest.approx(NOISE * rms)


def test_a_collapse_is_said(capsys):
    new().fit(*pictures(9))
    assert "collapsed" not in capsys.readouterr().err
    new(learning_rate=1e5).fit(*pictures(9))
    assert re.match(r"the texts of .* has collapsed; give a smaller", capsys.readouterr().err)


def test_too_few_held_out_images_are_said(capsys):
    for n, holdout, said in ((30, 0.2, True), (30, 0.0, False), (60, 0.5, False)):
        new(holdout=holdout, epochs=1).fit(*pictures(n))
        assert ("held-out images are too few to calibrate" in capsys.readouterr().err) is said


def test_held_out_images_are_a_share_of_each_class():
    targets = torch.tensor([0] * 10 + [1] * 5 + [2])
    held = hold_out(targets, 0.2, seed=3)
    assert targets[held].bincount(minlength=3).tolist() == [2, 1, 0]
    assert not hold_out(targets, 0.0, seed=3).any()
    assert not torch.equal(held, hold_out(targets, 0.2, seed=4))
    assert fitted().learned_.counts["held_out"] == len(fitted().learned_.held_out.correct)


def test_given_validation_images_are_held_out():
    images, labels = pictures(30, seed=5)
    clf = new().fit(*pictures(30), validation=(images, labels))
    held = clf.learned_.held_out
    prob = clf.predict_proba(images)
    assert torch.equal(held.confidence, torch.from_numpy(prob.max(1)))
    assert torch.equal(held.correct, torch.from_numpy(clf.predict(images) == np.array(labels)))
    with pytest.raises(DataError, match=r"without training images: \['moon'\]"):
        new().fit(*pictures(30), validation=(images[:1], ["moon"]))


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(tmp_path):
    clf, (images, _) = fitted(), pictures(7, seed=2)
    clf.save(tmp_path / "mine")
    for again in (PromptClassifier.load(tmp_path / "mine", device="cpu"),
                  load_classifier(tmp_path / "mine", device="cpu")):  # fmt: skip
        assert np.array_equal(again.predict_proba(images), clf.predict_proba(images))
        assert again.get_params() == clf.get_params()
        assert again.classes_.tolist() == clf.classes_.tolist()
        assert torch.equal(again.learned_.held_out.confidence, clf.learned_.held_out.confidence)
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert len(names) == 2 and names[0] == "classifier.json" and names[1].endswith(".safetensors")
    content = json.loads((tmp_path / "mine" / "classifier.json").read_text())
    assert content["clip"]["weights_sha256"] == clf.learned_.clip.weights_sha256
    assert content["class_names"] == sorted(WORDS) and content["versions"]["torch"]
    again.save(tmp_path / "mine")  # over itself
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == names


def test_another_clip_is_refused(tmp_path):
    fitted().save(tmp_path)
    path = tmp_path / "classifier.json"
    ours = fitted().learned_.clip.weights_sha256
    path.write_text(path.read_text().replace(ours, "0" * 64))
    with pytest.raises(CheckpointError, match="was learned in front of"):
        load_classifier(tmp_path)


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist: give the folder of a saved"):
        load_classifier(tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no model"):
        load_classifier(tmp_path)
    fitted().save(tmp_path)
    weights = next(tmp_path.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_classifier(tmp_path)
    weights.unlink()
    whole = (tmp_path / "classifier.json").read_text()
    with pytest.raises(CheckpointError, match="copy the whole folder"):
        load_classifier(tmp_path)
    for text in (
        "",
        "{}",
        "[]",
        whole.replace('"class_names"', '"names"'),
        '{"format": 99, "tensors": {"file": "x", "sha256": ""}}',
    ):
        fitted().save(tmp_path)
        (tmp_path / "classifier.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"damaged|reads 1|of this version"):
            load_classifier(tmp_path)


def test_names_never_seen():
    clf, (images, _) = fitted(), pictures(4)
    other = clf.with_classes(["sun", "a dog", "moon", "small ring"])
    prob = other.predict_proba(images)
    assert prob.shape == (4, 4) and other.learned_.held_out is None
    both = prob[:, [3, 0]] / prob[:, [3, 0]].sum(1, keepdims=True)
    assert clf.classes_.tolist()[1:] == ["small ring", "sun"]
    two = clf.with_classes(["small ring", "sun"]).learned_.samples(clf.encode(images))
    same = other.learned_.samples(clf.encode(images))[..., [3, 0]].log_softmax(-1)
    torch.testing.assert_close(two, same)
    assert both.shape == (4, 2) and clf.predict_proba(images).shape == (4, 3)
    with pytest.raises(ConfigError, match="stand for several classes"):
        clf.with_classes(["sun", "Sun"])


def test_folders(tmp_path):
    images, labels = pictures(24)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "flat" / label).mkdir(parents=True, exist_ok=True)
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "flat" / label / f"{i:02}.png")
    clf = new().fit(tmp_path / "flat")
    assert clf.class_names_ == sorted(WORDS)
    assert sum(clf.learned_.counts["learned_from"].values()) + clf.learned_.counts["held_out"] == 24
    (tmp_path / "whole").mkdir()
    (tmp_path / "flat").rename(tmp_path / "whole" / "train")
    divided = new().fit(tmp_path / "whole", validation=tmp_path / "whole" / "train")
    assert divided.learned_.counts["held_out"] == 24
    (tmp_path / "whole" / "train").rename(tmp_path / "whole" / "test")
    with pytest.raises(DataError, match="has no train/"):
        new().fit(tmp_path / "whole")
    with pytest.raises(DataError, match="is no folder"):
        new().fit(tmp_path / "none")


def test_synonyms_are_saved_with_it(tmp_path):
    prompts = {"templates": ["{}", "{}, drawn"], "classes": {"sun": ["sun", "star"]}}
    clf, (images, _) = new(prompts=prompts).fit(*pictures(30)), pictures(4)
    clf.save(tmp_path)
    again = load_classifier(tmp_path, device="cpu")
    assert again.learned_.texts == clf.learned_.texts is not None
    assert np.array_equal(again.predict_proba(images), clf.predict_proba(images))
    other = again.with_classes(["sun", "moon"])
    assert other.learned_.model.classes.n_texts == [4, 2]


def test_all_wrong_parameters_are_named():
    with pytest.raises(ConfigError) as caught:
        new(holdout=1.0, seed=-1, epochs=0, batch_size=2.5).fit(*pictures(9))
    assert all(name in str(caught.value) for name in ("holdout", "seed", "epochs", "batch_size"))
    with pytest.raises(ConfigError, match="device is 'gpu'; choose from auto"):
        new(device="gpu").fit(*pictures(9))
    with pytest.raises(DataError, match="one class"):
        new().fit(pictures(3)[0], ["sun"] * 3)
    with pytest.raises(DataError, match="give one label for each image"):
        new().fit(pictures(3)[0], ["sun"])
    with pytest.raises(DataError, match="without labels"):
        new().fit(pictures(3)[0])


def test_more_workers_than_processors_are_no_more_than_these():
    """torch would warn of it in two lines of its own."""
    learned, (images, _) = fitted().learned_, pictures(3)
    assert torch.equal(learned.encode(images, n_workers=999), learned.encode(images))


@pytest.mark.parametrize("n_workers", [-1, "2", 1.5])
def test_what_is_no_number_of_workers(n_workers):
    clf = new().adopt(lambda clip: fitted().learned_).set_params(n_workers=n_workers)
    with pytest.raises(ConfigError, match=f"n_workers is {n_workers!r}; "):
        clf.predict(pictures(3)[0])


def test_a_parameter_that_there_is_not_is_no_damage(tmp_path):
    fitted().save(tmp_path)
    with pytest.raises(ConfigError, match="a parameter is 'contxt'; .*did you mean 'context'"):
        PromptClassifier.load(tmp_path, contxt="my")


def test_scikit_learns_habits():
    """Those of its checks that do not give numbers in place of images, and their like for images.

    The others of check_estimator fit tables (N, features) of random numbers, which are no images;
    check_fit_score_takes_y wants the second argument to be called y.
    """
    plain = new()
    for check in (
        "check_estimator_cloneable",
        "check_estimator_repr", "check_get_params_invariance", "check_mixin_order",
        "check_no_attributes_set_in_init", "check_parameters_default_constructible",
        "check_set_params", "check_valid_tag_types",
    ):  # fmt: skip
        getattr(estimator_checks, check)("PromptClassifier", plain)
    with pytest.raises(NotFittedError):
        plain.predict(pictures(2)[0])
    copy = clone(fitted())
    assert not hasattr(copy, "classes_") and copy.get_params() == fitted().get_params()
    assert plain.fit(*pictures(9)) is plain and plain.get_params() == new().get_params()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["sun", None, "moon"], r"hold \[None\]"), ([0, 1.5, float("nan")], r"hold \[nan\]"),
        (["sun", 1, 2], "hold words and numbers"), (np.array(["sun", 1, 2], object), "words and"),
        ([b"sun", b"moon", b"sun"], "give words"), ([1j, 0, 1], "finite numbers"),
        (np.array(["2020-01-01", "2021-01-01", "2020-01-01"], "datetime64[D]"), "give words"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_sorted_or_written(labels, said):
    with pytest.raises(DataError, match=f"labels of images .*{said}"):
        new().fit(pictures(3)[0], labels)


@pytest.mark.parametrize(
    "validation", [pictures(2)[0], (pictures(2)[0],), (*pictures(2), None), True]
)
def test_validation_is_a_pair_or_a_folder(validation):
    with pytest.raises(DataError, match="give a folder, or \\(images, labels\\)"):
        new().fit(*pictures(9), validation=validation)


def test_parameters_of_other_kinds(tmp_path):
    """Numbers of NumPy's and paths are what they say; a classifier with them can be saved."""
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("templates: ['{}']")
    given = {"seed": np.int64(3), "epochs": np.int32(2), "learning_rate": np.float32(14)}
    clf = new(**given, prompts=prompts, device=torch.device("cpu")).fit(*pictures(12))
    clf.save(tmp_path / "saved")
    again = PromptClassifier.load(tmp_path / "saved", device="cpu")
    images, _ = pictures(5, seed=1)
    assert np.array_equal(again.predict_proba(images), clf.predict_proba(images))
    with pytest.raises(ConfigError) as caught:
        new(balanced="yes").set_params(backbone=None, backbone_path=5).fit(*pictures(9))
    assert all(
        f"{name} is" in str(caught.value) for name in ("balanced", "backbone", "backbone_path")
    )
    with pytest.raises(DataError, match="class_names are 'ab'"):
        new().fit(pictures(4)[0], [0, 1, 0, 1], class_names="ab")  # letters are no names
    with pytest.raises(ConfigError, match="^templates is 'a {}.'; give a list"):
        new(posterior="mixture", templates="a {}.").fit(*pictures(9))
    with pytest.raises(DataError, match="the folder of images is ''"):
        new().fit("")


def test_of_no_image_nothing_is_said():
    clf, nothing = fitted(), pictures(2)[0][:0]
    for images in ([], nothing):
        assert clf.predict_proba(images).shape == (0, 3) and clf.predict(images).shape == (0,)
        assert all(term.shape == (0,) for term in clf.uncertainty(images))


def test_it_is_pickled_whatever_it_was_used_for():
    images, _ = pictures(4, seed=1)
    wanted = fitted().predict_proba(images)
    again = pickle.loads(pickle.dumps(fitted()))
    assert np.array_equal(again.predict_proba(images), wanted)
    transformer = new().set_params(backbone="embedded_vit", epochs=1).fit(*pictures(9))
    wanted = transformer.predict_proba(images)
    again = pickle.loads(pickle.dumps(transformer))
    assert np.array_equal(again.predict_proba(images), wanted)


def test_it_learns_where_gradients_are_off_and_leaves_generators_alone():
    images, labels = pictures(12)
    wanted = new().fit(images, labels).predict_proba(images)
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert np.array_equal(new().fit(images, labels).predict_proba(images), wanted)
    assert torch.rand(1) == first


def test_names_that_are_no_text_and_folders_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    other = fitted().with_classes(["sun", "\udcff"])
    other.save("~/pets")
    assert PromptClassifier.load("~/pets", device="cpu").class_names_ == other.class_names_
    assert (tmp_path / "pets").is_dir()
    with pytest.raises(CheckpointError, match="~nobody-of-this-name/x does not exist"):
        load_classifier("~nobody-of-this-name/x")
