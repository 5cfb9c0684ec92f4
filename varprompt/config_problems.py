"""What can be wrong with a `varprompt.config.PromptConfig`, besides the limits of single fields.

Every function but the last takes fields -> values, all of them, and the same fields -> how the user
calls them, and gives each problem in one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .common.checks import check_choice, check_range, check_template
from .errors import ConfigError, brief
from .posteriors import LOGVAR_BOUNDS, POSTERIORS

LONGEST = 75  # context tokens: CLIP reads 77, of which the first and the last are its own
FRESH_NOISE = -1  # as test_seed
_OF_POSTERIOR = (
    "logvar_init", "n_samples", "sampler", "conditional", "residual", "prior_std", "prior_unit",
    "rank", "component", "objective", "kl_weight", "kl_reduction",
)  # fmt: skip


def context_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Words, their number, and one context per class."""
    n_ctx, words = values["n_ctx"], values["ctx_init"]
    problems: list[str] = []
    if not isinstance(words, str):
        return [f"{names['ctx_init']} is {words!r}; give words, or '' for random vectors"]
    if n_ctx is not None:
        check_range(n_ctx, 1, LONGEST, names["n_ctx"], problems, whole=True)
    if not words or problems:
        return problems
    if values["class_specific"]:
        problems.append(
            f"{names['class_specific']} is True but {names['ctx_init']} {words!r} makes one "
            "context for all classes; drop one of the two"
        )
    count = len(words.split())
    if "|" in words:
        problems.append(
            f"{names['ctx_init']} {words!r} has templates separated by |: give them, with {{}} for "
            f"the class name, as {names['templates']}, such as ['a photo of a {{}}.', 'my {{}}.']"
        )
    elif "{}" in words:
        problems.append(
            f"{names['ctx_init']} {words!r} has a {{}}, but the class name stands behind these "
            f"words by itself: leave it out, or give two or more texts with {{}} each as "
            f"{names['templates']}"
        )
    elif n_ctx is not None and n_ctx < count and not values["keep_words"]:
        # more: words of several tokens, if any are
        problems.append(
            f"{names['n_ctx']} is {n_ctx} but {names['ctx_init']} {words!r} has {count} words; "
            f"give {names['n_ctx'].rpartition('.')[2]} {count}, or "
            f"{names['ctx_init'].rpartition('.')[2]} '' to start from random vectors"
        )
    return problems


def template_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Templates are for a mixture, and units are those of words."""
    given = values["templates"]
    problems: list[str] = []
    if not isinstance(given, list | tuple):
        return [f"{names['templates']} is {given!r}; give a list of texts with a {{}} each"]
    for text in given:
        check_template(text, names["templates"], problems)
    if given and values["posterior"] != "mixture":
        problems.append(
            f"{names['templates']} has {len(given)} templates, which only {names['posterior']} "
            f"'mixture' takes; for one context give {names['ctx_init']}"
        )
    if given and values["position"] != "end":
        problems.append(
            f"{names['position']} is {values['position']!r}, but templates say themselves where "
            "the class name stands: give end"
        )
    if values["prior_unit"] == "token_rms" and not (given or values["ctx_init"]):
        problems.append(
            f"{names['prior_unit']} is 'token_rms', but there are no words that the prompts start "
            f"from: give {names['ctx_init']}"
        )
    return problems


def class_words_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Contexts that begin at the words of their class begin at words, and are shared until then."""
    where = f"{names['class_words']} is {values['class_words']!r}"
    if not values["class_words"]:
        return []
    if values["class_specific"]:
        return [f"{where}, but {names['class_specific']} is True: each class has a context already"]
    if values["depth"] != 1:
        return [
            f"{where}, but prompts of deeper layers ({names['depth']} {values['depth']!r}) belong "
            f"to one context for all classes: set {names['class_words']} to 0, or the other to 1"
        ]
    if not (values["templates"] or values["ctx_init"]):
        return [
            f"{where}, but there are no words that the prompts start from: give {names['ctx_init']}"
        ]
    return []


def deep_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Prompts of deeper layers and of the image tower, and residuals that concern them."""
    problems = []
    visual = values["coupled"] or values["n_ctx_visual"] and values["depth_visual"]
    if values["depth"] != 1 or visual:
        if values["class_specific"]:
            problems.append(
                f"{names['class_specific']} is True, but prompts of deeper layers and of the image "
                "tower belong to one context for all classes"
            )
        if values["position"] != "end":
            problems.append(
                f"{names['position']} is {values['position']!r}, but prompts of deeper layers "
                "stand in front of the class name: give end"
            )
    if values["residual"] == "per_layer" and values["depth"] == 1:
        problems.append(
            f"{names['residual']} is 'per_layer', but only the first layer has prompts "
            f"({names['depth']} 1): that is 'shared'"
        )
    if values["couple_residual"] and not (values["coupled"] and values["posterior"]):
        problems.append(
            f"{names['couple_residual']} is True, but there is no residual, or no map from the "
            "text tower's prompts to visual ones that it could go through"
        )
    if values["couple_residual"] and values["merge"]:
        problems.append(
            f"{names['merge']} is True, but with {names['couple_residual']} True every sample has "
            "image features of its own: their texts cannot be averaged"
        )
    if values["couple_residual"] and values["test_seed"] == FRESH_NOISE:
        problems.append(
            f"{names['test_seed']} is {FRESH_NOISE}, but with {names['couple_residual']} True "
            "images are encoded once with the samples of the test: give a seed"
        )
    return problems


def prior_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """A prior of the class of an image needs a posterior that can come near it."""
    if values["prior_mean"] == "zero":
        return []
    where = f"{names['prior_mean']} is {values['prior_mean']!r}"
    problems = []
    family = POSTERIORS.get(values["posterior"])
    if family is None or not family.prior_is_normal:
        problems.append(
            f"{where}, but {names['posterior']} {values['posterior']!r} has no normal prior"
        )
    if not values["conditional"]:
        problems.append(
            f"{where}, but {names['conditional']} is False: one residual for all images cannot be "
            "near the words of each class"
        )
    return problems


def logvar_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The log-variance to start from."""
    logvar, name = values["logvar_init"], names["logvar_init"]
    if logvar is None:
        return []
    if type(logvar) not in (int, float):
        return [f"{name} is {logvar!r}; give a number or None"]
    if LOGVAR_BOUNDS[0] < logvar < LOGVAR_BOUNDS[1]:
        return []
    return [f"{name} is {logvar}; it must lie within {LOGVAR_BOUNDS}"]


def posterior_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The family exists, and can do what the other fields ask for."""
    name, conditional = values["posterior"], values["conditional"]
    problems: list[str] = []
    check_choice(name, POSTERIORS, names["posterior"], problems)
    if problems:
        return [f"{problems[0]}; one of your own is there once its module is imported (--import)"]
    family = POSTERIORS[name]
    if conditional not in family.conditional_options:
        problems.append(
            f"{names['posterior']} {name!r} "
            + ("cannot depend" if conditional else "always depends")
            + f" on the image, but {names['conditional']} is {conditional}"
        )
    if values["class_specific"]:
        problems.append(f"{names['class_specific']} is True, but {name!r} needs one context")
    if conditional and values["kl_reduction"] == "elbo":
        problems.append(
            f"{names['kl_reduction']} is 'elbo', but a posterior of each image has a KL of its "
            "own: 'sum' is its evidence lower bound, 'sum_per_image' the number that 'elbo' gives"
        )
    return problems + family.problems(values, names)


def pointless_problems(
    values: Mapping[str, Any], names: Mapping[str, str], default: Mapping[str, Any]
) -> list[str]:
    """Without a posterior nothing is drawn: what says how would be left out without a word."""
    problems = []
    if not values["learn_context"]:
        problems.append(
            f"{names['learn_context']} is False and there is no {names['posterior']}: nothing "
            "would be learned"
        )
    said = [f"{names[f]} {values[f]!r}" for f in _OF_POSTERIOR if values[f] != default[f]]
    if said:
        problems.append(
            f"{', '.join(said)}: this means nothing without a {names['posterior']}; choose one "
            f"from {', '.join(POSTERIORS)}"
        )
    return problems


def check_names(names: Sequence[str], same_names: bool) -> None:
    """Names of classes are a list of words; equal prompts could not be told apart.

    Raises:
        ConfigError: they are none, empty, or stand twice and `same_names` is False.
    """
    listed = isinstance(names, Sequence) and not isinstance(names, str | bytes)
    if not listed or not all(isinstance(name, str) for name in names):  # a set has no order
        raise ConfigError(f"class names are {brief(names)}; give a list of strings")
    if not names:
        raise ConfigError("there are no class names: give at least one")
    if blank := [i for i, name in enumerate(names) if not name.replace("_", " ").strip()]:
        raise ConfigError(f"the class names number {blank[:10]} are empty")
    counts = Counter(" ".join(name.replace("_", " ").split()).lower() for name in names)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated and not same_names:
        raise ConfigError(
            f"class names stand for several classes, {repeated[:10]}: equal prompts cannot be told "
            "apart; rename them (in Python PromptedCLIP takes same_names=True)"
        )
