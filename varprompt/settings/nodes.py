"""From the tree of options to a `PromptConfig`, by what a trainer declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from yacs.config import CfgNode

from ..common.checks import check_choice
from ..config import PromptConfig
from ..errors import ConfigError
from ..posteriors import POSTERIORS
from .limits import limit_problems
from .option import DASSL, Option, node_options, place_of, value_of
from .options import OPTIONS
from .prompt_options import (
    AVERAGE,
    CONDITIONAL,
    COUPLE_RESIDUAL,
    FOR_ALL,
    OF_PROMPT,
    PROMPTS,
    VARIATIONAL,
    WEIGHTS,
)

_FIELDS = {name: option.field for name, option in OF_PROMPT.items()}


class Declaration(Protocol):
    """What a trainer's class says of itself; `trainers.build.BuiltTrainer` explains it."""

    node: ClassVar[str]
    prompt: ClassVar[str]
    conditional: ClassVar[bool | None]
    variational: ClassVar[bool]
    posterior: ClassVar[str]
    regularisers: ClassVar[Mapping[str, str | float]]
    averages: ClassVar[bool]
    also_reads: ClassVar[tuple[str, ...]]


def extend_cfg(cfg: CfgNode) -> None:
    """Add the nodes TRAINER.VPT, .COOP, .COCOOP, .ZEROSHOT and the single keys.

    What is there is kept.
    """
    _add(cfg, OPTIONS)


def add_node(cfg: CfgNode, trainer: type[Declaration]) -> None:
    """Add the node of a trainer, with the options of what it declares; what is there is kept."""
    if not trainer.node:
        return  # it is refused if anybody asks for it
    rows = node_options(trainer.node, _options(trainer))
    _add(cfg, {key: OPTIONS.get(key, option) for key, option in rows.items()})


def _options(trainer: type[Declaration]) -> dict[str, Option]:
    """The options of a trainer's node, by what it declares."""
    options = dict(PROMPTS[trainer.prompt])
    if trainer.variational:
        options |= VARIATIONAL | (CONDITIONAL if trainer.conditional is None else {})
        options |= COUPLE_RESIDUAL if trainer.prompt == "coupled" else {}
    weights = [name for name in trainer.regularisers.values() if isinstance(name, str)]
    options |= {name: WEIGHTS[name] for name in weights}
    return options | (AVERAGE if trainer.averages else {})


def default_tree() -> CfgNode:
    """All options at their defaults: Dassl's, this project's, those of the registered trainers."""
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY

    cfg = get_cfg_default()
    for name in set(cfg.TRAINER) - {"NAME"}:
        del cfg.TRAINER[name]  # of Dassl's own trainers, which learn no prompts
    extend_cfg(cfg)
    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_cfg", None)
        if extend:
            extend(cfg)
    return cfg


def drop_unused(cfg: CfgNode) -> None:
    """Remove the nodes of plugged-in trainers that a run neither uses nor sets.

    Then it is the same run whether a plug-in of other trainers is loaded or not.
    """
    from dassl.engine import TRAINER_REGISTRY

    name, default = cfg.TRAINER.NAME, default_tree().TRAINER
    used = {key.split(".")[1] for key in OPTIONS if key.startswith("TRAINER.")}
    if name in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(name)
        keys = getattr(trainer, "also_reads", ())
        used |= {getattr(trainer, "node", ""), *(key.split(".")[1] for key in keys)}
    for node in set(cfg.TRAINER) - used - {"NAME"}:
        if cfg.TRAINER[node] == default.get(node):
            del cfg.TRAINER[node]


def prompt_config(cfg: CfgNode, trainer: type[Declaration] | str) -> PromptConfig:
    """The validated configuration of `trainer`, its class or registered name.

    Raises:
        ConfigError: everything that is wrong, at once, in the options of the other parts too; or
            the trainer declares no node.
    """
    trainer = class_of(trainer)
    keys = keys_of(cfg, trainer)
    values = {field: value_of(cfg, key) for field, key in keys.items()}
    values["ctx_init"] = values.get("ctx_init", "").replace("_", " ").strip()
    deep = is_deep(trainer)
    mixed = values.get("posterior") == "mixture"
    words_decide = not deep and (not trainer.variational or values.get("n_ctx") == 0)
    if (values["ctx_init"] and words_decide) or (mixed and not deep):
        values["n_ctx"] = None  # as in CoOp
    values.setdefault("posterior", trainer.posterior)
    if "conditional" not in keys:
        values["conditional"] = bool(trainer.conditional)
    values |= {"keep_words": deep, "coupled": trainer.prompt == "coupled"}
    names = {"conditional": f"{trainer.__name__}.conditional"} | keys
    problems = limit_problems(cfg) + PromptConfig.problems(values, names)
    problems += _other_problems(cfg, trainer)
    if trainer.variational and not values["posterior"]:
        check_choice("", POSTERIORS, keys["posterior"], problems)
    if problems:
        raise ConfigError(problems)
    return PromptConfig(**values)


def _other_problems(cfg: CfgNode, trainer: type[Declaration]) -> list[str]:
    """What is wrong with a trainer's options that are not of the prompt."""
    problems: list[str] = []
    for key, option in node_options(trainer.node, _options(trainer)).items():
        if not option.field:
            option.check(value_of(cfg, key), key, problems)
    return problems


def weights_of(cfg: CfgNode, trainer: type[Declaration]) -> dict[str, float]:
    """The weight of each of a trainer's regularisers."""
    node = cfg.TRAINER[_node_name(trainer)]
    weights = trainer.regularisers.items()
    return {name: float(node[w] if isinstance(w, str) else w) for name, w in weights}


def is_deep(trainer: type[Declaration]) -> bool:
    """Whether layers of the towers may have prompts of their own, N_CTX of them in each."""
    return trainer.prompt in ("coupled", "independent")


def learns(trainer: type[Declaration] | str) -> bool:
    """Whether `trainer` has anything to train and to save."""
    return bool(class_of(trainer).prompt)


def _add(cfg: CfgNode, options: Mapping[str, Option]) -> None:
    for key, option in options.items():
        node, name = place_of(cfg, key)
        if name not in node and option.default is not DASSL:
            node[name] = option.default


def class_of(trainer: type[Declaration] | str) -> type[Declaration]:
    """A trainer's class, given that or its registered name.

    Raises:
        ConfigError: there is none of that name.
    """
    if not isinstance(trainer, str):
        return trainer
    from dassl.engine import TRAINER_REGISTRY

    if trainer not in TRAINER_REGISTRY.registered_names():
        raise ConfigError(f"no trainer {trainer!r} is registered; import its module first")
    found: type[Declaration] = TRAINER_REGISTRY.get(trainer)
    return found


def _node_name(trainer: type[Declaration]) -> str:
    if not getattr(trainer, "node", ""):
        raise ConfigError(
            f"the trainer {trainer.__name__} does not declare what it is: set node (the name of "
            "its options, TRAINER.<node>), prompt, conditional and variational in its class, as "
            "trainers/vpt.py does, or derive it from a trainer that has them"
        )
    return trainer.node


def keys_of(cfg: CfgNode, trainer: type[Declaration]) -> dict[str, str]:
    """Field of `PromptConfig` -> the key that `trainer` takes it from."""
    node = _node_name(trainer)
    fields = {}
    for name in cfg.TRAINER[node]:
        key = f"TRAINER.{node}.{name}"  # TEMPLATES of zero-shot CLIP are not those of a mixture
        fields[OPTIONS[key].field if key in OPTIONS else _FIELDS.get(name, "")] = key
    for key in trainer.also_reads:
        fields.setdefault(_FIELDS.get(key.rpartition(".")[2], ""), key)
    fields.pop("", None)
    return fields | {option.field: key for key, option in FOR_ALL.items()}
