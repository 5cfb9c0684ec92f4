"""What a prompted CLIP needs to know, in one validated object without a configuration tree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from .common.checks import check_choice, check_range
from .config_problems import (
    FRESH_NOISE,
    class_words_problems,
    context_problems,
    deep_problems,
    logvar_problems,
    pointless_problems,
    posterior_problems,
    prior_problems,
    template_problems,
)
from .errors import ConfigError, brief
from .objective import KL_REDUCTIONS, OBJECTIVES
from .ops import SAMPLERS
from .posteriors import POSTERIORS
from .posteriors.mixture import COMPONENTS, of_each
from .towers.load import PRECISIONS
from .towers.tokens import POSITIONS

PRIOR_MEANS = ("zero", "class_words")
PRIOR_UNITS = ("absolute", "token_rms")
RESIDUALS = ("shared", "per_token", "per_layer")
DEEPEST = 100
MOST_SAMPLES = 10**5
_DEFAULT_N_CTX = 4
_CHOICES: dict[str, Any] = {
    "precision": PRECISIONS, "position": POSITIONS, "class_specific": (False, True),
    "conditional": (False, True), "residual": RESIDUALS, "learn_context": (False, True),
    "sampler": SAMPLERS, "objective": OBJECTIVES, "kl_reduction": KL_REDUCTIONS,
    "keep_words": (False, True), "coupled": (False, True), "couple_residual": (False, True),
    "prior_mean": PRIOR_MEANS, "prior_unit": PRIOR_UNITS, "component": COMPONENTS,
    "merge": (False, True),
}  # fmt: skip
# least, greatest value, whether whole
_RANGES: dict[str, tuple[float, float, bool]] = {
    "prior_std": (1e-6, 1e6, False), "rank": (1, 1000, True), "n_samples": (1, MOST_SAMPLES, True),
    "n_samples_test": (0, MOST_SAMPLES, True), "test_seed": (FRESH_NOISE, 2**63 - 1, True),
    "kl_weight": (0, 1e6, False), "mem_budget": (0, math.inf, True),
    "depth": (1, DEEPEST, True), "depth_visual": (0, DEEPEST, True),
    "n_ctx_visual": (0, 1000, True), "class_words": (0, 1, False),
}  # fmt: skip


@dataclass(frozen=True)
class PromptConfig:
    """All that `varprompt.PromptedCLIP` needs to know.

    Attributes:
        precision: number format of the towers; what is learned is always float32. The CLIP is put
            into it: models that share one have the same.
        n_ctx: M, context tokens; None = as many as `ctx_init` has, 4 without words.
        ctx_init: words that the context starts from, "" = random vectors. Posterior "mixture" has
            `templates` instead.
        templates: of posterior "mixture", two or more, with a {} each for the class name; words may
            stand before and behind it, as many as you like.
        component: what each component of a mixture is: "gaussian" with a learned log-variance,
            "fixed" with a constant one, or "delta", a point.
        position: where the class name stands, see `varprompt.towers.tokens.class_tokens`.
        class_specific: one context for each class.
        class_words: how far the context of each class begins from the words of `ctx_init`, or each
            of `templates`, on the way to the mean of its own words: 0 = not at all, 1 = there. See
            `varprompt.class_words`.
        posterior: a name in `varprompt.POSTERIORS`, or "" for no residual.
        conditional: whether the posterior depends on the image.
        residual: "shared" by all context tokens (R = 1), one "per_token" (R = M), or one
            "per_layer" of those that have prompts (R = J).
        learn_context: False keeps the context at its initial value.
        logvar_init: initial log-variance of the posterior; None = its own start.
        prior_std: standard deviation s of the prior.
        prior_unit: of both: "absolute", or "token_rms", the root mean square of the embeddings of
            the words that the prompts start from.
        rank: columns of the factor of posterior "low_rank".
        sampler: how noise is drawn, see `varprompt.ops.reparam_kl`.
        n_samples: L in training.
        n_samples_test: L at test, 0 = `n_samples`.
        test_seed: seed of the noise at test, drawn once for all images; -1 draws anew for every
            batch.
        objective: see `varprompt.objective`.
        kl_weight: factor of the KL divergence after its reduction.
        kl_reduction: see `varprompt.objective.kl_scale`.
        mem_budget: bytes for the text tower's activations, 0 = as the device has.
        prior_mean: "zero", or "class_words": while training, the prior of a residual that depends
            on the image is around what turns the initial context into the words of its class.
        keep_words: `n_ctx` may be less than `ctx_init` has words: the others stay, fixed, in front
            of the class name.
        depth: J, layers of the text tower with prompts of their own; 1 = the context alone.
        n_ctx_visual: N, prompts in a layer of the image tower, which must be a ViT.
        depth_visual: layers of the image tower with prompts of their own, 0 = none has.
        coupled: the visual prompts are linear maps of the text tower's, as many and as deep;
            `n_ctx_visual` and `depth_visual` mean nothing then.
        couple_residual: the residual reaches the visual prompts through these maps; the image tower
            then encodes every image for every sample. False: the text tower's prompts alone.
        merge: at test the samples' text features are averaged to one classifier, not normalised
            again. False: their probabilities are.

    Raises:
        ConfigError: everything that is wrong, at once.
    """

    precision: str = "fp32"
    n_ctx: int | None = None
    ctx_init: str = "a photo of a"
    templates: tuple[str, ...] = ()
    component: str = "gaussian"
    position: str = "end"
    class_specific: bool = False
    class_words: float = 0.0
    posterior: str = ""
    conditional: bool = False
    residual: str = "shared"
    learn_context: bool = True
    logvar_init: float | None = None
    prior_std: float = 1.0
    prior_unit: str = "absolute"
    rank: int = 4
    sampler: str = "gaussian"
    n_samples: int = 1
    n_samples_test: int = 0
    test_seed: int = 0
    objective: str = "iwae"
    kl_weight: float = 0.0
    kl_reduction: str = "mean"
    mem_budget: int = 0
    prior_mean: str = "zero"
    keep_words: bool = False
    depth: int = 1
    n_ctx_visual: int = 0
    depth_visual: int = 1
    coupled: bool = False
    couple_residual: bool = False
    merge: bool = False

    def __post_init__(self) -> None:
        problems = self.problems(asdict(self))
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "templates", tuple(self.templates))  # JSON knows lists only

    @property
    def first_template(self) -> str:
        """The prompt that the (first) context starts from, for `str.format`; "" if it is random."""
        if self.templates:
            return self.templates[0]
        words = self.ctx_init.replace("{", "{{").replace("}", "}}")
        return f"{words} {{}}." if words else ""

    @property
    def starts_from(self) -> str:
        """Where contexts begin, in words."""
        words = f'the words "{self.ctx_init}"' if self.ctx_init else "random vectors"
        if self.templates:
            words = f"{len(self.templates)} templates{self._of_each}"
        moved = f", {self.class_words:g} of the way to the words of their class"
        return words + moved * bool(self.class_words)

    @property
    def _of_each(self) -> str:
        """L is rounded up to as many samples of each template; points have one each."""
        if self.component == "delta":
            return ""
        numbers = (self.n_samples, self.n_samples_test or self.n_samples)
        train, test = (of_each(n, len(self.templates)) for n in numbers)
        return f" (samples of each: {train} in training, {test} at test)"

    @property
    def n_context(self) -> int:
        """M, with the default resolved, if every word is one token of the CLIP."""
        texts = [text.replace("{}", "").rstrip(".") for text in self.templates] or [self.ctx_init]
        return max(len(text.split()) for text in texts) or self.n_ctx or _DEFAULT_N_CTX

    @property
    def has_visual(self) -> bool:
        """Whether the image tower has prompts."""
        return self.coupled or bool(self.n_ctx_visual and self.depth_visual)

    @property
    def visual_depth(self) -> int:
        """Layers of the image tower with prompts of their own."""
        return self.depth if self.coupled else self.depth_visual

    @staticmethod
    def problems(values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with a configuration, every problem in one line; [] if nothing is.

        Args:
            values: field -> value; what is missing has its default.
            names: field -> how the user calls it, such as "TRAINER.VPT.POSTERIOR".
        """
        every = {field.name: field for field in fields(PromptConfig)}
        values = {name: field.default for name, field in every.items()} | dict(values)
        names = {name: name for name in every} | dict(names or {})
        problems: list[str] = []
        for field, allowed in _CHOICES.items():
            check_choice(values[field], allowed, names[field], problems)
        for field, (least, most, whole) in _RANGES.items():
            check_range(values[field], least, most, names[field], problems, whole=whole)
        problems += context_problems(values, names) + logvar_problems(values, names)
        problems += template_problems(values, names) + class_words_problems(values, names)
        problems += deep_problems(values, names) + prior_problems(values, names)
        if values["posterior"] != "":
            return problems + posterior_problems(values, names)
        default = {name: field.default for name, field in every.items()}
        return problems or pointless_problems(values, names, default)


def allowed(field: str) -> tuple[tuple[Any, ...], float, float]:
    """What a field may be: its choices, () where there are others, and the least and most."""
    choices = _CHOICES.get(field, POSTERIORS if field == "posterior" else ())
    least, most, _ = _RANGES.get(field, (-math.inf, math.inf, False))
    return tuple(choices), least, most


def check_kinds(clip_model: Any, prompt_config: Any) -> None:
    """Whether a model is made of a CLIP and a `PromptConfig`.

    Raises:
        ConfigError: of something else.
    """
    if not isinstance(prompt_config, PromptConfig):
        raise ConfigError(f"prompt_config is {brief(prompt_config)}; give a PromptConfig(...)")
    if not isinstance(clip_model, nn.Module):
        raise ConfigError(f"clip_model is {brief(clip_model)}; give a CLIP: load_clip('embedded')")


def __getattr__(name: str) -> Any:
    """`extend_cfg`, where CoOp checkouts look for it; it needs yacs, this module does not."""
    if name == "extend_cfg":
        from .settings.nodes import extend_cfg

        return extend_cfg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
