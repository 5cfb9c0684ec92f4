"""CLIP with learned prompts: frozen towers, prompt learner, temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .class_prior import class_prior
from .class_prompts import ClassPrompts, check_told_apart
from .common.checks import check_range
from .config import FRESH_NOISE, PromptConfig, check_kinds
from .config_problems import check_names
from .errors import ConfigError
from .objective import ObjectiveConfig, kl_scale
from .predictor import Predictor, compare, text_features, zero_shot
from .prompt import Prompts, build_learner
from .prompt_texts import PromptTexts
from .regularisers import Outputs
from .towers.build import check_size
from .towers.frozen import FrozenCLIP
from .towers.tokens import ClassTokens

__all__ = ["Predictor", "PromptedCLIP", "text_features", "zero_shot"]


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
        check_kinds(clip_model, prompt_config)
        check_names(classnames, same_names)
        learner = build_learner(clip_model, cfg, len(classnames))
        lists = [texts.of(name) if texts else [name] for name in classnames]
        if not same_names:
            check_told_apart(clip_model, lists)
        self.classes = ClassPrompts(clip_model, lists, cfg, learner.n_tokens)
        self.towers = FrozenCLIP(clip_model, cfg.precision, cfg.mem_budget)
        self.prompt_learner = learner
        self.prior = class_prior(clip_model, lists, cfg, learner.ctx, learner.prior_std)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> PromptedCLIP:
        """What `to`, `cuda` and `half` go through.

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
        return self

    @property
    def tokens(self) -> ClassTokens:
        """The classes as tokens, of the first shape if templates have several."""
        return self.classes.tokens

    @property
    def scale(self) -> float:
        """Factor in front of the cosines."""
        return self.towers.scale

    @property
    def n_dims(self) -> int:
        """Numbers that the posterior of one prompt is over (1 without a posterior)."""
        return self.prompt_learner.n_dims

    def objective_config(self, n_train: int) -> ObjectiveConfig:
        """The configured objective for a training set of `n_train` images.

        Raises:
            ConfigError: that is no number of images.
        """
        problems: list[str] = []
        check_range(n_train, 1, 2**63, "n_train", problems, whole=True)
        if problems:
            raise ConfigError(problems)
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
            images: normalised; see `encode_image`.
            n_samples: L; None = the configured number.
            eps: noise to use instead of drawing it, see `Posterior.noise_shape`.
            generator: source of the noise; None = torch's global one.
        """
        features = self.encode_image(images)
        out = self.outputs(features, n_samples, images=images, eps=eps, generator=generator)
        return out.logits, out.kl

    def logits_of(
        self,
        features: Tensor,
        n_samples: int | None = None,
        *,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same from unit-norm image features `(B, E)` of `encode_image`."""
        out = self.outputs(features, n_samples, eps=eps, generator=generator)
        return out.logits, out.kl

    def outputs(
        self,
        features: Tensor,
        n_samples: int | None = None,
        *,
        images: Tensor | None = None,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Outputs:
        """All that a loss may be made of.

        Args:
            features: of `encode_image`, `(B, E)`.
            n_samples: L; None = the configured number.
            images: `(B, 3, H, W)`, needed only if the residual reaches the image tower.
            eps: noise to use instead of drawing it, see `Posterior.noise_shape`.
            generator: source of the noise; None = torch's global one.
        """
        given = {"eps": eps, "generator": generator}
        prompts = self.prompt_learner(n_samples or self.config.n_samples, features, **given)
        if prompts.visual is not None:
            if images is None:
                raise ValueError("the residual reaches the image tower: give the images")
            features = self.towers.encode_prompted_image(images, prompts.visual)  # (L, B, E)
        text = self.classes.encode(self.towers.encode_text, prompts)
        logits = compare(features, text, self.scale)
        return Outputs(logits, prompts.kl, text, features, prompts.residual)

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit-norm features `(B, E)` of images `(B, 3, H, W)`, under visual prompts if there are.

        Without the residual, on which they may depend: a posterior looks at these features.

        Raises:
            DataError: the images have another size than the image tower takes.
        """
        check_size(images, self.towers.clip)
        visual = self.prompt_learner.visual()
        if visual is None:
            return self.towers.encode_image(images)
        return self.towers.encode_prompted_image(images, visual)[0]

    @torch.no_grad()
    def encode_test_image(self, images: Tensor) -> Tensor:
        """What `predictor` takes of images `(B, 3, H, W)`: `(B, E)`, as `encode_image` gives it.

        If the residual reaches the image tower, `(B, (1 + L) * E)`: behind those features the ones
        of each of the configured samples.
        """
        features = self.encode_image(images)
        if not self.config.couple_residual:
            return features
        generator = torch.Generator().manual_seed(self.config.test_seed)
        eps = self.prompt_learner.draw_noise(self.n_samples_test, generator)
        visual = self._prompts(features, self.n_samples_test, eps).visual
        samples = self.towers.encode_prompted_image(images, visual)  # (L, B, E)
        return torch.cat([features, *samples], -1)

    @property
    def n_samples_test(self) -> int:
        """L at test."""
        return self.config.n_samples_test or self.config.n_samples

    @torch.no_grad()
    def predictor(self, n_samples: int | None = None, seed: int | None = None) -> Predictor:
        """What classifies a test set: log-probabilities `(B, C)` from image features `(B, E)`.

        The noise is drawn here, once, from `seed`: a prediction is a function of the checkpoint,
        whatever the batch size and order. Prompts that ignore the image are encoded once. With the
        seed `FRESH_NOISE` every call of the predictor draws anew, as the authors' code does for
        every batch, in a sequence that torch's own seed decides.
        """
        cfg, learner = self.config, self.prompt_learner
        n_samples = n_samples or self.n_samples_test
        seed = cfg.test_seed if seed is None else seed
        if cfg.couple_residual and (n_samples, seed) != (self.n_samples_test, cfg.test_seed):
            raise ConfigError(
                "the residual reaches the image tower: images are encoded with the configured "
                f"{self.n_samples_test} samples of seed {cfg.test_seed}, not {n_samples} of {seed}"
            )
        fresh = seed == FRESH_NOISE
        generator = torch.Generator().manual_seed(torch.initial_seed() if fresh else seed)
        eps = None if fresh else learner.draw_noise(n_samples, generator)
        width = self.towers.clip.text_projection.shape[1]
        drawn = learner.posterior is not None and learner.posterior.draws_alike

        def text_of(features: Tensor) -> Tensor:
            noise = learner.draw_noise(n_samples, generator) if fresh else eps
            if features.shape[-1] > width:  # those of each sample stand behind them
                features = F.normalize(features[:, :width], dim=-1)
            prompts = self._prompts(features, n_samples, noise)
            text = self.classes.encode(self.towers.encode_text, prompts)
            return text.mean(0, keepdim=True) if cfg.merge else text

        if learner.conditional or fresh:
            return Predictor(text_of, self.scale, drawn)
        text = text_of(learner.ctx.new_zeros(1, width))
        return Predictor(lambda features: text, self.scale, drawn)

    def _prompts(self, features: Tensor, n_samples: int, eps: Tensor | None) -> Prompts:
        """The same noise `(L, 1, ...)` for every image."""
        if eps is not None and self.prompt_learner.conditional:
            eps = eps.expand(-1, len(features), -1, -1)
        return self.prompt_learner(n_samples, features, eps=eps)
