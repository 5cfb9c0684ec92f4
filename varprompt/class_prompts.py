"""The classes behind learned contexts: their tokens, and how each becomes one text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from .class_words import mean_templates, mean_words
from .config import PromptConfig
from .deep import Prompts
from .errors import ConfigError, brief
from .prompt_texts import mean_of_texts
from .start import embedded_templates
from .towers.shapes import Shape, encode_by_shape
from .towers.tokens import class_tokens, encode


class ClassPrompts(nn.Module):
    """What the text tower reads of the classes.

    The words of a class in its context (`PromptConfig.class_words`) are two summands: s * w_c is a
    part of the class's tokens, -s * m is added to the contexts, which all classes share. So no
    context of a single class is ever stored, however many classes there are.

    Args:
        clip_model: gives tokens and embeddings.
        lists: what each class is called, one text or several.
        config: how prompts are made.
        n_tokens: context tokens of a prompt where no templates tell it.

    Attributes:
        n_texts: how many texts each class has.
        shapes: of each template of a mixture, else one shape for all.
        tokens_of: the classes, of each shape.
        tokens: those of the first shape.

    Raises:
        ConfigError: names that do not fit the context length; several texts for a class where each
            has a context of its own; deeper prompts in front of a tower that is not causal.
    """

    centres: Tensor | None

    def __init__(
        self, clip_model: Any, lists: Sequence[Sequence[str]], config: PromptConfig, n_tokens: int
    ):
        super().__init__()
        self.n_texts = [len(own) for own in lists]
        if config.class_specific and max(self.n_texts) > 1:
            raise ConfigError("a context for each class leaves no room for several texts of one")
        names = [text for own in lists for text in own]
        templates = embedded_templates(clip_model, config)
        self.shapes: list[Shape] = [t.shape for t in templates] or [(None, n_tokens)]
        self.tokens_of = {
            (before, n): class_tokens(
                clip_model, names, n, position=config.position, n_before=before,
                class_specific=config.class_specific or config.class_words > 0,
            )
            for before, n in dict.fromkeys(self.shapes)
        }  # fmt: skip
        centres = None
        if config.class_words:
            words = config.class_words * mean_words(clip_model, names)
            self.tokens_of = {shape: own.moved(words) for shape, own in self.tokens_of.items()}
            centres = config.class_words * mean_templates(clip_model, config)[:, None, None]
        self.register_buffer("centres", centres, persistent=False)  # (G, 1, 1, D)
        self.tokens = self.tokens_of[self.shapes[0]]
        if config.depth > 1 and self.tokens.n_lead < n_tokens:
            raise ConfigError(
                "prompts of deeper layers need a causal text tower, in which they are the same for "
                f"all classes: {clip_model.provenance.source} has another"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> ClassPrompts:
        """What `to` and `cuda` go through: the tokens move along."""
        super()._apply(fn, *args, **options)
        device = fn(self.tokens.start).device
        self.tokens_of = {shape: own.to(device) for shape, own in self.tokens_of.items()}
        self.tokens = self.tokens.to(device)
        return self

    def encode(self, encode_text: Callable[..., Tensor], prompts: Prompts) -> Tensor:
        """Text features `(L, K, C, E)`.

        Args:
            encode_text: a `FrozenTextEncoder`, or what is called like one.
            prompts: of the learner, component by component if there are several.
        """
        contexts, deep = prompts.contexts, prompts.deep
        if self.centres is not None:
            each = len(contexts) // len(self.centres)
            contexts = contexts - self.centres.repeat_interleave(each, 0)
        below = None if deep is None else deep.flatten(1, 2)
        if len(self.tokens_of) > 1:
            text = encode_by_shape(encode_text, contexts, self.shapes, self.tokens_of)
        else:
            text = encode_text(contexts.flatten(0, 1), self.tokens, below)
        if max(self.n_texts) > 1:
            text = mean_of_texts(text, self.n_texts)
        return text.unflatten(0, contexts.shape[:2])


def check_told_apart(clip_model: Any, lists: Sequence[Sequence[str]]) -> None:
    """See to it that no two classes have the same prompts, whatever their names look like.

    A tokenizer makes one of an accented letter and a letter with its accent, and of all signs that
    its vocabulary lacks.

    Args:
        clip_model: whose tokenizer it is.
        lists: what each class is called, one text or several.

    Raises:
        ConfigError: two have.
    """
    alike: dict[Any, list[str]] = {}
    for own in lists:
        tokens = (tuple(encode(text.replace("_", " "), clip_model)) for text in own)
        alike.setdefault(frozenset(tokens), []).append(own[0])
    same = [texts for texts in alike.values() if len(texts) > 1]
    if same:
        raise ConfigError(
            f"to this CLIP these names of several classes are the same tokens, {brief(same)}: "
            "equal prompts cannot be told apart; rename them"
        )
