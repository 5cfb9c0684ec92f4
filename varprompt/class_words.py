"""Words of a class, as the mean of their embeddings: contexts begin nearer to them, priors do too.

The context of class c, in front of its name, is

    context_t + s * (w_c - m),    w_c the mean embedding of the words of c, m that of the template,

for every token t (`PromptConfig.class_words` is s). What is learned is `context_t`, the same for
all classes, and w_c is known of every class that has a name: so classes that were not trained on
have theirs. Of a class with several texts (`varprompt.prompt_texts`) each has its own words.
`benchmarks/mixture.py` compares it (docs/mixture.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .config import PromptConfig
from .start import embedded_templates
from .towers.tokens import embed_words


def mean_words(clip_model: Any, texts: Sequence[str]) -> Tensor:
    """w: the mean token embedding of each text `(n, D)`, float32; underscores are spaces."""
    return _means(embed_words(clip_model, text.replace("_", " ")) for text in texts)


def mean_templates(clip_model: Any, config: PromptConfig) -> Tensor:
    """m: the mean token embedding of what each context starts from, `(G, D)`; G = 1 of one."""
    templates = [t.embeddings for t in embedded_templates(clip_model, config)]
    return _means(templates or [embed_words(clip_model, config.ctx_init)])


def _means(rows: Iterable[Tensor]) -> Tensor:
    """Of rows `(n, D)` each; 0 where n is 0, as of the template "{}."."""
    return torch.stack([row.sum(0) / max(1, len(row)) for row in rows])
