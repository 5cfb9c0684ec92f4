"""What a prompted CLIP needs to know, in one validated object without a configuration tree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .checks import check_choice, check_range
from .errors import ConfigError
from .objective import KL_REDUCTIONS, OBJECTIVES
from .ops import SAMPLERS
from .posteriors import LOGVAR_BOUNDS, POSTERIORS
from .towers.load import PRECISIONS
from .towers.tokens import POSITIONS

RESIDUALS = ("shared", "per_token")
LONGEST = 75  # context tokens: CLIP reads 77, of which the first and the last are its own
MOST_SAMPLES = 10**5
FRESH_NOISE = -1  # as test_seed
_DEFAULT_N_CTX = 4
_CHOICES: dict[str, Any] = {
    "precision": PRECISIONS, "position": POSITIONS, "class_specific": (False, True),
    "conditional": (False, True), "residual": RESIDUALS, "learn_context": (False, True),
    "sampler": SAMPLERS, "objective": OBJECTIVES, "kl_reduction": KL_REDUCTIONS,
}  # fmt: skip
# least, greatest value, whether whole
_RANGES: dict[str, tuple[float, float, bool]] = {
    "prior_std": (1e-6, 1e6, False), "rank": (1, 1000, True), "n_samples": (1, MOST_SAMPLES, True),
    "n_samples_test": (0, MOST_SAMPLES, True), "test_seed": (FRESH_NOISE, 2**63 - 1, True),
    "kl_weight": (0, 1e6, False), "mem_budget": (0, math.inf, True),
}  # fmt: skip


@dataclass(frozen=True)
class PromptConfig:
    """All that `varprompt.PromptedCLIP` needs to know.

    Attributes:
        precision: number format of the towers; what is learned is always float32.
        n_ctx: M, context tokens; None = as many as `ctx_init` has, 4 without words.
        ctx_init: words that the context starts from, "" = random vectors. Posterior "mixture"
            takes several templates of equally many words, separated by "|".
        position: where the class name stands, see `varprompt.towers.tokens.class_tokens`.
        class_specific: one context for each class.
        posterior: a name in `varprompt.POSTERIORS`, or "" for no residual.
        conditional: whether the posterior depends on the image.
        residual: "shared" by all context tokens (R = 1), or "per_token" (R = M).
        learn_context: False keeps the context at its initial value.
        logvar_init: initial log-variance of the posterior; None = its own start.
        prior_std: standard deviation s of the prior.
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

    Raises:
        ConfigError: everything that is wrong, at once.
    """

    precision: str = "fp32"
    n_ctx: int | None = None
    ctx_init: str = "a photo of a"
    position: str = "end"
    class_specific: bool = False
    posterior: str = ""
    conditional: bool = False
    residual: str = "shared"
    learn_context: bool = True
    logvar_init: float | None = None
    prior_std: float = 1.0
    rank: int = 4
    sampler: str = "gaussian"
    n_samples: int = 1
    n_samples_test: int = 0
    test_seed: int = 0
    objective: str = "iwae"
    kl_weight: float = 0.0
    kl_reduction: str = "mean"
    mem_budget: int = 0

    def __post_init__(self) -> None:
        problems = self.problems(asdict(self))
        if problems:
            raise ConfigError(problems)

    @property
    def templates(self) -> tuple[str, ...]:
        """The parts of `ctx_init`, none if the context starts from random vectors."""
        return tuple(t.strip() for t in self.ctx_init.split("|")) if self.ctx_init else ()

    @property
    def n_context(self) -> int:
        """M, with the default resolved, if every word of `ctx_init` is one token of the CLIP."""
        if self.ctx_init:
            return len(self.templates[0].split())
        return self.n_ctx or _DEFAULT_N_CTX

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
        problems += _context_problems(values, names) + _logvar_problems(values, names)
        if values["posterior"] != "":
            problems += _posterior_problems(values, names)
        elif not values["learn_context"]:
            problems.append(
                f"{names['learn_context']} is False and there is no {names['posterior']}: nothing "
                "would be learned"
            )
        return problems


def allowed(field: str) -> tuple[tuple[Any, ...], float, float]:
    """What a field may be: its choices, () where there are others, and the least and most."""
    choices = _CHOICES.get(field, POSTERIORS if field == "posterior" else ())
    least, most, _ = _RANGES.get(field, (-math.inf, math.inf, False))
    return tuple(choices), least, most


def _context_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
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
    counts = [len(template.split()) for template in words.split("|")]
    if 0 in counts or len(set(counts)) > 1:
        problems.append(
            f"{names['ctx_init']} {words!r} has templates of {counts} words; give equally many"
        )
    elif n_ctx is not None and n_ctx < counts[0]:  # more: words of several tokens, if any are
        problems.append(
            f"{names['n_ctx']} is {n_ctx} but {names['ctx_init']} {words!r} has {counts[0]} words; "
            f"give {names['n_ctx'].rpartition('.')[2]} {counts[0]}, or "
            f"{names['ctx_init'].rpartition('.')[2]} '' to start from random vectors"
        )
    if len(counts) > 1 and values["posterior"] != "mixture":
        problems.append(
            f"{names['ctx_init']} {words!r} has {len(counts)} templates, which only "
            f"{names['posterior']} 'mixture' takes; give one"
        )
    return problems


def _logvar_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    logvar, name = values["logvar_init"], names["logvar_init"]
    if logvar is None:
        return []
    if type(logvar) not in (int, float):
        return [f"{name} is {logvar!r}; give a number or None"]
    if LOGVAR_BOUNDS[0] < logvar < LOGVAR_BOUNDS[1]:
        return []
    return [f"{name} is {logvar}; it must lie within {LOGVAR_BOUNDS}"]


def _posterior_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The family exists, and can do what the other fields ask for."""
    name, conditional = values["posterior"], values["conditional"]
    problems: list[str] = []
    check_choice(name, POSTERIORS, names["posterior"], problems)
    if problems:
        return problems
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


def __getattr__(name: str) -> Any:
    """`extend_cfg`, where CoOp checkouts look for it; it needs yacs, this module does not."""
    if name == "extend_cfg":
        from .settings.nodes import extend_cfg

        return extend_cfg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
