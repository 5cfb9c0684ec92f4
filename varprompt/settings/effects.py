"""Options that are set and change nothing, and why: whoever sets one is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yacs.config import CfgNode

from ..posteriors import POSTERIORS
from ..posteriors.mixture import of_each
from .nodes import Declaration, class_of, default_tree, is_deep, keys_of
from .option import leaves, value_of
from .options import UNREAD
from .prompt_options import FOR_ALL


def _no_bound(values: Mapping[str, Any]) -> bool:
    return not values.get("kl_weight", 1)


def _pairless(values: Mapping[str, Any]) -> bool:
    numbers = {_each(values, field) for field in ("n_samples", "n_samples_test")}
    return values.get("sampler") == "antithetic" and numbers == {1}


# field of `PromptConfig` -> when it changes nothing, and the field that is the reason
_IDLE: dict[str, tuple[Callable[[Mapping[str, Any]], bool], str]] = {
    "prior_std": (_no_bound, "kl_weight"),
    "prior_mean": (_no_bound, "kl_weight"),
    "kl_reduction": (_no_bound, "kl_weight"),
    "prior_unit": (lambda v: _no_bound(v) and v.get("logvar_init") is None, "kl_weight"),
    "objective": (lambda v: _all(v, "n_samples") == 1, "n_samples"),
    "merge": (lambda v: _all(v, "n_samples_test") == 1, "n_samples_test"),
    "sampler": (_pairless, "n_samples"),
}


def without_effect(cfg: CfgNode, trainer: type[Declaration] | str) -> dict[str, str]:
    """Keys with another value than by default that change nothing, and why, " with POSTERIOR x".

    They are of another trainer ("" is why), not read by the posterior, or idle by another option.
    """
    from dassl.config import get_cfg_default

    trainer = class_of(trainer)
    own = f"TRAINER.{trainer.node}."
    idle = _idle(cfg, trainer)
    read = {"TRAINER.NAME", *FOR_ALL, *trainer.also_reads}
    default = dict(leaves(get_cfg_default())) | dict(leaves(default_tree()))
    return {
        key: idle.get(key, "")
        for key, value in leaves(cfg)
        if key in idle
        or (key.startswith(("TRAINER.", *UNREAD)) and not key.startswith(own) and key not in read)
        if key not in default or default[key] != value
    }


def _idle(cfg: CfgNode, trainer: type[Declaration]) -> dict[str, str]:
    """Keys of the trainer that change nothing, and why."""
    keys = keys_of(cfg, trainer)
    values = {field: value_of(cfg, key) for field, key in keys.items()}
    name = values.get("posterior", trainer.posterior)
    family = POSTERIORS.get(name)
    reasons = {field: why for field, (idle, why) in _IDLE.items() if idle(values)}
    if family is None:  # one context, one text
        reasons["merge"] = ""
    else:
        mixed = name == "mixture" and not is_deep(trainer)
        unread = (*family.not_read(values), *(("n_ctx",) if mixed else ()))
        reasons |= dict.fromkeys(unread, "posterior" if "posterior" in keys else "")

    def said(field: str) -> str:
        return f" with {keys[field].rpartition('.')[2]} {values[field]}" if field in keys else ""

    return {keys[field]: said(why) for field, why in reasons.items() if field in keys}


def _each(values: Mapping[str, Any], field: str) -> int:
    n_samples = values.get(field) or values.get("n_samples", 1)
    return of_each(n_samples, len(values.get("templates", ())))


def _all(values: Mapping[str, Any], field: str) -> int:
    return _each(values, field) * max(1, len(values.get("templates", ())))
