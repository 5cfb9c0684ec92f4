"""Taking parts out of tar and zip archives: each whole or not at all, and nothing outside."""

import gzip
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from tqdm import tqdm

from varprompt.errors import DataError

from .splits import leaves_folder

_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError,
    NotImplementedError,
)  # fmt: skip
_CHUNK = 2**20


def unpack(archive: Path, parts: Mapping[str, Path]) -> None:
    """Put files or folders of an archive where they belong; what is there already stays.

    Links and special files in it are left out, and so is what is no part.

    Args:
        archive: a tar (also compressed) or zip file.
        parts: path in it -> where that goes.

    Raises:
        DataError: the archive is damaged or lacks a part.
        OSError: a full or read-only disk; nothing half unpacked remains.
    """
    wanted = {name: place for name, place in parts.items() if not os.path.lexists(place)}
    if not wanted:
        return
    home = next(iter(wanted.values())).parent
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=home) as temporary:
        try:
            seen = _extract(archive, tuple(wanted), Path(temporary))
        except _DAMAGE as error:
            raise DataError(f"{archive} is damaged ({error}); delete it and try again") from error
        except OSError as error:
            error.filename = error.filename or str(home)  # a full disk does not say which
            raise
        if lacking := [name for name in wanted if not Path(temporary, name).exists()]:
            raise DataError(
                f"{archive} lacks {', '.join(lacking)}; it holds {', '.join(sorted(seen)[:10])}"
            )
        for name, place in wanted.items():
            os.replace(Path(temporary, name), place)


def _extract(archive: Path, wanted: tuple[str, ...], folder: Path) -> set[str]:
    """Write the files of the parts below `folder`; returns the first names in the archive."""
    seen: set[str] = set()
    made: set[Path] = set()
    bar = tqdm(_files(archive), archive.name, unit="file", disable=None, delay=1)
    for name, content in bar:
        name = name.removeprefix("./")
        seen.add(name.partition("/")[0])
        if not any(name == part or name.startswith(f"{part}/") for part in wanted):
            continue
        if leaves_folder(name):
            raise DataError(f"{archive} holds {name!r}, which is outside of it")
        target = folder / name
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        with open(target, "wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
    return seen


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every regular file, in the order of the archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as content:
                        yield info.filename, content
        return
    with tarfile.open(archive) as opened_tar:
        for member in opened_tar:
            content = opened_tar.extractfile(member) if member.isfile() else None
            if content:
                yield member.name, content
