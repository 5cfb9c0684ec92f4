"""The production path equals the textbook in value and gradient, and keeps its promises."""

import copy
import dataclasses
import itertools
import re

import pytest
import reference
import torch
from helpers import (
    NAMES,
    error,
    images,
    noise,
    production,
    prompted,
    small_clip,
    textbook,
    textbook_clip,
)
from packaging.version import Version
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from varprompt.config import FRESH_NOISE, PromptConfig
from varprompt.errors import ConfigError, DataError
from varprompt.model import PromptedCLIP, zero_shot
from varprompt.objective import KL_REDUCTIONS, OBJECTIVES
from varprompt.posteriors import POSTERIORS, Posterior
from varprompt.prompt_texts import PromptTexts
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.load import load_clip
from varprompt.towers.tokens import POSITIONS

TOLERANCE = 1e-5  # of float32 against float64, relative to the largest value
M, L = 4, 2
BASE = PromptConfig(
    posterior="gaussian", logvar_init=-4.0, n_samples=L, n_samples_test=3, kl_weight=0.3,
    prior_std=0.6, test_seed=7,
)  # fmt: skip

# every combination of these, with an objective and a KL reduction taken in turn
TEXTBOOK = ("gaussian", "fixed", "delta")  # families that tests/reference.py spells out
REDUCTIONS = {
    conditional: itertools.cycle([*itertools.product(OBJECTIVES, names)])
    for conditional, names in {
        False: KL_REDUCTIONS,
        True: [name for name in KL_REDUCTIONS if name != "elbo"],
    }.items()
}


def variational(conditional, posterior, residual, learn_context):
    objective, reduction = next(REDUCTIONS[conditional])
    return dataclasses.replace(
        BASE, posterior=posterior, residual=residual, learn_context=learn_context,
        conditional=conditional, objective=objective, kl_reduction=reduction,
    )  # fmt: skip


VARIATIONAL = [
    (variational(conditional, *rest), batch)
    for conditional, batch, *rest in itertools.product(
        (False, True), (1, 3, M), TEXTBOOK, ("shared", "per_token"), (True, False)
    )
]
COOP = [
    PromptConfig(ctx_init="", n_ctx=n_ctx, position=position, class_specific=csc)
    for position in POSITIONS
    for csc in (False, True)
    for n_ctx in (1, 5)
]
COCOOP = PromptConfig(posterior="meta_net", conditional=True)


def identify(value):
    if isinstance(value, int):
        return f"B{value}"
    words = [value.posterior, value.residual, value.objective, value.kl_reduction]
    words += ["words-of-classes"] * (value.class_words > 0)
    words += ["conditional"] * value.conditional + ["fixed-context"] * (not value.learn_context)
    return "-".join(words)


def check(config, batch, names=NAMES[:3]):
    model = prompted(config, names)
    x, labels = images(batch), torch.arange(batch) % len(names)
    eps = noise(
        config.n_samples, batch if config.conditional else 1, model.prompt_learner.posterior
    )
    want = textbook(model, config, x, labels, eps, names)
    got = production(model, config, x, labels, None if not config.posterior else eps)
    assert got[0].shape[1:] == (batch, len(names))
    assert error(got[0], want[0]) < TOLERANCE
    assert error(got[1], want[1]) < TOLERANCE
    assert got[2].keys() == want[2].keys()
    for name, gradient in got[2].items():
        assert error(gradient, want[2][name]) < TOLERANCE, name


@pytest.mark.parametrize(("config", "batch"), VARIATIONAL, ids=identify)
def test_variational_trainers_equal_the_textbook(config, batch):
    check(config, batch)


@pytest.mark.parametrize(
    "config", COOP, ids=lambda c: f"{c.position}-M{c.n_ctx}-{c.class_specific}"
)
def test_coop_equals_the_textbook(config):
    check(config, 3, NAMES)


@pytest.mark.parametrize("batch", [1, 3, M])
def test_cocoop_equals_the_textbook(batch):
    check(COCOOP, batch)


@pytest.mark.parametrize(
    "templates", [["a photo of a {}, a type of x."], ["itap of a {}.", "{} texture."]]
)
def test_zero_shot_equals_the_textbook(templates):
    towers, x = FrozenCLIP(small_clip()), images(3)
    got = zero_shot(towers, NAMES, templates)(towers.encode_image(x))
    text = reference.zero_shot(textbook_clip(), NAMES, templates)
    features = reference.image_features(textbook_clip(), x.double())
    want = (textbook_clip().logit_scale.exp() * features @ text.T).log_softmax(-1)
    assert error(got, want) < TOLERANCE


TEMPLATES = ("a photo of a {}.", "a {} in the art.", "{}.")
MIXTURE = dataclasses.replace(
    BASE, posterior="mixture", residual="per_token", templates=TEMPLATES, learn_context=False
)
PREDICTING = [
    pytest.param(dataclasses.replace(BASE, posterior=posterior, conditional=conditional),
                 id=f"{posterior}-{conditional}")
    for posterior in (*TEXTBOOK, "low_rank") for conditional in (False, True)
] + [
    pytest.param(COCOOP, id="cocoop"), pytest.param(COOP[1], id="coop"),
    pytest.param(MIXTURE, id="mixture"),
]  # fmt: skip


@pytest.mark.parametrize("config", PREDICTING)
def test_predictor_equals_logits_with_its_noise(config):
    model, x = prompted(config), images(3)
    generator = torch.Generator().manual_seed(config.test_seed)
    eps = model.prompt_learner.draw_noise(config.n_samples_test, generator)
    features = model.towers.encode_image(x)
    got = model.predictor()(features)
    if eps is not None:
        eps = eps.expand(-1, 3 if config.conditional else 1, -1, -1)
    logits, _ = model.logits(x, config.n_samples_test, eps=eps)
    assert error(got, reference.predictive(logits.double())) < TOLERANCE
    assert torch.allclose(got.exp().sum(-1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("config", PREDICTING)
def test_predictions_depend_on_nothing_but_the_image(config):
    """Neither on the test batch, nor its order, nor on the state of any generator."""
    model = prompted(config)
    features = model.towers.encode_image(images(7))
    want = model.predictor()(features)
    torch.manual_seed(99)
    predictor = model.predictor()
    for size in (1, 3, 4):
        assert (
            error(torch.cat([predictor(part) for part in features.split(size)]), want) < TOLERANCE
        )
    order = torch.randperm(7)
    assert error(predictor(features[order]), want[order]) < TOLERANCE
    assert torch.equal(model.predictor()(features), want)


def test_test_seed_and_samples():
    model = prompted(BASE)
    features = model.towers.encode_image(images(3))
    assert not torch.equal(model.predictor(seed=1)(features), model.predictor(seed=2)(features))
    assert torch.equal(model.predictor(seed=7)(features), model.predictor()(features))
    one, many = model.predictor(1)(features), model.predictor(3)(features)
    assert torch.equal(many, model.predictor()(features)) and not torch.equal(one, many)


@pytest.mark.parametrize("conditional", [False, True])
def test_fresh_noise_for_every_batch(conditional):
    """As the authors test; torch's own seed decides the sequence."""
    model = prompted(dataclasses.replace(BASE, conditional=conditional, test_seed=FRESH_NOISE))
    features = model.towers.encode_image(images(3))
    torch.manual_seed(5)
    predictor = model.predictor()
    first, second = predictor(features), predictor(features)
    assert not torch.equal(first, second)
    again = model.predictor()
    assert torch.equal(again(features), first) and torch.equal(again(features), second)
    torch.manual_seed(6)
    assert not torch.equal(model.predictor()(features), first)


CHUNKED = [BASE, dataclasses.replace(BASE, conditional=True), COOP[3], COOP[7], COCOOP]


@pytest.mark.parametrize("budget", [1, 1_000_000, 5_000_000])
@pytest.mark.parametrize(
    "config", CHUNKED, ids=lambda c: f"{c.posterior}-{c.position}-{c.conditional}"
)
def test_memory_budget_changes_nothing(config, budget):
    x, labels = images(3), torch.tensor([4, 0, 1])
    models = [prompted(dataclasses.replace(config, mem_budget=b)) for b in (2**40, budget)]
    eps = noise(L, 3 if config.conditional else 1, models[0].prompt_learner.posterior)
    eps = eps if config.posterior else None
    whole, chunked = (production(m, config, x, labels, eps) for m in models)
    assert error(chunked[0], whole[0]) < TOLERANCE
    for name, gradient in whole[2].items():
        assert error(chunked[2][name], gradient) < TOLERANCE, name


# largest difference of a cosine from float32, and smallest cosine between gradients: a few units
# in the last place (2^-11, 2^-9) after some ten roundings
ROUNDING = {"fp32": (0, 1), "amp": (0, 1), "fp16": (0.01, 0.999), "bf16": (0.05, 0.98)}


@pytest.mark.parametrize("resnet", [False, True])
@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("conditional", [False, True])
def test_precisions_agree_within_their_rounding(precision, resnet, conditional):
    config = dataclasses.replace(BASE, conditional=conditional)
    options = {"resnet": resnet, "vision_width": 16} if resnet else {}
    x, labels = images(3), torch.tensor([4, 0, 1])
    results = []
    for name in ("fp32", precision):
        model = prompted(dataclasses.replace(config, precision=name), clip=small_clip(**options))
        eps = noise(L, 3 if conditional else 1, model.prompt_learner.posterior)
        results.append(production(model, config, x, labels, eps))
        assert results[-1][0].dtype == torch.float32
        assert all(v.dtype == torch.float32 for v in model.prompt_learner.state_dict().values())
        log_prob = model.predictor()(model.towers.encode_image(x))
        assert log_prob.dtype == torch.float32 and torch.isfinite(log_prob).all()
    exact, rounded = results
    difference, alignment = ROUNDING[precision]
    assert (rounded[0] - exact[0]).abs().max() / model.scale <= difference
    for name, gradient in exact[2].items():
        cosine = torch.cosine_similarity(gradient.flatten(), rounded[2][name].flatten(), 0)
        assert cosine >= alignment - 1e-6, name


def test_only_the_learner_is_trained():
    model = prompted(BASE).train()
    assert not model.towers.training and not model.towers.clip.training
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"prompt_learner.{n}" for n, _ in model.prompt_learner.named_parameters()}
    before = model.towers.clip.state_dict()
    production(model, BASE, images(2), torch.tensor([0, 1]), None)
    assert all(torch.equal(v, before[k]) for k, v in model.towers.clip.state_dict().items())


def test_resnet_statistics_stay_frozen():
    model = prompted(BASE, clip=small_clip(resnet=True, vision_width=16)).train()
    bn = model.towers.clip.visual.bn1
    before = bn.running_mean.clone(), bn.num_batches_tracked.clone()
    model.logits(images(2))
    assert torch.equal(bn.running_mean, before[0]) and bn.num_batches_tracked == before[1]


def test_sizes_of_the_published_models():
    """Learned numbers at the widths of ViT-B/16 and M = 4 (coop 2,048, cocoop 35,360)."""
    clip = small_clip(embed=512, width=512, layers=1)

    def count(config):
        learner = PromptedCLIP(clip, ["x"], config).prompt_learner
        return sum(p.numel() for p in learner.parameters())

    assert count(PromptConfig()) == 2_048
    assert count(COCOOP) == 35_360
    assert count(BASE) == 3_072
    assert count(dataclasses.replace(BASE, conditional=True)) == 659_456


def test_initial_context():
    clip = small_clip()
    words = PromptedCLIP(clip, NAMES, PromptConfig(ctx_init="a photo of a")).prompt_learner
    ids = torch.tensor([320, 1125, 539, 320])  # CLIP's tokens of these words
    assert torch.equal(words.ctx, clip.token_embedding.weight[ids])
    torch.manual_seed(0)
    random = PromptedCLIP(clip, NAMES, PromptConfig(ctx_init="", n_ctx=60)).prompt_learner.ctx
    assert random.shape == (60, 64) and random.std().item() == pytest.approx(0.02, rel=0.05)
    csc = PromptedCLIP(clip, NAMES, PromptConfig(ctx_init="", class_specific=True)).prompt_learner
    assert csc.ctx.shape == (5, 4, 64) and not torch.equal(csc.ctx[0], csc.ctx[1])


def test_words_of_several_tokens_make_the_prompt_of_the_whole_text():
    words = "itap of xylophonist"
    model = PromptedCLIP(small_clip(), NAMES, PromptConfig(ctx_init=words, n_ctx=7))
    width = model.towers.clip.text_projection.shape[1]
    features = torch.nn.functional.normalize(torch.randn(3, width))
    wanted = zero_shot(model.towers, NAMES, [words + " {}."])(features)
    torch.testing.assert_close(model.predictor()(features), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "names", "message"),
    [
        (PromptConfig(ctx_init="itap of xylophonist", n_ctx=3), NAMES, "give N_CTX 7"),
        (PromptConfig(n_ctx=16), NAMES, "N_CTX is 16 but CTX_INIT 'a photo of a' has 4 tokens"),
        (PromptConfig(ctx_init="", n_ctx=75), NAMES, r"5 prompt\(s\) do not fit the 77 tokens"),
        (PromptConfig(), ["dog", "word " * 80], r"1 prompt\(s\) do not fit .*'word word"),
        (PromptConfig(class_words=0.2), ["dog", "word " * 80], "longest has 87, 4 of them context"),
        (PromptConfig(ctx_init="my " * 80), NAMES, "80 of them context.*the words around them"),
    ],
)
def test_prompts_that_do_not_fit(config, names, message):
    with pytest.raises(ConfigError, match=message):
        PromptedCLIP(small_clip(), names, config)


@pytest.mark.parametrize("names", [["caf\u00e9", "dog", "cafe\u0301"], ["a & b", "a &amp; b"]])
def test_names_that_the_tokenizer_makes_one_of(names):
    with pytest.raises(ConfigError, match="are the same tokens"):
        PromptedCLIP(small_clip(), names, PromptConfig())
    PromptedCLIP(small_clip(), names, PromptConfig(), same_names=True)
    with pytest.raises(ConfigError, match="are the same tokens"):
        texts = PromptTexts(classes={"dog": ("hound", "cat"), "pet": ("cat", "hound")})
        PromptedCLIP(small_clip(), ["dog", "pet"], PromptConfig(), texts=texts)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("dog", "class names are 'dog'; give a list of strings"),
        (["dog", 7], "give a list of strings"),
        ({"dog", "cat"}, "give a list of strings"),  # in which order?
        ((name for name in ["dog", "cat"]), "give a list of strings"),
        ([], "there are no class names"),
        (["dog", " _"], r"number \[1\] are empty"),
        (["polka_dot", "x", "Polka dot"], r"several classes, \['polka dot'\]"),
    ],
)
def test_class_names_that_are_none(names, message):
    with pytest.raises(ConfigError, match=message):
        PromptedCLIP(small_clip(), names, PromptConfig())


@pytest.mark.parametrize("shape", [(2, 3, 33, 32), (2, 1, 32, 32), (3, 32, 32), (2, 3, 64, 64)])
def test_images_of_another_size_are_one_line(shape):
    model = prompted(BASE)
    with pytest.raises(
        DataError, match=r"^images have the shape \(.*; give \(B, 3, 32, 32\), which"
    ):
        model.logits(torch.zeros(shape))


@pytest.mark.parametrize("given", [torch.zeros(2, 3, 32, 32, dtype=torch.uint8), [1.0]])
def test_images_that_are_no_floats_are_one_line(given):
    with pytest.raises(DataError, match="^images are (torch.uint8|list); give a tensor of floats"):
        prompted(BASE).logits(given)


@pytest.mark.parametrize("clip", ["embedded", "embedded_vit"])
def test_of_no_image_there_are_no_logits(clip):
    model = PromptedCLIP(load_clip(clip), NAMES, BASE)
    logits, _ = model.logits(torch.zeros(0, 3, 32, 32))
    assert logits.shape == (BASE.n_samples, 0, len(NAMES))


def test_other_features_samples_and_templates_than_there_can_be():
    model = prompted(BASE)
    for features in (images(2), torch.zeros(2, 7)):
        with pytest.raises(DataError, match="^features have the shape .*; give "):
            model.predictor()(features)
    for n_samples in (-1, 2.5):
        with pytest.raises(ConfigError, match="^n_samples is"):
            model.predictor(n_samples)
        with pytest.raises(ConfigError, match="^n_samples is"):
            model.logits(images(2), n_samples)
    for templates in ([], ["a photo"], "a photo of a {}."):
        with pytest.raises(ConfigError, match="^(there are no templates|templates has)"):
            zero_shot(model.towers, NAMES, templates)


def test_what_is_learned_is_float32_whatever_torch_makes_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        for family in ("gaussian", "low_rank"):
            model = prompted(dataclasses.replace(BASE, posterior=family, conditional=True))
            dtypes = {value.dtype for value in model.prompt_learner.state_dict().values()}
            assert dtypes == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_family_without_parameters_beside_a_fixed_context_is_refused(monkeypatch):
    monkeypatch.setitem(POSTERIORS, "nothing", Posterior)
    config = PromptConfig(posterior="nothing", learn_context=False)
    with pytest.raises(ConfigError, match="'nothing' has no parameters: nothing would be learned"):
        PromptedCLIP(small_clip(), NAMES, config)


def test_classes_of_one_name_if_that_is_meant():
    """Two of ImageNet's classes are called missile."""
    model = PromptedCLIP(small_clip(), ["missile", "x", "missile"], BASE, same_names=True)
    log_prob = model.predictor()(model.towers.encode_image(images(2)))
    torch.testing.assert_close(log_prob[:, 0], log_prob[:, 2])


def test_more_dimensions_than_sobol_points_have():
    config = dataclasses.replace(
        BASE, residual="per_token", sampler="sobol", ctx_init="", n_ctx=65, precision="fp32"
    )
    clip = small_clip(width=384, layers=1)
    with pytest.raises(ConfigError, match="at most 21201 dimensions, posterior 'gaussian' takes"):
        PromptedCLIP(clip, ["x"], config)


@pytest.mark.parametrize("component", ["delta", "fixed"])
def test_a_mixture_starts_at_its_templates(component):
    """Without noise, or next to none, its samples are what each template would be alone."""
    clip = small_clip()
    config = dataclasses.replace(MIXTURE, component=component, logvar_init=-19.9, n_samples=1)
    mixture = PromptedCLIP(clip, NAMES, config)
    features = mixture.towers.encode_image(images(3))
    got, _ = mixture.logits_of(features)
    for logits, template in zip(got, TEMPLATES, strict=True):
        alone = zero_shot(mixture.towers, NAMES, [template]).samples(features)[0]
        limit = TOLERANCE if component == "delta" else 0.005  # a deviation of 5e-5
        assert error(logits.log_softmax(-1), alone) < limit
    assert all(error(a, b) > 0.02 for a, b in itertools.pairwise(got))


@pytest.mark.parametrize("conditional", [False, True])
def test_templates_of_unlike_shape_are_each_encoded_as_they_are(conditional):
    """Against whole prompts, one at a time, whose learned tokens stand on both sides of a name."""
    config = dataclasses.replace(MIXTURE, conditional=conditional, n_samples=6)
    model, x = prompted(config), images(2)
    learner, clip = model.prompt_learner, textbook_clip()
    features = model.towers.encode_image(x)
    eps = learner.posterior.draw_noise(
        learner.posterior.noise_shape(6, 2 if conditional else 1), generator=torch.Generator()
    )
    contexts = learner(6, features, eps=eps).contexts.double()  # (L, K, M, D)
    text = model.outputs(features, 6, eps=eps).text
    n_rows = contexts.shape[1]
    for n, k in itertools.product(range(len(contexts)), range(n_rows)):
        before, n_tokens = model.classes.shapes[n // 2]
        for c, name in enumerate(NAMES):
            behind = f" {'X ' * (n_tokens - before)}".rstrip()
            whole, n_all = reference.prompt(clip, contexts[n, k, :before], name + behind)
            at = n_all - 2 - (n_tokens - before)  # of the first token behind the name
            whole = torch.cat([
                whole[:at], contexts[n, k, before:n_tokens], whole[at + n_tokens - before :]
            ])  # fmt: skip
            want = reference.encode_prompt(clip, whole, n_all)
            assert error(text[n, k, c], want) < TOLERANCE, (n, k, name)


def test_equal_shapes_take_one_pass_of_the_text_tower(monkeypatch):
    """Components are its rows; of unlike shapes there is a pass for each shape."""
    for templates, rows in ((("a photo of a {}.", "a picture of the {}."), [2]),
                            ((*TEMPLATES, "a {} on its art"), [1, 2, 1])):  # fmt: skip
        model = prompted(dataclasses.replace(MIXTURE, component="delta", templates=templates))
        encode, seen = model.towers.encode_text.forward, []
        monkeypatch.setattr(
            model.towers.encode_text, "forward",
            lambda c, *a, encode=encode, seen=seen: seen.append(len(c)) or encode(c, *a),
        )  # fmt: skip
        model.logits(images(2))
        assert seen == rows


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", ["mixture", "gaussian"])
def test_merged_texts_are_one_classifier(kind, conditional):
    """Softmax of the mean of the samples' logits, for each image; one sample changes nothing."""
    base = MIXTURE if kind == "mixture" else BASE
    plain = dataclasses.replace(base, conditional=conditional, n_samples_test=3)
    merged = dataclasses.replace(plain, merge=True)
    features = prompted(plain).towers.encode_image(images(3))
    samples = prompted(plain).predictor().samples(features)
    got = prompted(merged).predictor().samples(features)
    assert got.shape == (1, 3, len(NAMES)) and len(samples) == 3
    assert error(got[0], samples.mean(0).log_softmax(-1)) < TOLERANCE
    assert error(got[0], samples.exp().mean(0).log()) > 10 * TOLERANCE
    if kind == "gaussian":
        one = prompted(dataclasses.replace(merged, n_samples_test=1)).predictor()(features)
        alone = prompted(dataclasses.replace(plain, n_samples_test=1)).predictor()(features)
        assert torch.equal(one, alone)


MOVING = [BASE, dataclasses.replace(BASE, conditional=True), COOP[3], COCOOP]
MOVING += [dataclasses.replace(BASE, posterior="low_rank"), MIXTURE]
WORDS = dataclasses.replace(MIXTURE, templates=("a photo of a {}.", "my {}."), class_words=0.2)
MOVING += [WORDS, dataclasses.replace(BASE, class_words=0.2)]


@pytest.mark.parametrize("config", MOVING, ids=identify)
def test_to_moves_everything(config):
    """Parameters, buffers and the class names' tokens, and nothing is renamed."""
    model = prompted(config)
    before = model.state_dict().keys()
    assert model.to("meta") is model and model.state_dict().keys() == before
    tensors = [*model.parameters(), *model.buffers(), *vars(model.tokens).values()]
    found = {t.device.type for t in tensors if isinstance(t, torch.Tensor)}
    assert found == {"meta"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_number_formats_are_the_configs(precision):
    """Moving is no change of format; a change would train in half precision, or break a step."""
    model = prompted(dataclasses.replace(BASE, precision=precision))
    assert model.cpu() is model
    for change in (model.half, model.double):
        with pytest.raises(ConfigError, match="number formats cannot be changed afterwards"):
            change()
    with pytest.raises(ConfigError, match=f"the towers are {precision}"):
        model.to(torch.float16)
    assert model.logits(images(2))[0].isfinite().all()


@pytest.mark.parametrize(
    ("clip_model", "config", "told"),
    [
        ("embedded", BASE, "clip_model is 'embedded'; give a CLIP"),
        (None, BASE, "clip_model is None; give a CLIP"),
        (torch.nn.Identity(), {"n_ctx": 4}, "prompt_config is {'n_ctx': 4}; give a PromptConfig"),
    ],
)
def test_parts_that_are_none(clip_model, config, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        PromptedCLIP(clip_model, ["dog"], config)


MIXED = {"posterior": "mixture", "residual": "per_token", "templates": ("my {}.", "a {} in art.")}


@pytest.mark.parametrize("options", [{}, MIXED, MIXED | {"merge": True}])
def test_similarity_is_the_mean_cosine_between_classes(options):
    """Of the sample where it is largest: the components of a mixture may fare differently."""
    model = prompted(dataclasses.replace(BASE, **options))
    features, predictor = model.towers.encode_image(images(1)), model.predictor()
    text = torch.nn.functional.normalize(predictor.text(features)[:, 0], dim=-1)
    assert len(text) > 1 or options.get("merge")
    cosines = (text @ text.mT)[:, ~torch.eye(text.shape[1], dtype=torch.bool)].mean(1)
    assert options != MIXED or cosines.argmax() != 0
    assert predictor.similarity(features) == pytest.approx(cosines.max().item(), abs=1e-5)
    single = PromptedCLIP(small_clip(), ["dog"], BASE).predictor()
    assert single.similarity(features) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "config", [BASE, dataclasses.replace(BASE, conditional=True), MOVING[-1]], ids=identify
)
def test_a_compiled_training_step_is_the_step(config):
    """From image features to the gradient, in one graph without breaks."""
    model = prompted(config)
    features = model.towers.encode_image(images(3))
    eps = noise(L, 3 if config.conditional else 1, model.prompt_learner.posterior)
    parameters = list(model.prompt_learner.parameters())

    def step(features, eps):
        logits, kl = model.logits_of(features, L, eps=eps)
        return logits.logsumexp(-1).sum() + kl.sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    got, wanted = (torch.autograd.grad(f(features, eps), parameters) for f in (compiled, step))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [BASE, COCOOP], ids=identify)
def test_logits_are_float32_under_autocast(config):
    """Scaled by 100, half precision would round them at the second decimal."""
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = prompted(dataclasses.replace(config, precision="amp")).logits(images(3))
    assert logits.dtype == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and -m cuda")
@pytest.mark.parametrize(
    "config",
    [BASE, dataclasses.replace(BASE, conditional=True), *COOP, COCOOP, MOVING[-1]],
    ids=identify,
)
def test_cuda_computes_what_a_cpu_does(config):
    on_cpu = prompted(config)
    on_cuda = prompted(config, clip=small_clip().to("cuda"))
    on_cuda.prompt_learner.load_state_dict(on_cpu.prompt_learner.state_dict())
    rows = 3 if config.conditional else 1
    given = images(3), torch.tensor([0, 2, 4]), noise(config.n_samples, rows,
                                                      on_cpu.prompt_learner.posterior)  # fmt: skip
    want = production(on_cpu, config, *given)
    with torch.backends.cudnn.flags(allow_tf32=False):
        got = production(on_cuda, config, *(tensor.to("cuda") for tensor in given))
    assert error(got[0].cpu(), want[0]) < TOLERANCE and error(got[1].cpu(), want[1]) < TOLERANCE
    for name, gradient in want[2].items():
        assert error(got[2][name].cpu(), gradient) < 1e-4, name


def moved(values, memo):
    """Tensors of a dict on a GPU, the others as they are; parameters stay shared."""
    for key, value in values.items():
        if isinstance(value, torch.Tensor) and id(value) not in memo:
            there = value.detach().to("cuda")
            memo[id(value)] = (
                torch.nn.Parameter(there, value.requires_grad)
                if isinstance(value, torch.nn.Parameter)
                else there
            )
        yield key, memo.get(id(value), value)


def on_a_gpu(model):
    """Put a model of tensors without values on a GPU that need not be there."""
    memo = {}
    for module in model.modules():
        module._parameters.update(moved(module._parameters, memo))
        module._buffers.update(moved(module._buffers, memo))
    tokens = model.tokens
    model.classes.tokens = dataclasses.replace(tokens, **dict(moved(vars(tokens), memo)))
    return model


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"), reason="torch 2.6 asks for a driver here"
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(
    "config",
    [BASE, dataclasses.replace(BASE, conditional=True), *COOP[::4], COCOOP, MOVING[-1]],
    ids=identify,
)
def test_everything_is_on_the_gpu(config, precision):
    """No operation mixes devices or waits, from images to logits, in training and at test."""
    # the budget is given: a GPU that is not there cannot tell its free memory
    config = dataclasses.replace(config, precision=precision, mem_budget=1 << 40)
    model, mode = prompted(config), FakeTensorMode()
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    with mode:
        on_a_gpu(model)
        pictures = torch.empty(3, 3, 32, 32, device="cuda")
        logits, kl = model.logits(pictures)
        assert logits.requires_grad and logits.shape[1:] == (3, len(NAMES))
        prediction = model.predictor()(model.towers.encode_image(pictures))
    assert logits.device.type == kl.device.type == prediction.device.type == "cuda"


@pytest.mark.parametrize("n_train", [0, -1, 1.5, "3", None])
def test_the_number_of_training_images_is_one(n_train):
    model = prompted(PromptConfig(posterior="gaussian"))
    with pytest.raises(ConfigError, match="n_train is"):
        model.objective_config(n_train)
    with pytest.raises(ConfigError, match="the name of a CLIP is None"):
        load_clip(None)
