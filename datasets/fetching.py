"""Gets data sets of the CoOp protocol from the network, in CoOp's folders.

What is there already is left alone. A download that was cut off goes on with the same command;
archives are compared with their published MD5 sums and deleted when their parts are in place.
Sources that are dead or need an account are said, with what to do by hand.
"""

import argparse
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from varprompt.common.characters import printable
from varprompt.common.checks import check_choice
from varprompt.common.console import out, say
from varprompt.errors import ConfigError, DataError
from varprompt.settings.flags import Parser
from varprompt.towers.download import download

from .base import FewShotDataset
from .downloads import ARCHIVES, BY_HAND, Archive
from .imagenet_family import CLASSNAMES
from .inspection import KINDS, MADE_HERE, OTHER_SPELLINGS, inspect
from .splits import read_split
from .unpack import unpack

WORK = ".fetch"  # folder in that of the data set: archives that are under way
NAMES = tuple(name for name in KINDS if name in ARCHIVES or name in BY_HAND)
_DRIVE_PAGE = re.compile(r"https://drive\.google\.com/file/d/([\w-]+)/view")
_DRIVE_FILE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
_FIRST_BYTES = 512
_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments; ``names`` are of NAMES.

    Raises:
        ConfigError: a name that is none, or no folder.
    """
    parser = Parser(
        prog="python -m datasets.fetch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code: 0 if all that was asked for is complete, 1 if not, 2 for an error. Mind "
        "the licences: the pages in DATASETS.md state them.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name",
        help=f"data sets ({', '.join(NAMES)}); without a name: what can be fetched",
    )  # fmt: skip
    parser.add_argument(
        "--root", default=os.environ.get("DATA", ""), help="folder of the data sets; default: $DATA"
    )
    parser.add_argument("--keep", action="store_true", help="do not delete the archives")
    args = parser.parse_args(argv)
    args.names = [OTHER_SPELLINGS.get(name.lower(), name.lower()) for name in args.names]
    problems: list[str] = []
    for name in args.names:
        if name in MADE_HERE:
            problems.append(f"{name} is made on first use: there is nothing to fetch")
        else:
            check_choice(name, NAMES, "data set", problems)
    if args.names and not args.root:
        problems.append("say where the data sets lie: --root FOLDER, or export DATA=FOLDER")
    if problems:
        raise ConfigError(problems)
    return args


def main(argv: list[str] | None = None) -> int:
    """Fetch what was asked for; return the exit code."""
    args = parse_args(argv)
    if not args.names:
        for name in NAMES:
            out(f"{name:16} {printable(_what(name))}")
        return 0
    root = Path(os.path.expanduser(args.root))
    complete = [fetch(name, root, args.keep) for name in dict.fromkeys(args.names)]
    return int(not all(complete))


def _what(name: str) -> str:
    by_hand = f"not its images: {BY_HAND[name]}" if name in BY_HAND else ""
    return by_hand or ", ".join(archive.url for archive in ARCHIVES[name])


def fetch(name: str, root: Path, keep: bool = False) -> bool:
    """Get one data set; say what it lacks then. Returns whether it is complete.

    A file that cannot be had does not stop the others.

    Raises:
        OSError: the disk is full or read-only.
    """
    kind = KINDS[name]
    folder = root / kind.dataset_dir
    work = folder / WORK
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / "lock"):
        failures = [_try(_get_file, kind, file, folder) for file in _files(kind)]
        failures += [
            _try(_get_archive, archive, folder, keep)
            for archive in ARCHIVES.get(name, ())
            if not _needless(kind, archive, folder)
        ]
    if not keep:
        _tidy(work)
    for failure in filter(None, failures):
        say(f"{kind.__name__}: {printable(failure)}")
    finding = inspect(kind, str(root))
    lacking = finding.gaps if not any(failures) or finding.state == "damaged" else []
    for line in lacking:
        say(f"{kind.__name__}: {printable(line)}")
    if name in BY_HAND and finding.gaps:
        say(f"{kind.__name__}: {BY_HAND[name]}. DATASETS.md shows where the images belong.")
    if not finding.gaps:
        out(f"{kind.__name__} is complete in {printable(folder)}")
    return not finding.gaps and not any(failures)


def _try(get: Callable[..., None], *args: object) -> str:
    """Why something could not be had; '' if it could. A full or read-only disk ends all."""
    try:
        get(*args)
    except DataError as error:
        return str(error)
    except OSError as error:
        if error.errno in _NO_WRITING:
            raise
        return str(error)
    return ""


def _files(kind: type[FewShotDataset]) -> list[str]:
    """Single files: the split, or the names of the classes."""
    return [file for file in (kind.split_file, CLASSNAMES) if file and file in kind.sources]


def _needless(kind: type[FewShotDataset], archive: Archive, folder: Path) -> bool:
    """Whether it holds only what is not needed, since the split file is there."""
    spare = {source.rstrip("/") for source in kind.only_without_split}
    split = kind.split_file and (folder / kind.split_file).is_file()
    return bool(split) and spare.issuperset(archive.parts.values())


def _get_file(kind: type[FewShotDataset], file: str, folder: Path) -> None:
    target = folder / file
    if target.exists():
        return
    page = kind.sources[file]

    def check(arrived: Path) -> None:
        _refuse_page(arrived, page, target)
        if file == kind.split_file:
            _check_split(kind, arrived, page)

    download(direct(page), folder / WORK / file, check=check)
    os.replace(folder / WORK / file, target)


def _check_split(kind: type[FewShotDataset], arrived: Path, page: str) -> None:
    """No checksum of the split files is published, but their sizes are.

    Raises:
        DataError: it is another file.
    """
    split = read_split(str(arrived))
    sizes = tuple(map(len, split))
    if sizes != kind.sizes:
        raise DataError(
            f"{page} sent a split of {sizes} images for training, validation and test; published "
            f"are {kind.sizes}"
        )


def _get_archive(archive: Archive, folder: Path, keep: bool) -> None:
    places = {name: folder / part for name, part in archive.parts.items()}
    if all(os.path.lexists(place) for place in places.values()):
        return
    file = folder / WORK / archive.file_name

    def check(arrived: Path) -> None:
        _refuse_page(arrived, archive.url, file)

    download(direct(archive.url), file, md5=archive.md5, check=check)
    source = file
    if archive.inner:
        source = file.with_name(archive.inner.rpartition("/")[2])
        unpack(file, {archive.inner: source})
    unpack(source, places)
    for used in {file, source} if not keep else ():
        used.unlink()


def direct(page: str) -> str:
    """The address of the file itself where `page` is one of Google Drive; else the same."""
    found = _DRIVE_PAGE.fullmatch(page)
    return _DRIVE_FILE.format(found[1]) if found else page


def _refuse_page(arrived: Path, page: str, target: Path) -> None:
    """Google Drive answers with a page, not an error, when it does not give a file.

    Raises:
        DataError: this is such a page.
    """
    with open(arrived, "rb") as file:
        start = file.read(_FIRST_BYTES).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DataError(
            f"{page} answered with a web page instead of the file (too many downloads, perhaps): "
            f"open it in a browser and save the file as {target}"
        )


def _tidy(work: Path) -> None:
    """Delete the locks, and the folder if no archive is under way."""
    for lock in work.glob("*lock"):
        lock.unlink(missing_ok=True)
    if not any(work.iterdir()):
        work.rmdir()
