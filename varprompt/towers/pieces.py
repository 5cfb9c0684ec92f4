"""What single tokens say, by the tokenizer that makes them.

A token that only begins a longer word ends with a hyphen; one that says nothing (start, end, part
of a letter) is "".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_END = "</w>"  # of a word, in the byte pairs of CLIP


def unknown_piece(number: int) -> str:
    """Of a tokenizer that does not tell."""
    return ""


def byte_pair_piece(tokenizer: Any) -> Callable[[int], str]:
    """Of OpenAI's tokenizer and open_clip's copy of it: id -> what the token says."""

    def piece(number: int) -> str:
        token = tokenizer.decoder.get(number, "")
        if token.startswith("<") and token.endswith(">") and token != f">{_END}":
            return ""  # <|startoftext|>
        letters = bytes(tokenizer.byte_decoder[c] for c in token.removesuffix(_END))
        return _hyphened(letters.decode("utf-8", "ignore"), token.endswith(_END))

    return piece


def library_piece(tokenizer: Any) -> Callable[[int], str]:
    """Of a tokenizer of `transformers`: id -> what the token says."""
    special, size = set(tokenizer.all_special_ids), len(tokenizer)  # tables are padded

    def piece(number: int) -> str:
        silent = number in special or number >= size
        token = "" if silent else tokenizer.convert_ids_to_tokens(number)
        if not token:
            return ""
        text = tokenizer.decode([number]).strip().strip("\ufffd")
        begins = "\u2581"  # of sentencepiece, which marks where a word begins, not where it ends
        return _hyphened(text, token.endswith(_END) or token.startswith(begins))

    return piece


def _hyphened(text: str, whole: bool) -> str:
    return text if whole or not text else f"{text}-"
