"""Class probabilities from features of images and of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .common.checks import check_template
from .errors import ConfigError, DataError
from .objective import average_samples, sample_log_prob
from .prompt_texts import PromptTexts, mean_of_texts
from .towers.frozen import FrozenCLIP
from .towers.tokens import text_tokens


class Predictor:
    """Log of the predictive class probabilities `(B, C)` for unit-norm image features `(B, E)`.

    Features are those of `PromptedCLIP.encode_test_image`.

    Args:
        text: features -> text features `(L, K, C, E)`, K in {1, B}.
        scale: the temperature's inverse.
        drawn: whether the samples are independent draws of one distribution.
    """

    def __init__(self, text: Callable[[Tensor], Tensor], scale: float, drawn: bool = False):
        self._text = text
        self._scale = scale
        self.drawn = drawn

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Average the probabilities of the L samples."""
        return average_samples(self.samples(features))

    @torch.no_grad()
    def samples(self, features: Tensor) -> Tensor:
        """Log-probabilities `(L, B, C)` by each of the L samples.

        Raises:
            DataError: these are no features of the CLIP's width.
        """
        text = self._text(features)
        width = text.shape[-1]
        if features.dim() != 2 or features.shape[-1] % width:
            raise DataError(
                f"features have the shape {tuple(features.shape)}; give (B, {width}), of "
                "encode_test_image"
            )
        if width < features.shape[-1]:  # with those of each sample behind them
            features = features.unflatten(-1, (-1, width))[:, 1:].movedim(1, 0)
        return sample_log_prob(compare(features, text, self._scale))

    @torch.no_grad()
    def text(self, features: Tensor) -> Tensor:
        """Text features `(L, K, C, E)` of unit norm, K in {1, B}, for image features `(B, E)`."""
        return self._text(features)

    @torch.no_grad()
    def similarity(self, features: Tensor) -> float:
        """Mean cosine between the texts of different classes, for the first image.

        Of several samples the largest one: a component of a mixture may collapse alone.
        """
        text = self._text(features[:1])[:, 0]  # (L, C, E)
        n_classes = text.shape[1]
        # one by one, as a copy of all would be large; merged ones are not of unit norm
        sums = torch.stack([F.normalize(each, dim=-1).sum(0) for each in text])  # (L, E)
        total = sums.square().sum(-1).max().item()
        return (total - n_classes) / max(1, n_classes * (n_classes - 1))


@torch.no_grad()
def zero_shot(
    towers: FrozenCLIP,
    classnames: Sequence[str],
    templates: Sequence[str],
    texts: PromptTexts | None = None,
) -> Predictor:
    """Classifier from hand-written prompts, an ensemble if there are several for a class.

    Features of unit norm are averaged over templates and `texts`, and normalised again.

    Raises:
        ConfigError: texts that do not fit the context length.
    """
    text = text_features(towers, classnames, templates, texts)[None, None]  # (1, 1, C, E)
    return Predictor(lambda features: text, towers.scale)


@torch.no_grad()
def text_features(
    towers: FrozenCLIP,
    classnames: Sequence[str],
    templates: Sequence[str],
    texts: PromptTexts | None = None,
    *,
    unit_norm: bool = True,
) -> Tensor:
    """Unit-norm features `(C, E)` of hand-written prompts, averaged over templates and texts.

    Args:
        towers: encode them.
        classnames: C names.
        templates: with a {} each for the name.
        texts: what classes are called besides; None = by their names.
        unit_norm: whether each is of unit norm before the average, in which a longer one would
            count more.

    Raises:
        ConfigError: texts that do not fit the context length, templates without their {}.
    """
    problems = [] if len(templates) else ["there are no templates: give at least one"]
    for template in templates:
        check_template(template, "templates", problems)
    if problems:
        raise ConfigError(problems)
    lists = [texts.of(name) if texts else [name] for name in classnames]
    names = [text.replace("_", " ") for own in lists for text in own]
    tokens = text_tokens(towers.clip, [t.format(name) for t in templates for name in names])
    width = towers.clip.ln_final.weight.shape[0]
    nothing = towers.clip.token_embedding.weight.new_zeros(1, 0, width)
    text = towers.encode_text(nothing, tokens, unit_norm=unit_norm)
    text = text.unflatten(1, (len(templates), len(names))).mean(1)
    return mean_of_texts(text, [len(own) for own in lists])[0]


def compare(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Scaled cosines `(L, B, C)` of features `(B, E)` or `(L, B, E)` and text `(L, K, C, E)`."""
    with torch.autocast(features.device.type, enabled=False):  # scaled by 100: half would round
        if text.shape[1] == 1:
            return scale * features @ text[:, 0].transpose(-2, -1)
        images = "be" if features.dim() == 2 else "lbe"
        return scale * torch.einsum(f"{images},lbce->lbc", features, text)
