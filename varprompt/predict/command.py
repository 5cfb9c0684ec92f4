"""Say what is on images, and how sure that is.

    varprompt predict out/run photos/                       a table on the screen
    varprompt predict out/run 'photos/*.jpg' --format csv --output answers.csv --top 3
    find / -name '*.png' | varprompt predict out/run - --format jsonl
    varprompt predict out/run photos --sheet answers.html   pictures with their answers
    varprompt predict out/run photos --classes names.txt    other classes, never seen

MODEL is the folder of a run or of a saved classifier. IMAGES are files, folders (with the folders
in them), patterns, or - for names on standard input, one a line. Uncertainties are in nats: total
= aleatoric (what the samples of the prompts agree on) + epistemic (what they disagree about). An
image is "unsure" where answering as confidently has gone wrong too often on the images that were
held out when MODEL was learned: see --risk. Any number of images is read in bounded memory.

Exit code: 0 all images are classified, 1 some cannot be read (each is named), 2 bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ..common.characters import printable
from ..common.checks import check_range
from ..common.console import say
from ..common.files import unwritable, write_atomic
from ..errors import ConfigError, DataError
from ..images.listing import STDIN, listed_images
from ..images.stream import stream_images
from ..images.tree import summary
from ..settings.flags import Parser, given
from .judge import RISK, Judge, threshold_of
from .model_flags import add_model_flags, open_model
from .rows import FORMATS, Writer, make_writer
from .sheet import KINDS, THUMBNAIL, Sheet

EXIT_UNREADABLE = 1
_MOST = 10**6


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(
        prog="varprompt predict", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_model_flags(new)
    new.add_argument(
        "images", metavar="IMAGES", nargs="+", type=given,
        help="files, folders, patterns, or - for names on standard input",
    )  # fmt: skip
    new.add_argument("--top", type=int, default=1, metavar="K", help="classes per image (1)")
    new.add_argument(
        "--risk", type=float, default=RISK, metavar="R",
        help=f"mark as unsure what would take the share of errors above R ({RISK})",
    )  # fmt: skip
    new.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    new.add_argument("--output", metavar="FILE", type=given, help="instead of standard output")
    new.add_argument(
        "--sheet", metavar="FILE", type=given, help="contact sheet to look at: .html or .png"
    )
    new.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at once (64)")
    new.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read (2)")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Classify images; returns the exit code.

    Raises:
        VarPromptError: bad input, or no image at all.
        OSError: the output cannot be written.
    """
    args = parser().parse_args(argv)
    _check(args)
    learned = open_model(args).learned_
    sheet = Sheet(args.model) if args.sheet else None
    judge = Judge(learned, args.top, threshold_of(learned, args.risk, args.model))
    done = _Done()

    def write(file: IO[str]) -> None:
        writer = make_writer(args.format, file, judge.n_top, learned.names)
        _classify(args, judge, writer, sheet, done)

    if args.output:
        write_atomic(args.output, lambda file: _as_text(file, write))
    else:
        write(sys.stdout)
    if sheet:
        content = sheet.render(Path(args.sheet).suffix.lower())
        write_atomic(args.sheet, lambda file: file.write(content))
    for line in done.summary():
        say(line)
    return EXIT_UNREADABLE if done.unreadable else 0


@dataclass
class _Done:
    """What became of the images."""

    classified: int = 0
    unreadable: int = 0
    unsure: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    def summary(self) -> list[str]:
        lines = [f"ignored in folders: {summary(self.ignored)}"] if self.ignored else []
        unsure = f", {self.unsure:,} of them unsure" if self.unsure else ""
        lines.append(f"{self.classified:,} images classified{unsure}")
        if self.unreadable:
            lines[-1] += f"; {self.unreadable:,} could not be read (named above)"
        return lines


def _classify(
    args: argparse.Namespace, judge: Judge, writer: Writer, sheet: Sheet | None, done: _Done
) -> None:
    """Everything from names to rows, batch by batch.

    Raises:
        DataError: there is no image.
    """
    stdin = sys.stdin.buffer if STDIN in args.images and sys.stdin else None
    paths = _not_written(listed_images(args.images, done.ignored, stdin), [args.output, args.sheet])
    batches = stream_images(
        paths, judge.learned.transform, args.batch_size, args.workers, THUMBNAIL if sheet else 0
    )
    with tqdm(unit="image", desc="classifying", disable=None) as bar:
        for batch in batches:
            for problem in batch.unreadable:
                bar.clear()
                say(f"unreadable: {printable(problem)}")
            done.unreadable += len(batch.unreadable)
            rows = judge.rows(batch.paths, batch.images) if batch.paths else []
            done.classified += len(rows)
            done.unsure += sum(bool(row.unsure) for row in rows)
            writer.write(rows)
            if sheet:
                sheet.add(rows, batch.thumbnails)
                sheet.unreadable += batch.unreadable
            bar.update(len(rows) + len(batch.unreadable))
    if not done.classified:
        found = f"none of the {done.unreadable} can be read" if done.unreadable else "there is none"
        rest = f" (ignored: {summary(done.ignored)})" if done.ignored else ""
        raise DataError(f"no image to classify in {' '.join(args.images)}: {found}{rest}")


def _not_written(paths: Iterable[str], targets: Sequence[str | None]) -> Iterator[str]:
    """`paths`, up to one that is going to be written.

    Raises:
        DataError: there is such a one.
    """
    files = [file for file in targets if file and os.path.isfile(file)]
    names = {os.path.basename(file) for file in files}
    for path in paths:
        if os.path.basename(path) in names and os.path.isfile(path):
            if any(os.path.samefile(path, file) for file in files):
                raise DataError(
                    f"{path} is one of the images and would be overwritten by --output or --sheet: "
                    "give another name"
                )
        yield path


def _as_text(file: IO[bytes], write: Callable[[IO[str]], None]) -> None:
    """Let `write` have a binary file as text; names that are no UTF-8 keep their bytes."""
    text = TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    write(text)
    text.flush()
    text.detach()


def _check(args: argparse.Namespace) -> None:
    """Everything that is wrong with the flags, at once."""
    problems: list[str] = []
    check_range(args.top, 1, _MOST, "--top", problems)
    check_range(args.batch_size, 1, _MOST, "--batch-size", problems)
    check_range(args.workers, 0, 1000, "--workers", problems)
    if not 0 < args.risk < 1:
        problems.append(f"--risk is {args.risk}; give a share between 0 and 1, such as {RISK}")
    if args.sheet and Path(args.sheet).suffix.lower() not in KINDS:
        problems.append(f"--sheet is {args.sheet}; give a name that ends with {' or '.join(KINDS)}")
    targets = [(flag, f) for flag, f in (("--output", args.output), ("--sheet", args.sheet)) if f]
    problems += [f"{flag} {file} {why}" for flag, file in targets if (why := unwritable(file))]
    if len({os.path.realpath(file) for _, file in targets}) < len(targets):
        problems.append("--output and --sheet are one file: give each its own")
    if args.images.count(STDIN) > 1:
        problems.append(f"{STDIN} stands twice: standard input can be read once")
    if problems:
        raise ConfigError(problems)
