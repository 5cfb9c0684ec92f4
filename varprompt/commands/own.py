"""From a folder of photos to a classifier, with what it says of photos that it has not seen.

    varprompt demo FOLDER                          with the embedded tiny CLIP, no download
    varprompt demo FOLDER --backbone ViT-B/16      with a CLIP that knows photos

FOLDER holds a folder for each class, or train/ and test/ with those; or it is a list (CSV or JSON
lines with path, label and perhaps split). Images without parts are divided within each class: 30 %
are tested, of the others a part is held out to calibrate. Written are the classifier, what it says
of each test image, a summary, and a page with the test images and their answers to look at, on
which wrong answers are marked.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..classifier import Prediction, PromptClassifier
from ..classifier.given import Labelled, divided, hold_out, targets_of
from ..classifier.saved import FOLDER
from ..common.console import out, say
from ..common.files import unwritable, write_atomic
from ..errors import ConfigError, DataError
from ..images.content import ContentHasher
from ..images.stream import stream_images
from ..predict.judge import RISK, Judge
from ..predict.sheet import THUMBNAIL, Sheet
from ..run.identity import Images, twins
from ..settings.flags import Parser, given, given_path
from ..uncertainty import risk_threshold, summary

_TESTED = 0.3
_SHOWN, _TOGETHER = 3, 64  # answers for an image; images read at once
_FIGURES = ("accuracy", "nll", "ece")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(
        prog="varprompt demo", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    new.add_argument("folder", metavar="FOLDER", type=given, help="folder of class folders")
    new.add_argument("--output", type=given_path, default=Path("output/own"), metavar="FOLDER",
                     help="where everything is written; default: %(default)s")  # fmt: skip
    new.add_argument("--backbone", default="embedded", type=given, help="name of a CLIP (embedded)")
    new.add_argument("--backbone-path", default="", metavar="FILE", help="a weight file of it")
    new.add_argument(
        "--prompts", metavar="FILE", type=given, help="synonyms and templates of the classes"
    )
    new.add_argument("--balanced", action="store_true",
                     help="show every class as often, however many images it has")  # fmt: skip
    new.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    new.add_argument("--workers", type=int, default=0, help="processes that read images (0)")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Learn, test, save and show; returns the exit code.

    Raises:
        VarPromptError: bad input.
        OSError: the output cannot be written.
    """
    args = parser().parse_args(argv)
    train, held, test = _parts(args)
    classes = np.unique(train.labels)
    targets = targets_of(test.labels, classes, "test images")  # before the work, if it cannot be
    args.output.mkdir(parents=True, exist_ok=True)
    clf = PromptClassifier(
        args.backbone, backbone_path=args.backbone_path, prompts=args.prompts,
        balanced=args.balanced, seed=args.seed, n_workers=args.workers,
    )  # fmt: skip
    clf.fit(train.images, train.labels, validation=held and (held.images, held.labels))
    for line in _twins(clf, train, test):
        say(line)
    features = clf.encode(test.images)
    samples, found = clf.learned_.samples(features).cpu(), clf.learned_.predict(features)
    scaled = (samples / clf.temperature_).log_softmax(-1)
    every = summary(scaled, targets, seed=args.seed)
    figures = {name: every[name] for name in _FIGURES}
    clf.save(args.output / FOLDER)
    _write(args.output / "test.csv", _table(clf, test, found))
    record = {"tested": len(targets), "temperature": clf.temperature_, **figures}
    _write(args.output / "summary.json", json.dumps(record, indent=1))
    right = found.prob.argmax(1) == targets.numpy()
    out(f"{len(targets)} images tested, {right.sum()} right ({100 * right.mean():.1f} %)")
    content = _page(clf, test, args)
    write_atomic(args.output / "test.html", lambda file: file.write(content))
    for name in (FOLDER, "test.csv", "test.html"):
        out(f"written: {args.output / name}")
    return 0


def _twins(clf: PromptClassifier, train: Labelled, test: Labelled) -> list[str]:
    """What is wrong with images that stand there several times."""
    hasher = ContentHasher(say)
    return twins(
        {
            part: Images(
                targets_of(own.labels, clf.classes_).tolist(),
                hasher.digests(own.images),
                own.images,
            )
            for part, own in (("train_images", train), ("test_images", test))
        }
    )


def _page(clf: PromptClassifier, test: Labelled, args: argparse.Namespace) -> bytes:
    """The test images with the answers, the least sure first; wrong ones are marked."""
    held, limit = clf.learned_.held_out, None
    if held is not None:
        limit = risk_threshold(held.confidence, held.correct, RISK)
    # too few held-out images promise nothing: a page that is all "unsure" would say nothing either
    judge = Judge(clf.learned_, _SHOWN, limit if limit and limit.coverage else None)
    names = dict(zip(clf.classes_.tolist(), clf.class_names_, strict=True))
    truth = {str(path): names[label] for path, label in zip(test.images, test.labels, strict=True)}
    sheet = Sheet(f"Test images of {args.folder}")
    for batch in stream_images(
        test.images, clf.learned_.transform, _TOGETHER, args.workers, THUMBNAIL
    ):
        rows = judge.rows(batch.paths, batch.images) if batch.paths else []
        sheet.add([replace(row, truth=truth[row.path]) for row in rows], batch.thumbnails)
        sheet.unreadable += batch.unreadable
    return sheet.render(".html")


def _parts(args: argparse.Namespace) -> tuple[Labelled, Labelled | None, Labelled]:
    """Images to learn from, to be held out if the folder has such, and to test."""
    _check_output(args)
    parts = divided(args.folder, say)
    if "train" not in parts:
        raise DataError(f"{args.folder} has no train/ to learn from")
    every = parts["train"]
    if "test" in parts:
        return every, parts.get("val"), parts["test"]
    tested = hold_out(torch.from_numpy(np.unique(every.labels, return_inverse=True)[1]),
                      _TESTED, args.seed)  # fmt: skip
    if not tested.any():
        raise DataError(
            f"{args.folder} has too few images to test some of them: give two or more of a class, "
            f"better ten, or a list or folder with a part for tests"
        )
    say(
        f"{len(tested)} images without parts: {int(tested.sum())} of them, drawn within each class "
        f"by seed {args.seed}, are tested and not learned from"
    )
    return every.where(~tested), parts.get("val"), every.where(tested)


def _check_output(args: argparse.Namespace) -> None:
    """See to it that the images are not mixed with what is written.

    Raises:
        ConfigError: --output is among the class folders, or cannot be a folder.
    """
    output, folder = args.output.resolve(), Path(os.path.expanduser(args.folder)).resolve()
    if folder == output or (folder.is_dir() and folder in output.parents):
        raise ConfigError(
            f"--output {args.output} lies in {args.folder}, where it would be a class: give a "
            "folder elsewhere"
        )
    if why := unwritable(output / "test.html"):
        raise ConfigError(f"--output {args.output} {why}")


def _table(clf: PromptClassifier, test: Labelled, found: Prediction) -> str:
    """A row for each test image."""
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow(["path", "label", "predicted", "probability", "total", "aleatoric", "epistemic"])
    best = found.prob.argmax(1)
    for i, path in enumerate(test.images):
        terms = (f"{term[i]:.6g}" for term in found.uncertainty)
        rows.writerow([
            path, test.labels[i], clf.classes_[best[i]], f"{found.prob[i, best[i]]:.6g}", *terms
        ])  # fmt: skip
    return file.getvalue()


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode(errors="surrogateescape")))
