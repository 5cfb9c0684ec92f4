"""Prompts in several layers of both towers, with and without a posterior, against the textbook."""

import dataclasses
import itertools

import pytest
import reference
import torch
from helpers import NAMES, error, images, noise, prompted, small_clip, textbook_clip

from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.export.graph import texts_of
from varprompt.interpret.words import contexts_of
from varprompt.model import PromptedCLIP, text_features
from varprompt.objective import ObjectiveConfig, kl_scale, objective
from varprompt.regularisers import REGULARISERS, Frozen, regularise

TOLERANCE = 1e-5  # of float32 against float64, relative to the largest value
OPTIONS = {"vision_layers": 3}
WORDS = "a photo of a"
PLAIN = {
    "maple": PromptConfig(n_ctx=2, keep_words=True, coupled=True, depth=3),
    "maple-1": PromptConfig(ctx_init="", n_ctx=3, coupled=True),
    "ivlp": PromptConfig(n_ctx=4, keep_words=True, depth=2, n_ctx_visual=3, depth_visual=3),
    "text-only": PromptConfig(n_ctx=3, keep_words=True, depth=3, n_ctx_visual=4, depth_visual=0),
    "image-only": PromptConfig(ctx_init="", n_ctx=2, n_ctx_visual=1, depth_visual=1),
}  # fmt: skip
NOISY = {"posterior": "gaussian", "logvar_init": -4.0, "n_samples": 2, "kl_weight": 0.3,
         "n_samples_test": 3, "test_seed": 7}  # fmt: skip
VARIATIONAL = {
    f"{name}-{residual}-{conditional}-{couple}": dataclasses.replace(
        PLAIN[name], residual=residual, conditional=conditional, couple_residual=couple, **NOISY
    )
    for name, residual, conditional, couple in itertools.product(
        ("maple", "ivlp"), ("shared", "per_token", "per_layer"), (False, True), (False, True)
    )
    if not (couple and name == "ivlp")
}
WEIGHTS = dict(zip(REGULARISERS, (8.0, 25.0, 10.0, 1.5), strict=True))
TEMPLATES = ["a photo of a {}.", "art of the {}."]


def made(config, seed=2):
    return prompted(config, NAMES, small_clip(**OPTIONS), seed)


def textbook(model, x, labels, eps):
    """Logits, loss with all regularisers, gradients by name, in float64."""
    clip, config, learner = textbook_clip(**OPTIONS), model.config, model.prompt_learner
    trained = dict(learner.named_parameters())
    values = {
        n: v.detach().double().requires_grad_(n in trained) for n, v in learner.state_dict().items()
    }
    n_words = len(WORDS.split()) if config.ctx_init else 0
    ids = reference.clip.tokenize(WORDS)[0][1 + len(learner.ctx) : 1 + n_words]
    logits, mu, logvar, text, features = reference.deep_outputs(
        clip, values, x.double(), NAMES, eps.double(), words=clip.token_embedding(ids),
        per_layer=config.residual == "per_layer", couple=config.couple_residual,
    )  # fmt: skip
    loss = reference.loss(
        logits, labels, reference.kl(mu, logvar, config.prior_std),
        1 if mu is None else mu[0].numel(), objective=config.objective,
        kl_weight=config.kl_weight, kl_reduction=config.kl_reduction, n_train=1,
    )  # fmt: skip
    terms = reference.regularisers(
        logits, text, features, reference.zero_shot(clip, NAMES, TEMPLATES, unit_norm=False),
        reference.image_features(clip, x.double()), clip.logit_scale.exp(),
    )  # fmt: skip
    loss = loss + sum(WEIGHTS[name] * term for name, term in terms.items())
    gradients = torch.autograd.grad(loss, [values[n] for n in trained])
    return logits.detach(), loss.detach(), dict(zip(trained, gradients, strict=True))


def production(model, x, labels, eps):
    config = model.config
    out = model.outputs(model.encode_image(x), images=x, eps=eps)
    scale = kl_scale(config.kl_weight, config.kl_reduction, model.n_dims, 1)
    loss = objective(out.logits, labels, out.kl, ObjectiveConfig(config.objective, scale)).loss
    text = text_features(model.towers, NAMES, TEMPLATES, unit_norm=False)
    frozen = Frozen(text, model.towers.encode_image(x), model.scale)
    loss = loss + sum(regularise(out, frozen, WEIGHTS).values())
    loss.backward()
    gradients = {n: p.grad for n, p in model.prompt_learner.named_parameters()}
    return out.logits.detach(), loss.detach(), gradients


IN_CHUNKS = ("maple", "ivlp", "maple-per_layer-True-True")


@pytest.mark.parametrize(
    ("name", "budget"), [(n, 0) for n in (*PLAIN, *VARIATIONAL)] + [(n, 1) for n in IN_CHUNKS]
)
def test_logits_loss_and_gradients_equal_the_textbook(name, budget):
    config = dataclasses.replace((PLAIN | VARIATIONAL)[name], mem_budget=budget)
    model, x = made(config), images(3)
    labels = torch.arange(3)
    eps = noise(config.n_samples, 3 if config.conditional else 1, model.prompt_learner.posterior)
    want = textbook(model, x, labels, eps)
    got = production(model, x, labels, eps if config.posterior else None)
    assert error(got[0], want[0]) < TOLERANCE and error(got[1], want[1]) < TOLERANCE
    assert got[2].keys() == want[2].keys()
    for parameter, gradient in got[2].items():
        assert error(gradient, want[2][parameter]) < TOLERANCE, parameter


@pytest.mark.parametrize("name", [*PLAIN, *VARIATIONAL])
def test_predictor_equals_logits_with_its_noise(name):
    config, x = (PLAIN | VARIATIONAL)[name], images(3)
    model = made(config)
    eps = model.prompt_learner.draw_noise(
        model.n_samples_test, torch.Generator().manual_seed(config.test_seed)
    )
    if config.conditional:
        eps = eps.expand(-1, 3, -1, -1)
    with torch.no_grad():
        want, _ = model.logits(x, model.n_samples_test, eps=eps)
    seen = model.encode_test_image(x)
    assert not seen.requires_grad
    predictor = model.predictor()
    assert error(predictor.samples(seen), want.log_softmax(-1)) < TOLERANCE
    # one image at a time: nothing depends on the batch
    alone = torch.cat([predictor(model.encode_test_image(image[None])) for image in x])
    assert error(alone, predictor(seen)) < TOLERANCE


def test_only_the_learner_is_trained():
    model = made(VARIATIONAL["maple-per_layer-False-False"]).train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"prompt_learner.{n}" for n, _ in model.prompt_learner.named_parameters()}
    before = {k: v.clone() for k, v in model.towers.clip.state_dict().items()}
    production(model, images(2), torch.tensor([0, 1]), None)
    assert all(torch.equal(v, before[k]) for k, v in model.towers.clip.state_dict().items())


def test_the_image_tower_runs_once_unless_the_residual_reaches_it():
    assert rows_of_the_image_tower("maple-shared-False-False") == [3]
    assert rows_of_the_image_tower("maple-shared-False-True") == [3, 2 * 3]


def rows_of_the_image_tower(name):
    """How many images each of its calls has, in a training step of three images and two samples."""
    model, seen = made(VARIATIONAL[name]), []
    tower = model.towers.encode_prompted_image
    plain = tower._encode
    tower._encode = lambda patches, prompts: seen.append(len(patches)) or plain(patches, prompts)
    model.logits(images(3))
    return seen


def test_what_starts_from_words_is_words():
    model = PromptedCLIP(small_clip(**OPTIONS), NAMES, PLAIN["maple"])
    learner = model.prompt_learner
    ids = reference.clip.tokenize(WORDS)[0][1:5]
    embedded = model.towers.clip.token_embedding(ids)
    assert torch.equal(learner.ctx, embedded[:2]) and torch.equal(learner.words, embedded[2:])
    assert learner.n_tokens == 4 and "words" not in learner.state_dict()
    first, second, third = learner.deep.couplings
    assert torch.equal(second.weight, third.weight) and not torch.equal(first.weight, second.weight)


def test_a_residual_of_zero_changes_nothing():
    """Started as a point, VPT_MaPLe is MaPLe."""
    torch.manual_seed(0)
    plain = PromptedCLIP(small_clip(**OPTIONS), NAMES, PLAIN["maple"])
    torch.manual_seed(0)
    config = dataclasses.replace(PLAIN["maple"], posterior="delta", residual="per_layer")
    delta = PromptedCLIP(small_clip(**OPTIONS), NAMES, config)
    x = images(3)
    assert torch.equal(plain.logits(x)[0], delta.logits(x)[0])


@pytest.mark.parametrize("posterior", ["gaussian", "fixed", "delta", "low_rank", "mixture"])
@pytest.mark.parametrize("name", ["maple", "ivlp"])
def test_every_family_goes_with_deep_prompts(name, posterior):
    config = dataclasses.replace(
        PLAIN[name], posterior=posterior, logvar_init=-4.0, residual="per_token", n_samples=2,
        templates=(f"{WORDS} {{}}.", "a picture of the {}") if posterior == "mixture" else (),
    )  # fmt: skip
    model = made(config)
    logits, kl = model.logits(images(2))
    assert logits.shape == (1 if posterior == "delta" else 2, 2, 5) and kl.shape == (1,)
    (logits.square().mean() + kl.mean()).backward()
    assert all(p.grad is not None for p in model.prompt_learner.parameters())


PROBLEMS = {
    "per_layer": ({"posterior": "gaussian", "residual": "per_layer"}, "that is 'shared'"),
    "couple": ({"posterior": "gaussian", "couple_residual": True}, "no map from the text tower's"),
    "fresh": ({"posterior": "gaussian", "coupled": True, "couple_residual": True, "test_seed": -1},
              "give a seed"),
    "position": ({"depth": 2, "position": "middle"}, "give end"),
    "csc": ({"n_ctx_visual": 2, "class_specific": True, "ctx_init": ""}, "one context for all"),
    "depth": ({"depth": 0}, "depth is 0"),
    "prior": ({"posterior": "gaussian", "prior_mean": "class_words"}, "residual for all images"),
    "mixture": ({"prior_mean": "class_words", "posterior": "meta_net", "conditional": True},
                "has no normal prior"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_configurations_that_mean_nothing(name):
    options, message = PROBLEMS[name]
    with pytest.raises(ConfigError) as caught:
        PromptConfig(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("residual", ["shared", "per_token", "per_layer"])
@pytest.mark.parametrize("name", ["maple", "ivlp"])
def test_a_prior_around_the_words_of_the_class(name, residual):
    """With noise and its mirror image the mean of the samples is that of the posterior."""
    config = dataclasses.replace(
        VARIATIONAL[f"{name}-{residual}-True-False"], prior_mean="class_words", prior_std=0.7
    )
    model, labels = made(config), torch.tensor([3, 0, 3])
    learner, features = model.prompt_learner, model.encode_image(images(3)).detach()
    half = noise(1, 3, learner.posterior)
    out = model.outputs(features, 2, eps=torch.cat([half, -half]))
    got = model.prior.kl(out.kl, out.residual, labels)
    mu, logvar = learner.posterior.moments(features)  # (B, R, D)
    clip = model.towers.clip
    start = reference.clip.tokenize(WORDS)[0][1 : 1 + len(learner.ctx)]
    words = [reference.clip.tokenize(NAMES[i].replace("_", " "))[0] for i in labels]
    means = [clip.token_embedding(w[1 : int(w.argmax())]).mean(0) for w in words]
    means = torch.stack(means) - clip.token_embedding(start).mean(0)
    prior = torch.zeros_like(mu)
    prior[:, : 1 if residual == "per_layer" else None] = means[:, None]
    normal = torch.distributions.Normal
    want = torch.distributions.kl_divergence(
        normal(mu, (logvar / 2).exp()), normal(prior, 0.7)
    ).sum((1, 2))  # fmt: skip
    assert error(got, want) < TOLERANCE
    parameters = list(learner.posterior.parameters())
    pairs = (torch.autograd.grad(kl.sum(), parameters, retain_graph=True) for kl in (got, want))
    for one, two in zip(*pairs, strict=True):
        assert error(one, two) < TOLERANCE


def test_more_prompts_than_words():
    with pytest.raises(ConfigError, match="N_CTX is 5 but CTX_INIT 'a photo of a' has 4 tokens"):
        PromptedCLIP(small_clip(**OPTIONS), NAMES, PromptConfig(n_ctx=5, keep_words=True))


def test_towers_that_are_too_flat_or_have_no_places():
    with pytest.raises(ConfigError, match="prompts in 9 layers of the text tower, which has 3"):
        PromptedCLIP(small_clip(**OPTIONS), NAMES, PromptConfig(coupled=True, depth=9))
    with pytest.raises(ConfigError, match="visual prompts are not possible"):
        PromptedCLIP(small_clip(resnet=True), NAMES, PromptConfig(coupled=True))
    deep = PromptedCLIP(small_clip(resnet=True), NAMES, PromptConfig(depth=3))
    assert deep.logits(images(2))[0].shape == (1, 2, 5)


def test_noise_that_reaches_the_image_tower_belongs_to_the_configuration():
    model = made(VARIATIONAL["maple-shared-False-True"])
    with pytest.raises(ConfigError, match="images are encoded with the configured 3 samples"):
        model.predictor(n_samples=5)
    with pytest.raises(ValueError, match="give the images"):
        model.logits_of(model.encode_image(images(2)))


def test_what_looks_into_a_model_knows_deep_prompts():
    model = made(VARIATIONAL["ivlp-per_layer-False-False"])
    (context,) = contexts_of(model, torch.zeros(1, 24))
    mean = model.prompt_learner.posterior.mu[0]  # of the first layer
    assert error(context.vectors, model.prompt_learner.ctx + mean) < 1e-6
    with pytest.raises(ConfigError, match="learned prompts in its image tower"):
        texts_of(model, "x.onnx")
    assert texts_of(made(PLAIN["text-only"]), "x.onnx").features.shape == (1, 5, 24)
