"""Text towers and tokenizers of `open_clip`, taken apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .adapt import TextParts, pooled_form
from .forms import TextForm, tokenizer_form
from .pieces import byte_pair_piece


def text_form_of(tokenizer: Any, tower: Any, model: Any, source: str) -> TextForm:
    """How a text tower of `open_clip` takes its texts.

    Args:
        tokenizer: that of the library for the model.
        tower: the module with the text tower's parts; of the older models that is `model`.
        model: the library's.
        source: for errors.

    Raises:
        ConfigError: tower and tokenizer do not go together, or are of an unknown form.
    """
    vocabulary = len(tower.token_embedding.weight)
    if hasattr(tokenizer, "sot_token_id"):
        start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
        marks = {tokenizer.decoder[i]: i for i in tokenizer.all_special_ids}
        form = TextForm(tokenizer.encode, (start,), (end,), 0, marks, vocabulary,
                        piece=byte_pair_piece(tokenizer))  # fmt: skip
    elif getattr(tokenizer, "tokenizer_mode", "") == "":
        form = tokenizer_form(
            tokenizer.tokenizer, vocabulary, tokenizer.clean_fn, tokenizer.strip_sep_token
        )
    else:
        raise ConfigError(f"the tokenizer mode {tokenizer.tokenizer_mode!r} of {source} is unknown")
    if getattr(tower, "cls_emb", None) is not None:
        if tower.attn_mask is None or getattr(tower, "correct_cls_mask", False):
            raise ConfigError(f"the class token of {source} sees other tokens than CoCa's")
        # the class token sees one padding token behind the text, and not itself: so CoCa's were
        # trained, see `correct_cls_mask` there; its embedding is the last row of the table here
        return replace(form, end=(*form.end, tower.pad_id, vocabulary), apart=True)
    pool = tower.pool_type if hasattr(tower, "pool_type") else model.text_pool_type
    end = tower.eos_id if hasattr(tower, "eos_id") else model.text_eos_id
    if pool in ("argmax", "eos"):
        form = pooled_form(form, pool, end, source)
    elif pool not in ("first", "last"):
        raise ConfigError(f"the text tower of {source} pools by {pool!r}, which is unknown")
    read = "end" if pool in ("argmax", "eos") else pool
    return replace(form, causal=tower.attn_mask is not None, read=read)


def text_parts(tower: Any, form: TextForm) -> TextParts:
    """The tower's values, see `text_form_of`."""
    words = tower.token_embedding.weight
    blocks = tower.transformer.resblocks
    projection: Any = tower.text_projection
    bias = None
    if isinstance(projection, torch.nn.Linear):
        projection, bias = projection.weight.T, projection.bias
    elif projection is None:
        projection = torch.eye(words.shape[1])
    state = {
        "token_embedding.weight": torch.cat([words, tower.cls_emb[None]]) if form.apart else words,
        "positional_embedding": tower.positional_embedding,
        "ln_final.weight": tower.ln_final.weight,
        "ln_final.bias": tower.ln_final.bias,
        "text_projection": projection,
        **({} if bias is None else {"text_bias": bias}),
    }
    first = blocks[0]
    return TextParts(
        state, [_layer(block) for block in blocks], first.attn.num_heads, first.mlp.gelu,
        first.ln_1.eps, form,
    )  # fmt: skip


def _layer(block: Any) -> dict[str, Tensor]:
    """A layer's values; factors that scale its two outputs go into the matrices in front of them.

    Raises:
        ConfigError: it has parts that CLIP's layers do not have.
    """
    values = block.state_dict()
    for name, output in (("ls_1.gamma", "attn.out_proj"), ("ls_2.gamma", "mlp.c_proj")):
        gamma = values.pop(name, None)
        if gamma is not None:
            values[f"{output}.weight"] = gamma[:, None] * values[f"{output}.weight"]
            values[f"{output}.bias"] = gamma * values[f"{output}.bias"]
    known = {"ln_1", "attn", "ln_2", "mlp"}
    kinds = {"ln_1", "attn", "ln_2", "ls_1", "ls_2", "mlp"}
    extra = {name.split(".")[0] for name in values} - known
    if extra or not isinstance(block.attn, torch.nn.MultiheadAttention):
        names = sorted(extra or {n for n, _ in block.named_children()} - kinds or {"attn"})
        raise ConfigError(f"the layers of the text tower have the unknown parts {names}")
    return values
