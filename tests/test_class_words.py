"""Contexts that begin at the words of their class: against a loop over classes, one at a time."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classifiers import classifier, pictures
from helpers import NAMES, error, images, prompted, small_clip

from varprompt import PromptClassifier
from varprompt.class_words import mean_templates, mean_words
from varprompt.config import PromptConfig
from varprompt.export.graph import texts_of
from varprompt.interpret.command import findings
from varprompt.interpret.report import to_json, to_text
from varprompt.learner_state import load_learner
from varprompt.model import PromptedCLIP
from varprompt.prompt_texts import PromptTexts
from varprompt.towers.templates import embed_template
from varprompt.towers.text import FrozenTextEncoder
from varprompt.towers.tokens import class_tokens, embed_words

TOLERANCE = 1e-5  # of float32, relative to the largest value
AMPLE = 1 << 40
BASE = PromptConfig(
    posterior="gaussian", logvar_init=-4.0, n_samples=2, kl_weight=0.3, class_words=0.3,
    mem_budget=AMPLE,
)  # fmt: skip
EQUAL = ("a photo of a {}.", "a picture of the {}.", "an image of a {}.")
UNLIKE = ("a photo of a {}.", "a {} in the art.", "{}.")
MIXTURE = dataclasses.replace(
    BASE, posterior="mixture", residual="per_token", templates=EQUAL, learn_context=False,
    n_samples=6,
)  # fmt: skip
CONFIGS = {
    "mixture": MIXTURE,
    "points": dataclasses.replace(MIXTURE, component="delta"),
    "unlike": dataclasses.replace(MIXTURE, templates=UNLIKE),
    "unlike points of the image": dataclasses.replace(
        MIXTURE, templates=UNLIKE, conditional=True, component="delta"
    ),
    "gaussian": BASE,
    "of the image": dataclasses.replace(BASE, conditional=True, residual="per_token"),
    "all the way": dataclasses.replace(BASE, class_words=1.0),
    "CoOp": PromptConfig(class_words=0.2),
    "CoOp, name in the middle": PromptConfig(class_words=0.2, position="middle"),
    "CoOp, name in front": PromptConfig(class_words=0.2, position="front"),
    "CoCoOp": PromptConfig(class_words=0.2, posterior="meta_net", conditional=True),
    "fixed words": PromptConfig(class_words=0.2, n_ctx=2, keep_words=True),
}


def one_at_a_time(model, contexts, names=NAMES):
    """Text features `(L, K, C, E)`: of each class alone, its contexts in front of its name."""
    config, clip = model.config, model.towers.clip
    starts = config.templates or (f"{config.ctx_init} {{}}.",)
    encoder, found = FrozenTextEncoder(clip, AMPLE), []
    for name in names:
        words = embed_words(clip, name.replace("_", " ")).mean(0)
        parts = []
        for start, part in zip(starts, contexts.chunk(len(starts)), strict=True):
            template = embed_template(clip, start)
            before, n_tokens = template.shape
            away = words - template.embeddings.mean(0) if n_tokens else 0
            own = part[..., :n_tokens, :] + config.class_words * away
            place = {"n_before": before} if config.templates else {"position": config.position}
            text = encoder(own.flatten(0, 1), class_tokens(clip, [name], n_tokens, **place))
            parts.append(text.unflatten(0, part.shape[:2]))  # (l, K, 1, E)
        found.append(torch.cat(parts))
    return torch.cat(found, 2)


def noise_for(model, n_images):
    """Noise `(L, K, ...)`, or None."""
    learner, config = model.prompt_learner, model.config
    if learner.posterior is None:
        return None
    shape = learner.posterior.noise_shape(config.n_samples, n_images if learner.conditional else 1)
    generator = torch.Generator().manual_seed(3)
    return None if shape is None else learner.posterior.draw_noise(shape, "cpu", generator)


@pytest.mark.parametrize("budget", [AMPLE, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_value_and_gradient_are_those_of_each_class_alone(name, budget):
    config = dataclasses.replace(CONFIGS[name], mem_budget=budget)
    model = prompted(config)
    features, eps = model.encode_image(images(2)), noise_for(model, 2)
    got = model.outputs(features, eps=eps).text
    contexts = model.prompt_learner(config.n_samples, features, eps=eps).contexts
    want = one_at_a_time(model, contexts)
    assert got.shape == want.shape and error(got, want) < TOLERANCE
    parameters = list(model.prompt_learner.parameters())
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(4))
    pairs = (
        torch.autograd.grad((text * weights).sum(), parameters, allow_unused=True)
        for text in (got, want)
    )
    for one, two in zip(*pairs, strict=True):
        assert (one is None) == (two is None)
        assert one is None or error(one, two) < TOLERANCE
    assert model.logits_of(features, eps=eps)[0].isfinite().all()


@pytest.mark.parametrize("name", ["unlike", "gaussian", "CoOp, name in the middle"])
def test_none_of_the_way_is_the_path_without_it(name):
    """Bit for bit, with the beginning of the prompt shared by all classes."""
    model = prompted(dataclasses.replace(CONFIGS[name], class_words=0.0))
    features, eps = model.encode_image(images(2)), noise_for(model, 2)
    found = model.outputs(features, eps=eps).text
    contexts = model.prompt_learner(model.config.n_samples, features, eps=eps).contexts
    clip, config = model.towers.clip, model.config
    parts = contexts.chunk(len(config.templates) or 1)
    want = []
    for part, (before, n) in zip(parts, model.classes.shapes, strict=True):
        place = {"n_before": before} if config.templates else {"position": config.position}
        rows = part[..., :n, :].flatten(0, 1)
        want.append(model.towers.encode_text(rows, class_tokens(clip, NAMES, n, **place)))
    assert torch.equal(found.flatten(0, 1), torch.cat(want))
    assert all(not own.is_moved for own in model.classes.tokens_of.values())
    assert model.tokens.n_lead == {"end": 4, "middle": 2}[config.position]


def test_moving_matters_and_begins_where_it_says():
    model = PromptedCLIP(small_clip(), NAMES, CONFIGS["points"])
    clip, features = model.towers.clip, model.encode_image(images(2))
    still = PromptedCLIP(clip, NAMES, dataclasses.replace(CONFIGS["points"], class_words=0.0))
    moved, plain = model.outputs(features).text, still.outputs(features).text
    assert error(moved, plain) > 0.01
    embedded = model.tokens.embed(torch.zeros(1, 4, 64))[:, :, 0]  # (Z, Y, D)
    of_second = embedded[(model.tokens.owner == 1) & (model.tokens.slots >= 0)]
    words = embed_words(clip, NAMES[1]).mean(0)
    torch.testing.assert_close(of_second, 0.3 * words.expand(4, -1))
    torch.testing.assert_close(mean_words(clip, NAMES)[1], words)
    middles = torch.stack([embed_template(clip, text).embeddings.mean(0) for text in EQUAL])
    torch.testing.assert_close(mean_templates(clip, model.config), middles)
    assert mean_templates(clip, CONFIGS["unlike"])[2].eq(0).all()  # of a template without words


@pytest.mark.parametrize("name", ["points", "unlike", "CoOp", "of the image"])
def test_what_was_learned_serves_classes_that_were_not_there(name):
    """Nothing of the classes is stored: their words are known by their names."""
    config = CONFIGS[name]
    base, new = prompted(config, NAMES[:2]), PromptedCLIP(small_clip(), NAMES[2:], config)
    plain = prompted(dataclasses.replace(config, class_words=0.0), NAMES[:2])
    state = base.prompt_learner.state_dict()
    assert state.keys() == plain.prompt_learner.state_dict().keys()
    assert base.state_dict().keys() == plain.state_dict().keys()
    load_learner(new.prompt_learner, state, "file", NAMES[2:], new.tokens)
    features, eps = new.encode_image(images(2)), noise_for(new, 2)
    got = new.outputs(features, eps=eps).text
    contexts = base.prompt_learner(config.n_samples, features, eps=eps).contexts
    assert error(got, one_at_a_time(new, contexts, NAMES[2:])) < TOLERANCE
    alone = new.predictor()(features)
    assert alone.shape == (2, 3) and error(alone.exp().sum(-1), torch.ones(2)) < TOLERANCE


@pytest.mark.parametrize("name", ["points", "unlike", "gaussian"])
def test_merged_texts_are_the_mean_of_the_samples(name):
    config = dataclasses.replace(CONFIGS[name], merge=True)
    model = prompted(config)
    features = model.encode_image(images(2))
    each = prompted(CONFIGS[name]).predictor().text(features)
    got = model.predictor().text(features)
    assert torch.equal(got, each.mean(0, keepdim=True))
    logits = model.scale * features @ got[0, 0].T
    assert error(model.predictor()(features), logits.log_softmax(-1)) < TOLERANCE


def test_several_texts_of_a_class_have_words_of_their_own():
    texts = PromptTexts(("{}", "{}, a pet"), {"dog": ("hound", "old_dog"), "x": ("cross",)})
    config = CONFIGS["points"]
    model = PromptedCLIP(small_clip(), NAMES, config, texts=texts)
    lists = [texts.of(name) for name in NAMES]
    alone = PromptedCLIP(small_clip(), list(itertools.chain(*lists)), config)
    features = model.encode_image(images(2))
    parts = alone.outputs(features).text.split([len(own) for own in lists], 2)
    want = torch.stack([F.normalize(part.sum(2), dim=-1) for part in parts], 2)
    assert error(model.outputs(features).text, want) < TOLERANCE


@pytest.mark.parametrize("class_words", [0.0, 0.4, 1.0])
def test_a_prior_of_the_class_has_what_is_left_of_the_way(class_words):
    """From where the context of the class begins to the mean of its words."""
    config = PromptConfig(
        posterior="gaussian", conditional=True, prior_mean="class_words", class_words=class_words
    )
    model = PromptedCLIP(small_clip(), NAMES, config)
    clip, start = model.towers.clip, model.prompt_learner.ctx.detach().mean(0)
    words = torch.stack([embed_words(clip, n.replace("_", " ")).mean(0) for n in NAMES])
    begins = start + class_words * (words - start)
    torch.testing.assert_close(model.prior.means, words - begins, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("precision", "difference"), [("fp16", 0.01), ("bf16", 0.05)])
def test_half_precision(precision, difference):
    found = []
    for name in ("fp32", precision):
        model = prompted(dataclasses.replace(CONFIGS["unlike"], precision=name))
        found.append(model.outputs(model.encode_image(images(1)), eps=noise_for(model, 1)).text)
    assert 1e-6 < (found[0] - found[1]).abs().max() < difference


def test_a_classifier_has_them_for_any_names(tmp_path):
    """Saved, loaded, with other classes, exported; a file of before says nothing of them."""
    clf = classifier(posterior="mixture", templates=EQUAL, class_words=0.3)
    clf.save(tmp_path / "new")
    again, shown = PromptClassifier.load(tmp_path / "new", device="cpu"), pictures(5, seed=1)
    assert again.class_words == again.learned_.model.config.class_words == 0.3
    assert np.array_equal(again.predict_proba(shown), clf.predict_proba(shown))
    names = ["full moon", "old_star"]
    other = again.with_classes(names).learned_.model
    contexts = clf.learned_.model.prompt_learner(1, torch.zeros(1, 128)).contexts
    want = one_at_a_time(other, contexts, names)[:, 0]  # (L, C, E)
    assert error(texts_of(other, "x.onnx").features, want) < TOLERANCE
    old = {name: classifier(posterior="delta", class_words=share) for name, share in
           (("none", 0.0), ("some", 0.3))}  # fmt: skip
    assert not np.allclose(*(own.predict_proba(shown) for own in old.values()), atol=1e-3)
    old["none"].save(tmp_path / "old")
    file = tmp_path / "old/classifier.json"
    described = json.loads(file.read_text())
    for part in ("parameters", "config"):
        assert described[part].pop("class_words") == 0.0
    file.write_text(json.dumps(described))
    before = PromptClassifier.load(tmp_path / "old", device="cpu")
    assert np.array_equal(before.predict_proba(shown), old["none"].predict_proba(shown))


@pytest.mark.parametrize("class_words", [0.0, 0.3])
def test_what_looks_into_a_model_says_that_it_shows_what_is_shared(class_words):
    learned = classifier(posterior="delta", class_words=class_words).learned_
    found = findings(learned, "model", [], 2, "euclidean")
    (context,) = [named.context for named in found.contexts]
    learner = learned.model.prompt_learner
    assert torch.equal(context.vectors, (learner.ctx + learner.posterior.mu).detach())
    said = "the context of a class is 0.3 * (mean of its words - mean of the template) beside it"
    assert (said in to_text(found)) == (class_words > 0)
    assert json.loads(to_json(found))["class_words"] == class_words
