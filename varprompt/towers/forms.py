"""How a CLIP writes a text: the tokens around it, and which one's output is the text's feature."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .build import clip_module
from .pieces import byte_pair_piece, library_piece, unknown_piece


@dataclass(frozen=True)
class TextForm:
    """What a text tower and its tokenizer have agreed on.

    Attributes:
        words: token ids of a text, without what stands around it.
        start: ids in front of every text: of a start token, or none.
        end: ids behind it.
        pad: id that fills what is left of the context length.
        pad_left: it does so in front of the text.
        marks: tokens by name that no text may contain, as they would end or begin it.
        vocabulary: number of tokens that the tower knows.
        causal: a token sees those before it and itself only.
        read: the token whose output is the text's feature: the last one of `end`, or the first
            or last one of the context length.
        apart: the last one of `end` stands at the last position, wherever the text ends, and does
            not see itself, as the class token of CoCa.
        piece: what a token says, by its id; see `varprompt.towers.pieces`.
    """

    words: Callable[[str], list[int]]
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    marks: Mapping[str, int]
    vocabulary: int
    pad_left: bool = False
    causal: bool = True
    read: str = "end"
    apart: bool = False
    piece: Callable[[int], str] = unknown_piece

    @property
    def whole(self) -> bool:
        """Whether prompts are encoded whole, padding included: the plain path."""
        return not self.causal or self.read != "end"


@functools.cache
def openai_form() -> TextForm:
    """That of OpenAI's CLIPs."""
    tokenizer = clip_module().clip._tokenizer
    start, end = (tokenizer.encoder[mark] for mark in ("<|startoftext|>", "<|endoftext|>"))
    marks = {"<|startoftext|>": start, "<|endoftext|>": end}
    piece = byte_pair_piece(tokenizer)
    return TextForm(tokenizer.encode, (start,), (end,), end, marks, end + 1, piece=piece)


def tokenizer_form(
    tokenizer: Any, vocabulary: int, clean: Callable[[str], str] = str, strip: bool = False
) -> TextForm:
    """That of a tokenizer of `transformers`, of a causal tower that reads the end token.

    Args:
        tokenizer: called with a text, and with ``add_special_tokens=False``.
        vocabulary: number of tokens that the tower knows.
        clean: done with a text first.
        strip: zeros stand for what ends a text, as CLIPA was trained.

    Raises:
        ConfigError: it changes the tokens of a text itself when it frames them.
    """

    def words(text: str) -> list[int]:
        return list(tokenizer(clean(text), add_special_tokens=False)["input_ids"])

    bare, framed = words("a dog"), list(tokenizer(clean("a dog"))["input_ids"])
    places = [i for i in range(len(framed)) if framed[i : i + len(bare)] == bare]
    if not places:
        raise ConfigError(f"the tokenizer {type(tokenizer).__name__} has an unknown form")
    start, end = framed[: places[0]], framed[places[0] + len(bare) :]
    # what no word is made of is no mark: a sign that the vocabulary lacks may be in a name
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    marks = {t: i for t, i in special if i in (*start, *end) or i != tokenizer.unk_token_id}
    pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    left = getattr(tokenizer, "padding_side", "right") == "left"
    closing = tuple(0 for _ in end) if strip else tuple(end)
    piece = library_piece(tokenizer)
    return TextForm(words, tuple(start), closing, pad, marks, vocabulary, left, piece=piece)


def text_form(clip_model: Any) -> TextForm:
    """What the model states as ``text_form``; OpenAI's if it states nothing."""
    return getattr(clip_model, "text_form", None) or openai_form()


def encode(text: str, clip_model: Any = None) -> list[int]:
    """Token ids of `text`, without what stands around it.

    Args:
        text: any.
        clip_model: whose tokenizer to use; None = OpenAI's.

    Raises:
        ConfigError: `text` has a mark such as <|endoftext|> written out, which would end the
            prompt there, or a token that the tower does not know.
    """
    form = text_form(clip_model)
    tokens = form.words(text)
    for mark, number in form.marks.items():
        if number in tokens:
            raise ConfigError(f"{text!r} contains {mark}, which belongs to CLIP: leave it out")
    if tokens and max(tokens) >= form.vocabulary:
        raise ConfigError(
            f"the tokenizer makes of {text!r} the token {max(tokens)}, and the tower knows "
            f"{form.vocabulary}: they do not belong together"
        )
    return tokens


def encode_behind(text: str, clip_model: Any) -> list[int]:
    """Token ids of `text` where words stand before it: some tokenizers join the space to a word.

    Raises:
        ConfigError: as `encode`.
    """
    if text_form(clip_model) is openai_form():
        return encode(text)
    before, both = encode("a", clip_model), encode(f"a {text}", clip_model)
    return both[len(before) :] if both[: len(before)] == before else encode(text, clip_model)


def vocabulary(clip_model: Any) -> list[str]:
    """What every token that the tower knows says, by its id; see `varprompt.towers.pieces`."""
    form = text_form(clip_model)
    return [form.piece(number) for number in range(len(clip_model.token_embedding.weight))]


def embed_words(clip_model: Any, text: str) -> Tensor:
    """Token embeddings `(n, D)` of `text`, float32."""
    weight = clip_model.token_embedding.weight
    ids = torch.tensor(encode(text, clip_model), device=weight.device).long()
    return weight[ids].detach().float()


def remarks(clip_model: Any) -> list[str]:
    """Lines for the log about what is not as with OpenAI's CLIPs."""
    form, stated = text_form(clip_model), clip_model.provenance
    lines = []
    if form.whole:
        why = "reads the padding, too" if form.causal else "is not causal"
        lines.append(
            f"The text tower of {stated.source} {why}: each class is encoded whole, with all of "
            f"its {len(clip_model.positional_embedding)} tokens (plain path, slower)"
        )
    if stated.scores == "sigmoid":
        lines.append(
            f"{stated.source} was trained with sigmoid scores of single pairs: probabilities here "
            "are the softmax of its scaled cosines over the classes, in which its bias cancels"
        )
    return lines
