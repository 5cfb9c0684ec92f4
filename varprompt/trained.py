"""One way to whatever was trained: a saved classifier, or the folder of a run of train.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .classifier import PromptClassifier
from .classifier.learned import HeldOut, Learned, Pixels
from .classifier.saved import DESCRIPTION, FOLDER, is_classifier
from .common import files
from .config import PromptConfig
from .errors import CheckpointError, ConfigError, VarPromptError, brief
from .images.inputs import INTERPOLATIONS
from .learner_state import load_learner
from .model import PromptedCLIP
from .prompt_texts import parse_prompts
from .run.calibrated import kept_temperature
from .run.folder import MODEL_FOLDER
from .run.held_out import kept_scores
from .run.store import file_sha256, model_file

_WITHOUT = (
    "keeps no scores of validation images (it had none, they chose its epoch, or an earlier "
    "version tested it: then delete results.json there and give its command again)"
)


def load_classifier(
    path: str | os.PathLike,
    *,
    device: str = "auto",
    epoch: int | None = None,
    backbone_path: str | None = None,
    n_workers: int = 0,
) -> PromptClassifier:
    """The classifier in a folder, whichever kind of folder it is.

    Args:
        path: where `PromptClassifier.save` or ``varprompt demo FOLDER`` wrote, or the --output-dir
            of a training run.
        device: where to compute.
        epoch: of a run: of which epoch; None = the best or the last.
        backbone_path: the CLIP's weight file if it lies elsewhere now.
        n_workers: processes that read images.

    Raises:
        CheckpointError: there is no such thing, it is damaged, or the CLIP is another one.
        ConfigError: the run's configuration or the device cannot be used here.
    """
    folder = Path(os.path.expanduser(path))
    if is_classifier(folder / FOLDER):
        folder /= FOLDER
    if is_classifier(folder):
        moved = {} if backbone_path is None else {"backbone_path": backbone_path}
        return PromptClassifier.load(folder, device=device, n_workers=n_workers, **moved)
    if (folder / MODEL_FOLDER).is_dir():
        return classifier_of_run(
            folder, device=device, epoch=epoch, backbone_path=backbone_path, n_workers=n_workers
        )
    what = "is no folder" if folder.exists() else "does not exist"
    raise CheckpointError(
        f"{path} {'holds no model' if folder.is_dir() else what}: give the folder of a saved "
        f"classifier (it has {DESCRIPTION}) or the --output-dir of a training run (it has "
        f"{MODEL_FOLDER}/)"
    )


def classifier_of_run(
    folder: str | os.PathLike,
    *,
    device: str = "auto",
    epoch: int | None = None,
    backbone_path: str | None = None,
    n_workers: int = 0,
) -> PromptClassifier:
    """The model that a run of train.py has trained; its arguments are those of `load_classifier`.

    The temperature is the one that TEST.CALIBRATION has kept, or 1. Held out are the validation
    images whose scores the run has kept. Images are turned upright and never augmented.

    Raises:
        CheckpointError: there is no model, it or what was kept with it is damaged, or the CLIP is
            another one.
        ConfigError: the configuration cannot be used here.
    """
    file = model_file(folder, epoch)
    found = files.read(file)
    try:
        text, names = str(found["config"]), [str(name) for name in found["classnames"]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} does not tell its configuration and classes ({brief(error)}): only runs of "
            "this project do"
        ) from error
    cfg, config = _configuration(text, str(file))
    backbone = cfg.MODEL.BACKBONE
    new = PromptClassifier(
        backbone.NAME, activation=backbone.ACTIVATION,
        backbone_path=backbone.PATH if backbone_path is None else backbone_path,
        context=None if config.templates else config.ctx_init,
        templates=list(config.templates) or None, component=config.component, merge=config.merge,
        class_words=config.class_words,
        posterior=config.posterior, n_samples=config.n_samples, device=device,
        n_samples_test=config.n_samples_test, n_workers=n_workers, precision=config.precision,
        seed=max(config.test_seed, 0),
    )  # fmt: skip
    temperature, held_out = _kept(Path(folder), file)

    def learned(clip: Any) -> Learned:
        bare = _learned(clip, cfg, config, names, found, str(file))
        return replace(bare, temperature=temperature, held_out=held_out, without=_WITHOUT)

    return new.adopt(learned)


def _kept(folder: Path, file: Path) -> tuple[float, HeldOut | None]:
    """Temperature and held-out scores that a run has kept for the model in `file`.

    Raises:
        CheckpointError: they are damaged.
    """
    fitted, scores, digest = kept_temperature(folder), kept_scores(folder), file_sha256(file)
    temperature = fitted.temperature if fitted and fitted.checkpoint == digest else 1.0
    if not scores or (scores.checkpoint, scores.temperature) != (digest, temperature):
        return temperature, None
    confidence = torch.tensor(scores.confidence, dtype=torch.float64)
    return temperature, HeldOut(confidence, torch.tensor(scores.correct))


def _learned(
    clip: Any, cfg: Any, config: PromptConfig, names: list[str], found: dict[str, Any], file: str
) -> Learned:
    theirs = str(found.get("weights_sha256", clip.weights_sha256))
    if theirs != clip.weights_sha256:
        raise CheckpointError(
            f"{file} was learned in front of another CLIP (weights {theirs[:12]} instead of "
            f"{clip.weights_sha256[:12]}): give that one"
        )
    on_cpu = clip.logit_scale.device.type == "cpu"
    if on_cpu and config.precision in ("fp16", "amp"):
        config = replace(config, precision="fp32")  # half is slow there, and no more exact
    texts = parse_prompts(found["prompts"], file) if "prompts" in found else None
    model = PromptedCLIP(clip, names, config, texts=texts, same_names=True)
    load_learner(model.prompt_learner, found, file, names, model.tokens)
    pixels, given = Pixels.of(clip), cfg.INPUT
    if "normalize" in given.TRANSFORMS:
        pixels = replace(pixels, mean=tuple(given.PIXEL_MEAN), std=tuple(given.PIXEL_STD))
    else:
        pixels = replace(pixels, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if given.INTERPOLATION in INTERPOLATIONS:
        pixels = replace(pixels, interpolation=given.INTERPOLATION)
    return Learned(model, np.asarray(names), names, pixels, texts=texts)


def _configuration(text: str, file: str) -> tuple[Any, PromptConfig]:
    """The tree of options in a run's file, and what it says of the prompt."""
    from .standin.which import ensure_dassl

    ensure_dassl()
    from .settings.merge import merge_text
    from .settings.nodes import default_tree, prompt_config
    from .settings.plugins import load_plugins

    load_plugins()
    import varprompt.trainers.baselines  # noqa: F401  registers the trainers

    cfg = default_tree()
    try:
        merge_text(cfg, text, f"the configuration in {file}")
        return cfg, prompt_config(cfg, cfg.TRAINER.NAME)
    except VarPromptError as error:
        raise ConfigError(f"the run of {file} cannot be used here: {error}") from error
