"""What a run on a Dassl data set is known by."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dassl.data.datasets import build_dataset
from dassl.utils import set_random_seed

from varprompt.images.content import ContentHasher
from varprompt.run.folder import CALIBRATION
from varprompt.run.identity import TEST, TRAIN, Identity, Images
from varprompt.run.store import file_sha256, model_file
from varprompt.settings.nodes import learns

from .data import chooses_by_validation


def identify(
    cfg: Any,
    data: Any,
    hasher: ContentHasher,
    *,
    mode: str,
    tested: bool,
    weights: str = "",
    checkpoint: str = "",
    calibration: Path | None = None,
) -> Identity:
    """What a run is known by, besides its configuration.

    Args:
        cfg: its configuration.
        data: Dassl's data set.
        hasher: tells what is in files.
        mode: "train", or "test" if nothing is trained.
        tested: whether the images that are tested count, too: they decide results, not a state.
        weights: digest of the CLIP's weights; "" = not loaded yet.
        checkpoint: digest of the model that is tested without having been trained here.
        calibration: the temperature that may have been kept beside it.

    Raises:
        DataError: an image, or a file that the configuration names, is missing or cannot be read.
    """
    lists = {}
    if mode == TRAIN:
        lists["train_images"] = data.train_x
        if chooses_by_validation(cfg):
            lists["val_images"] = data.val or ()
    if tested:
        lists["test_images"] = data.val if cfg.TEST.SPLIT == "val" and data.val else data.test
    if cfg.TEST.CALIBRATION != "none":
        lists["calibration_images"] = data.val or data.train_x
    images = {part: Images.of(items, cfg.DATASET.ROOT, hasher) for part, items in lists.items()}
    named = {"weights_file": _weights_place(cfg.MODEL.BACKBONE), "prompts": cfg.DATASET.PROMPTS}
    if not checkpoint:
        named["init_weights"] = cfg.MODEL.INIT_WEIGHTS
    files = {part: _content_of(path, hasher) for part, path in named.items()}
    if weights:
        files["weights"] = weights
    if mode == TEST:
        files["checkpoint"] = checkpoint
    if mode == TEST and cfg.TEST.CALIBRATION != "none":
        kept = calibration is not None and calibration.is_file()
        files["calibration"] = file_sha256(calibration) if calibration and kept else ""
    return Identity(mode, data.classnames, images, files)


def identity_of_command(cfg: Any, args: argparse.Namespace) -> Callable[[int], Identity]:
    """What tells what the run is known by, given its seed; it reads the data set.

    Raises:
        CheckpointError: there is no model to test.
    """
    learning = learns(cfg.TRAINER.NAME)
    given = args.eval_only and args.model_dir and learning
    model = model_file(args.model_dir, args.load_epoch) if given else None
    return lambda seed: identify(
        cfg, build_data_quietly(cfg, seed), ContentHasher(_say),
        mode=TRAIN if learning and not args.eval_only else TEST, tested=True,
        checkpoint=file_sha256(model) if model else "",
        calibration=Path(args.model_dir, CALIBRATION) if given else None,
    )  # fmt: skip


def build_data_quietly(cfg: Any, seed: int) -> Any:
    """The data set as a trainer builds it, without its lines in the log."""
    set_random_seed(seed)  # of the few-shot choice
    with contextlib.redirect_stdout(io.StringIO()):
        return build_dataset(cfg)


def _weights_place(backbone: Any) -> str:
    """Where the weights lie, as PATH or NAME (hf:FOLDER) says; "" of those that a source gets."""
    place = os.path.expanduser(backbone.NAME.partition(":")[2])
    return backbone.PATH or (place if place and os.path.exists(place) else "")


def _content_of(path: str, hasher: ContentHasher) -> str:
    """Digest of a file, or of all files in a folder; "" without a path."""
    place = Path(os.path.expanduser(path))
    if not path or not place.is_dir():
        return path and hasher.digest(place)
    within = sorted(p for p in place.rglob("*") if p.is_file())
    digests = hasher.digests([str(p) for p in within], "file")
    rows = [f"{p.relative_to(place)} {d}\n" for p, d in zip(within, digests, strict=True)]
    return hashlib.sha256("".join(rows).encode(errors="surrogateescape")).hexdigest()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - before there is a log
