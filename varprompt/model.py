"""CLIP with learned prompts: frozen towers, prompt learner, temperature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .config import FRESH_NOISE, PromptConfig
from .errors import ConfigError, brief
from .objective import ObjectiveConfig, average_samples, kl_scale, sample_log_prob
from .prompt import build_learner
from .prompt_texts import PromptTexts, mean_of_texts
from .towers.frozen import FrozenCLIP
from .towers.tokens import class_tokens, text_tokens


class PromptedCLIP(nn.Module):
    """Class probabilities from learned prompts.

    Args:
        clip_model: from `load_clip`; put into the number format of the config.
        classnames: C names, in the order of the labels.
        prompt_config: see `PromptConfig`.
        texts: see `varprompt.prompt_texts`; None = every class is called by its name.
        same_names: whether several classes may have one name, as two of ImageNet's do; they have
            the same prompt then.

    Raises:
        ConfigError: class names that are none, stand twice or do not fit the context length;
            several texts for a class where each has a context of its own.
    """

    def __init__(
        self,
        clip_model: Any,
        classnames: Sequence[str],
        prompt_config: PromptConfig,
        *,
        texts: PromptTexts | None = None,
        same_names: bool = False,
    ):
        super().__init__()
        cfg = self.config = prompt_config
        _check_kinds(clip_model, prompt_config)
        _check_names(classnames, same_names)
        learner = build_learner(clip_model, cfg, len(classnames))
        lists = [texts.of(name) if texts else [name] for name in classnames]
        if cfg.class_specific and max(map(len, lists)) > 1:
            raise ConfigError("a context for each class leaves no room for several texts of one")
        self.n_texts = [len(own) for own in lists]
        self.tokens = class_tokens(
            clip_model, [text for own in lists for text in own], learner.ctx.shape[-2],
            position=cfg.position, class_specific=cfg.class_specific,
        )  # fmt: skip
        self.towers = FrozenCLIP(clip_model, cfg.precision, cfg.mem_budget)
        self.prompt_learner = learner

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> PromptedCLIP:
        """What `to`, `cuda` and `half` go through: the class names' embeddings move along.

        Raises:
            ConfigError: a change of the number format, which only the config chooses.
        """
        formats = {value.dtype for value in self.parameters()}
        if any(fn(torch.empty(0, dtype=dtype)).dtype != dtype for dtype in formats):
            raise ConfigError(
                "number formats cannot be changed afterwards: what is learned is float32, and the "
                f"towers are {self.config.precision}; give PromptConfig another precision"
            )
        super()._apply(fn, *args, **options)
        self.tokens = self.tokens.to(self.prompt_learner.ctx.device)
        return self

    @property
    def scale(self) -> float:
        """Factor in front of the cosines."""
        return self.towers.scale

    @property
    def n_dims(self) -> int:
        """Numbers that the posterior of one prompt is over (1 without a posterior)."""
        return self.prompt_learner.n_dims

    def objective_config(self, n_train: int) -> ObjectiveConfig:
        """The configured objective for a training set of `n_train` images."""
        cfg = self.config
        scale = kl_scale(cfg.kl_weight, cfg.kl_reduction, self.n_dims, n_train)
        return ObjectiveConfig(cfg.objective, scale)

    def logits(
        self,
        images: Tensor,
        n_samples: int | None = None,
        *,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits `(L, B, C)`, float32, and kl `(K,)` in nats, for images `(B, 3, H, W)`.

        Args:
            images: normalised images.
            n_samples: L; None = the configured number.
            eps: noise to use instead of drawing it, see `Posterior.noise_shape`.
            generator: source of the noise; None = torch's global one.
        """
        return self.logits_of(
            self.towers.encode_image(images), n_samples, eps=eps, generator=generator
        )

    def logits_of(
        self,
        features: Tensor,
        n_samples: int | None = None,
        *,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same from unit-norm image features `(B, E)`."""
        n_samples = n_samples or self.config.n_samples
        sample = self.prompt_learner(n_samples, features, eps=eps, generator=generator)
        text = self._encode(sample.contexts)
        return _compare(features, text, self.scale), sample.kl

    def _encode(self, contexts: Tensor) -> Tensor:
        """Text features `(L, K, C, E)` of contexts `(L, K, ...)`."""
        text = self.towers.encode_text(contexts.flatten(0, 1), self.tokens)
        if max(self.n_texts) > 1:
            text = mean_of_texts(text, self.n_texts)
        return text.unflatten(0, contexts.shape[:2])

    @torch.no_grad()
    def predictor(self, n_samples: int | None = None, seed: int | None = None) -> Predictor:
        """What classifies a test set: log-probabilities `(B, C)` from image features `(B, E)`.

        The noise is drawn here, once, from `seed`: a prediction is a function of the checkpoint,
        whatever the batch size and order. Prompts that ignore the image are encoded once. With the
        seed `FRESH_NOISE` every call of the predictor draws anew, as the authors' code does for
        every batch, in a sequence that torch's own seed decides.
        """
        cfg, learner = self.config, self.prompt_learner
        n_samples = n_samples or cfg.n_samples_test or cfg.n_samples
        seed = cfg.test_seed if seed is None else seed
        fresh = seed == FRESH_NOISE
        generator = torch.Generator().manual_seed(torch.initial_seed() if fresh else seed)
        eps = None if fresh else learner.draw_noise(n_samples, generator)

        def text_of(features: Tensor) -> Tensor:
            noise = learner.draw_noise(n_samples, generator) if fresh else eps
            return self._text(features, n_samples, noise)

        if learner.conditional or fresh:
            return Predictor(text_of, self.scale)
        nothing = learner.ctx.new_zeros(1, self.towers.clip.text_projection.shape[1])
        text = self._text(nothing, n_samples, eps)
        return Predictor(lambda features: text, self.scale)

    def _text(self, features: Tensor, n_samples: int, eps: Tensor | None) -> Tensor:
        """Text features `(L, K, C, E)` with the same noise `(L, 1, ...)` for every image."""
        if eps is not None and self.prompt_learner.conditional:
            eps = eps.expand(-1, len(features), -1, -1)
        return self._encode(self.prompt_learner(n_samples, features, eps=eps).contexts)


class Predictor:
    """Log of the predictive class probabilities `(B, C)` for unit-norm image features `(B, E)`.

    Args:
        text: features -> text features `(L, K, C, E)`, K in {1, B}.
        scale: the temperature's inverse.
    """

    def __init__(self, text: Callable[[Tensor], Tensor], scale: float):
        self._text = text
        self._scale = scale

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Average the probabilities of the L samples."""
        return average_samples(self.samples(features))

    @torch.no_grad()
    def texts(self, features: Tensor) -> Tensor:
        """Unit-norm text features `(L, K, C, E)` that go with image features `(B, E)`."""
        return self._text(features)

    @torch.no_grad()
    def samples(self, features: Tensor) -> Tensor:
        """Log-probabilities `(L, B, C)` by each of the L samples."""
        return sample_log_prob(_compare(features, self._text(features), self._scale))

    @torch.no_grad()
    def text(self, features: Tensor) -> Tensor:
        """Text features `(L, K, C, E)` of unit norm, K in {1, B}, for image features `(B, E)`."""
        return self._text(features)

    @torch.no_grad()
    def similarity(self, features: Tensor) -> float:
        """Mean cosine between the texts of different classes, for the first sample and image."""
        text = self._text(features[:1])[0, 0]  # (C, E)
        n_classes = len(text)
        total = text.sum(0).square().sum().item()
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
    lists = [texts.of(name) if texts else [name] for name in classnames]
    names = [text.replace("_", " ") for own in lists for text in own]
    tokens = text_tokens(towers.clip, [t.format(name) for t in templates for name in names])
    width = towers.clip.ln_final.weight.shape[0]
    nothing = towers.clip.token_embedding.weight.new_zeros(1, 0, width)
    text = towers.encode_text(nothing, tokens).unflatten(1, (len(templates), len(names)))
    text = mean_of_texts(text.mean(1), [len(own) for own in lists])[:, None]  # (1, 1, C, E)
    return Predictor(lambda features: text, towers.scale)


def _check_kinds(clip_model: Any, prompt_config: Any) -> None:
    if not isinstance(prompt_config, PromptConfig):
        raise ConfigError(f"prompt_config is {brief(prompt_config)}; give a PromptConfig(...)")
    if not isinstance(clip_model, nn.Module):
        raise ConfigError(f"clip_model is {brief(clip_model)}; give a CLIP: load_clip('embedded')")


def _check_names(names: Sequence[str], same_names: bool) -> None:
    """Names of classes are a list of words; equal prompts could not be told apart."""
    listed = isinstance(names, Sequence) and not isinstance(names, str | bytes)
    if not listed or not all(isinstance(name, str) for name in names):  # a set has no order
        raise ConfigError(f"class names are {brief(names)}; give a list of strings")
    if not names:
        raise ConfigError("there are no class names: give at least one")
    if blank := [i for i, name in enumerate(names) if not name.replace("_", " ").strip()]:
        raise ConfigError(f"the class names number {blank[:10]} are empty")
    counts = Counter(" ".join(name.replace("_", " ").split()).lower() for name in names)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated and not same_names:
        raise ConfigError(
            f"class names stand for several classes, {repeated[:10]}: equal prompts cannot be told "
            "apart; rename them, or give same_names=True"
        )


def _compare(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Scaled cosines `(L, B, C)` of features `(B, E)` and text `(L, K, C, E)`, K in {1, B}."""
    with torch.autocast(features.device.type, enabled=False):  # scaled by 100: half would round
        if text.shape[1] == 1:
            return scale * features @ text[:, 0].transpose(-2, -1)
        return scale * torch.einsum("be,lbce->lbc", features, text)
