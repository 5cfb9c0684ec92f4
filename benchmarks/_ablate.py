"""Variants of the text encoder that lack one idea each."""

from __future__ import annotations

import dataclasses

import torch

from varprompt.model import PromptedCLIP
from varprompt.towers.load import clip_module
from varprompt.towers.tokens import ClassTokens, _pack, class_tokens, encode

ABLATIONS = {
    "full_length": "prompts of 77 tokens instead of up to the end-of-text token",
    "own_context": "context once per class instead of once per sample",
    "padding": "class names padded to the longest instead of packed",
    "weight_gradients": "weights of the text tower require a gradient",
    "unchunked": "no memory budget",
    "torch_linear": "torch's default matrix products (MKL) instead of oneDNN's",
}


def padded(model: PromptedCLIP, names: list[str], length: int) -> ClassTokens:
    """The class tokens with every own part padded to `length` behind its end."""
    clip_model, n_lead = model.towers.clip, model.tokens.n_lead
    end = [clip_module().clip._tokenizer.encoder["<|endoftext|>"]]
    rows = [encode(f"{name.replace('_', ' ')}.") + end for name in names]
    length = length or max(map(len, rows))
    tokens = _pack(clip_model, names, [r + end * (length - len(r)) for r in rows], n_lead)
    own = torch.tensor([len(r) for r in rows], device=tokens.ends.device)
    return dataclasses.replace(tokens, ends=tokens.ends - length + own[tokens.inverse.argsort()])


def ablate(model: PromptedCLIP, names: list[str], variant: str) -> None:
    """Leave one idea out of `model`."""
    encoder, n_ctx = model.towers.encode_text, model.prompt_learner.n_tokens
    if variant == "full_length":
        model.classes.tokens = padded(model, names, model.towers.clip.context_length - 1 - n_ctx)
    elif variant == "padding":
        model.classes.tokens = padded(model, names, 0)
    elif variant == "own_context":
        forward = encoder.forward
        model.classes.tokens = class_tokens(model.towers.clip, names, n_ctx, class_specific=True)
        encoder.forward = lambda contexts, tokens, deep=None: forward(
            contexts[:, None].expand(-1, len(names), -1, -1), tokens
        )
    elif variant == "weight_gradients":
        model.towers.clip.requires_grad_(True)
    elif variant == "unchunked":
        encoder.mem_budget = 1 << 60
    elif variant == "torch_linear":
        torch._C._set_mkldnn_enabled(False)
