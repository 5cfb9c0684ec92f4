"""Where what is learned starts: at words, at random vectors, or at several templates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import PromptConfig
from .errors import ConfigError
from .towers.templates import Template, embed_template, token_rms
from .towers.tokens import embed_words, encode


@dataclass(frozen=True)
class Start:
    """Initial values of a prompt learner.

    Attributes:
        context: `(M, D)`, or `(C, M, D)` if class-specific.
        words: fixed ones between context and class name, `(F, D)`, of a mixture `(G, F, D)`; None
            = none.
        anchors: what turns the context into each of G templates, `(G, M, D)`; None = no templates.
        lengths: tokens of each template; M is the most.
        unit: what standard deviations are multiples of.
    """

    context: Tensor
    words: Tensor | None = None
    anchors: Tensor | None = None
    lengths: tuple[int, ...] = ()
    unit: float = 1.0

    def logvar(self, logvar: float | None) -> float | None:
        """A log-variance of the configuration in the tower's own units."""
        return None if logvar is None else logvar + 2 * math.log(self.unit)


def embedded_templates(clip_model: Any, cfg: PromptConfig) -> list[Template]:
    """The templates of a mixture, [] of anything else."""
    return [embed_template(clip_model, text) for text in cfg.templates]


def start_of(clip_model: Any, cfg: PromptConfig, n_classes: int) -> Start:
    """What `cfg` says, in front of the given CLIP and on its device.

    Raises:
        ConfigError: another number of tokens than the words have; templates of unlike shape where
            layers of a tower have prompts of their own.
    """
    texts = [text.replace("{}", " ") for text in cfg.templates] or [cfg.ctx_init]
    unit = token_rms(clip_model, texts) if cfg.prior_unit == "token_rms" else 1.0
    if cfg.templates:
        return _at_templates(embedded_templates(clip_model, cfg), cfg, unit)
    weight = clip_model.token_embedding.weight
    if not cfg.ctx_init:  # N(0, 0.02^2) as in CoOp
        shape = (n_classes,) if cfg.class_specific else ()
        random = torch.randn(*shape, cfg.n_context, weight.shape[1]) * 0.02
        return Start(random.to(weight.device), unit=unit)
    _check_count(len(encode(cfg.ctx_init, clip_model)), cfg)
    embedded = embed_words(clip_model, cfg.ctx_init)
    n_ctx = (cfg.keep_words and cfg.n_ctx) or len(embedded)
    return Start(embedded[:n_ctx], _behind(embedded, n_ctx), unit=unit)


def _at_templates(templates: list[Template], cfg: PromptConfig, unit: float) -> Start:
    rows, shapes = [t.embeddings for t in templates], {t.shape for t in templates}
    if cfg.keep_words and (len(shapes) > 1 or any(n < m for n, m in shapes)):
        raise ConfigError(
            "templates of prompts in several layers must have equally many tokens before the class "
            f"name and nothing but a full stop behind it, got {list(cfg.templates)}"
        )
    lengths = tuple(map(len, rows))
    if cfg.keep_words and cfg.n_ctx is not None:
        _check_count(lengths[0], cfg)
        lengths = (cfg.n_ctx,) * len(rows)
    most = max(lengths)
    words = _behind(torch.stack(rows), most) if cfg.keep_words else None
    padded = torch.stack([F.pad(row, (0, 0, 0, max(0, most - len(row))))[:most] for row in rows])
    return Start(padded[0], words, padded - padded[0], lengths, unit)


def _behind(embedded: Tensor, n_ctx: int) -> Tensor | None:
    """What stands behind the context."""
    return embedded[..., n_ctx:, :] if n_ctx < embedded.shape[-2] else None


def _check_count(count: int, cfg: PromptConfig) -> None:
    if cfg.n_ctx is None or cfg.n_ctx == count or (cfg.keep_words and cfg.n_ctx < count):
        return
    words = (
        f"TEMPLATES {list(cfg.templates)} have"
        if cfg.templates
        else f"CTX_INIT {cfg.ctx_init!r} has"
    )
    raise ConfigError(
        f"N_CTX is {cfg.n_ctx} but {words} {count} tokens (a word may be several); give N_CTX "
        f"{count}, or CTX_INIT '' to start from random vectors"
    )
