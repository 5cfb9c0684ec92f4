"""`PromptConfig` refuses what cannot be meant, everything at once, under the user's names."""

import dataclasses

import pytest

from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.posteriors import POSTERIORS, GaussianPosterior

TWO = ("a photo of a {}.", "a {} in a video game.")
MIXTURE = {"posterior": "mixture", "residual": "per_token", "templates": TWO}
BAD = {
    "number format": ({"precision": "float16"}, "precision is 'float16'; choose from fp32, fp16, "
                      "amp, bf16, did you mean 'fp16'?"),
    "family": ({"posterior": "gauss"}, "posterior is 'gauss'; choose from gaussian, fixed, delta, "
               "low_rank, mixture, meta_net, did you mean 'gaussian'?"),
    "type of a name": ({"posterior": ["gaussian"]}, "posterior is ['gaussian']; choose from"),
    "objective": ({"objective": "vae"}, "objective is 'vae'; choose from iwae, elbo"),
    "sampler": ({"sampler": "halton"}, "sampler is 'halton'; choose from gaussian, antithetic"),
    "position": ({"position": "back"}, "position is 'back'; choose from end, middle, front"),
    "residual": ({"residual": "token"}, "residual is 'token'; choose from shared, per_token"),
    "truth": ({"class_specific": "yes", "ctx_init": ""}, "class_specific is 'yes'; choose from"),
    "samples": ({"n_samples": 0}, "n_samples is 0; it must be at least 1"),
    "no number": ({"n_samples": "3"}, "n_samples is '3'; give a whole number"),
    "half a sample": ({"n_samples": 2.5}, "n_samples is 2.5; give a whole number"),
    "negative weight": ({"kl_weight": -1}, "kl_weight is -1; it must be at least 0"),
    "prior": ({"prior_std": 0}, "prior_std is 0; it must be at least 1e-06"),
    "seed": ({"test_seed": -2}, "test_seed is -2; it must be at least -1"),
    "rank": ({"rank": 0}, "rank is 0; it must be at least 1"),
    "budget": ({"mem_budget": -1}, "mem_budget is -1; it must be at least 0"),
    "log-variance": ({"logvar_init": 10.0}, "it must lie within (-20.0, 10.0)"),
    "no log-variance": ({"posterior": "fixed"}, "posterior 'fixed' needs logvar_init"),
    "words": ({"ctx_init": None}, "ctx_init is None; give words"),
    "number of words": ({"n_ctx": 2}, "n_ctx is 2 but ctx_init 'a photo of a' has 4 words; give "
                        "n_ctx 4"),
    "too many": ({"n_ctx": 76, "ctx_init": ""}, "n_ctx is 76; it must be at most 75"),
    "none": ({"n_ctx": 0, "ctx_init": ""}, "n_ctx is 0; it must be at least 1"),
    "words for each class": ({"class_specific": True}, "class_specific is True but ctx_init 'a"),
    "a residual for each class": (
        {"class_specific": True, "ctx_init": "", "posterior": "gaussian"},
        "class_specific is True, but 'gaussian' needs one context"),
    "noise of nothing": ({"n_samples": 4, "kl_weight": 0.1}, "n_samples 4, kl_weight 0.1: this "
                         "means nothing without a posterior; choose one from gaussian"),
    "an image for nothing": ({"conditional": True}, "conditional True: this means nothing"),
    "nothing to learn": ({"learn_context": False}, "nothing would be learned"),
    "no evidence lower bound": (
        {"posterior": "gaussian", "conditional": True, "kl_reduction": "elbo"},
        "kl_reduction is 'elbo', but a posterior of each image has a KL of its own"),
    "templates without a mixture": ({"templates": TWO}, "has 2 templates, which only posterior "
                                    "'mixture' takes; for one context give ctx_init"),
    "a mixture without templates": (MIXTURE | {"templates": ()}, "'mixture' needs two or more "
                                    "templates"),
    "a mixture of one": (MIXTURE | {"templates": TWO[:1]}, "got ['a photo of a {}.'] (templates)"),
    "templates in the old form": (MIXTURE | {"ctx_init": "a photo of a|art of"}, "ctx_init 'a "
                                  "photo of a|art of' has templates separated by |: give "),
    "a place for the name among words": ({"ctx_init": "a photo of a {}."}, "ctx_init 'a photo of a "
                                         "{}.' has a {}, but the class name stands behind"),
    "no list of templates": (MIXTURE | {"templates": "a {}."}, "templates is 'a {}.'; give a list"),
    "a template without a place": (MIXTURE | {"templates": (*TWO, "a photo of")}, "templates has "
                                   "'a photo of'; a template has one {}"),
    "templates and a position": (MIXTURE | {"position": "front"}, "templates say themselves where"),
    "a mixture that shares": (MIXTURE | {"residual": "shared"}, "give per_token"),
    "a mixture per layer": (MIXTURE | {"residual": "per_layer", "depth": 2}, "give per_token"),
    "kind of component": (MIXTURE | {"component": "point"}, "component is 'point'; choose "
                          "from gaussian"),
    "a component without size": (MIXTURE | {"component": "fixed"}, "component 'fixed' needs "
                                 "logvar_init"),
    "words of classes": ({"class_words": 1.5}, "class_words is 1.5; it must be at most 1"),
    "words of classes, of none": ({"class_words": 0.2, "ctx_init": ""}, "class_words is 0.2, but "
                                  "there are no words that the prompts start from: give ctx_init"),
    "words in deep prompts": ({"class_words": 0.2, "depth": 3}, "class_words is 0.2, but prompts "
                              "of deeper layers (depth 3) belong to one context for all classes"),
    "words in contexts of each class": (
        {"class_words": 0.2, "class_specific": True, "ctx_init": ""},
        "class_words is 0.2, but class_specific is True: each class has a context already"),
    "a unit": ({"prior_unit": "rms"}, "prior_unit is 'rms'; choose from absolute, token_rms"),
    "a unit of no words": ({"prior_unit": "token_rms", "ctx_init": ""}, "there are no words that "
                           "the prompts start from: give ctx_init"),
    "merged images": ({"posterior": "delta", "coupled": True, "couple_residual": True,
                       "merge": True}, "their texts cannot be averaged"),
    "always of the image": ({"posterior": "meta_net"}, "posterior 'meta_net' always depends on the "
                            "image, but conditional is False"),
    "a shift for each token": (
        {"posterior": "meta_net", "conditional": True, "residual": "per_token"},
        "residual is 'per_token'; 'meta_net' makes a shared one"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    values, message = BAD[name]
    with pytest.raises(ConfigError) as caught:
        PromptConfig(**values)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_all_problems_at_once_under_the_users_names():
    values = {"precision": "half", "n_samples": 0, "posterior": "delt", "prior_std": -1}
    with pytest.raises(ConfigError) as caught:
        PromptConfig(**values)
    assert len(caught.value.problems) == len(values)
    names = {"posterior": "TRAINER.VPT.POSTERIOR"}
    problems = PromptConfig.problems(values, names)
    assert "TRAINER.VPT.POSTERIOR is 'delt'" in "\n".join(problems) and len(problems) == 4


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ctx_init": "", "n_ctx": 75},
        {"ctx_init": "", "class_specific": True},
        {"n_ctx": 4},
        {"posterior": "low_rank", "conditional": True, "rank": 1000},
        {"posterior": "gaussian", "kl_reduction": "elbo", "learn_context": False},
        {"posterior": "gaussian", "conditional": True, "kl_reduction": "sum_per_image"},
        MIXTURE,
        MIXTURE | {"component": "delta", "prior_unit": "token_rms", "merge": True},
        MIXTURE | {"conditional": True, "residual": "shared"},
        MIXTURE | {"class_words": 1.0},
        {"class_words": 0.2, "position": "front"},
        {"class_words": 0.2, "n_ctx_visual": 2},
    ],
)
def test_accepted(values):
    assert PromptConfig.problems(dataclasses.asdict(PromptConfig(**values))) == []


def test_number_of_context_tokens():
    assert PromptConfig().n_context == 4
    assert PromptConfig(ctx_init="itap of").n_context == 2
    assert PromptConfig(ctx_init="").n_context == 4
    assert PromptConfig(ctx_init="", n_ctx=16).n_context == 16
    assert PromptConfig(**MIXTURE).n_context == 5  # "a" before the name, four words behind it


def test_the_first_template():
    assert PromptConfig(ctx_init="an {odd} text").first_template == "an {{odd}} text {}."
    assert PromptConfig(**MIXTURE).first_template == "a photo of a {}."
    assert PromptConfig(ctx_init="").first_template == ""
    assert PromptConfig(**MIXTURE | {"templates": list(TWO)}).templates == TWO


def test_a_family_of_ones_own_states_its_problems(monkeypatch):
    class Mine(GaussianPosterior):
        @classmethod
        def problems(cls, values, names):
            return [f"{names['prior_std']} is not mine"] if values["prior_std"] != 2 else []

    monkeypatch.setitem(POSTERIORS, "mine", Mine)
    assert PromptConfig(posterior="mine", prior_std=2.0).posterior == "mine"
    with pytest.raises(ConfigError, match="prior_std is not mine"):
        PromptConfig(posterior="mine")
