"""Dassl's data manager, as the trainers here need it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from dassl.data import DataManager

from varprompt.errors import ConfigError
from varprompt.images.content import ContentHasher
from varprompt.images.read import ImageItems
from varprompt.images.workers import n_cpus
from varprompt.prompt_texts import PromptTexts, read_prompts
from varprompt.towers.adapt import AdaptedCLIP
from varprompt.towers.load import input_size


def data_manager(cfg: Any, note: Callable[[str], None], held_out: Collection[int] = ()) -> Any:
    """Dassl's: images that cannot be read are named, and no more workers than CPUs.

    Args:
        cfg: the configuration.
        note: takes a line for the log.
        held_out: numbers of training images that the loader for training leaves out.

    Raises:
        ConfigError: INPUT.TRANSFORMS that this Dassl cannot make with this NumPy.
        DataError: the data set is missing, damaged or contradictory.
    """
    wanted, cfg = cfg.DATALOADER.NUM_WORKERS, cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = min(wanted, n_cpus())
    if cfg.DATALOADER.NUM_WORKERS < wanted:
        note(f"{cfg.DATALOADER.NUM_WORKERS} data loader workers, one for each CPU")

    def items(cfg: Any, data_source: Any, transform: Any, is_train: bool = False) -> ImageItems:
        if is_train and held_out:
            data_source = [item for i, item in enumerate(data_source) if i not in held_out]
        return ImageItems(cfg, data_source, transform, is_train)

    try:
        return DataManager(cfg, dataset_wrapper=items)
    except AttributeError as error:  # the AutoAugment policies of Dassl 0.6.3 use np.int
        if "numpy" not in str(error):
            raise
        names = ", ".join(cfg.INPUT.TRANSFORMS)
        raise ConfigError(
            f"this Dassl cannot make all of INPUT.TRANSFORMS {names} with NumPy "
            f"{np.__version__}: leave out the *_policy, or use NumPy below 1.24"
        ) from error


def check_input(cfg: Any, model: Any, note: Callable[[str], None]) -> None:
    """Compare INPUT with what the images of a CLIP must look like.

    The configuration decides, and is the record of a run: nothing is adopted silently. OpenAI's
    own CLIPs run with another PIXEL_MEAN than theirs, as in CoOp, which is said in the log.

    Args:
        cfg: the configuration.
        model: from `load_clip`.
        note: takes a line for the log.

    Raises:
        ConfigError: INPUT.SIZE differs, or of CLIPs from other libraries PIXEL_MEAN or PIXEL_STD;
            names the KEY VALUE pairs to give.
    """
    backbone, stated = cfg.MODEL.BACKBONE.PATH or cfg.MODEL.BACKBONE.NAME, model.provenance
    side = input_size(model)
    if tuple(cfg.INPUT.SIZE) != (side, side):
        raise ConfigError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)} but backbone {backbone} takes ({side}, {side})"
            f"{_instead('INPUT.SIZE', (side, side))}"
        )
    if "normalize" not in cfg.INPUT.TRANSFORMS:
        return
    problems = [
        f"INPUT.{key} is {tuple(cfg.INPUT[key])} but {stated.source} was trained with "
        f"{right}{_instead(f'INPUT.{key}', right)}"
        for key, right in (("PIXEL_MEAN", stated.mean), ("PIXEL_STD", stated.std))
        if not np.allclose(cfg.INPUT[key], right, rtol=0, atol=1e-4)
    ]
    if problems and isinstance(model, AdaptedCLIP):
        raise ConfigError(problems)
    for problem in problems:
        note(problem)


def _instead(key: str, value: tuple[float, ...]) -> str:
    return f': give {key} "{value}"'


def prompt_texts(cfg: Any, classnames: Sequence[str]) -> PromptTexts | None:
    """Synonyms and templates of the classes; None = they are called by their names.

    Of a half of the classes the file may name the others, too.

    Raises:
        DataError: DATASET.PROMPTS is no such file, or names what is no class.
    """
    if not cfg.DATASET.PROMPTS:
        return None
    texts = read_prompts(cfg.DATASET.PROMPTS)
    if cfg.DATASET.SUBSAMPLE_CLASSES == "all":
        texts.check_names(classnames, cfg.DATASET.PROMPTS)
    return texts


def check_trainable(data: Any) -> None:
    """Whether a data set has images to learn from.

    Raises:
        ConfigError: it is a folder of one's own that holds test images only.
    """
    if getattr(data, "own_data", False) and getattr(data, "test_only", False):
        raise ConfigError(
            f"{data.image_dir} has test images only: give training images in train/, or test a "
            "trained model on it (--eval-only --model-dir)"
        )


def chooses_by_validation(cfg: Any) -> bool:
    """Whether the validation images decide which epoch's model is tested."""
    return bool(cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST)


def selected_on(cfg: Any, data: Any, hasher: ContentHasher) -> str | None:
    """Which images choose the epoch that is tested: "val", "test" if those are among them, None.

    Images are the same if their content is, whatever their names.

    Raises:
        ConfigError: validation images shall choose, and there are none.
    """
    if not chooses_by_validation(cfg):
        return None
    if not data.val:
        raise ConfigError(
            f"TEST.FINAL_MODEL best_val chooses the epoch by validation images, and "
            f"{cfg.DATASET.NAME} has none here: add them (for your own images a folder val/), or "
            "use TEST.FINAL_MODEL last_step"
        )
    contents = (hasher.digests([item.impath for item in part]) for part in (data.val, data.test))
    chosen_by, tested = map(set, contents)
    return "test" if chosen_by >= tested or chosen_by <= tested else "val"
