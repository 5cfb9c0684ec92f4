"""A file from the network that is whole, and the right one, whenever it has its name."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ..errors import DataError

_TIMEOUT = 60  # seconds without any data
_CHUNK = 2**20


def download(
    url: str,
    target: Path,
    sha256: str = "",
    *,
    md5: str = "",
    check: Callable[[Path], None] | None = None,
) -> None:
    """Fetch `url` to `target`, unless that is there already with the right content.

    What has arrived is kept beside it as ``NAME.part`` and taken up again next time. Other
    processes that want the same file wait.

    Args:
        url: of the file.
        target: where it goes; a file with other content is replaced. Without a digest a file that
            is there is the right one.
        sha256: hex digest of the content.
        md5: the same, where only that is published: against accidents, not against forgery.
        check: raises a DataError if the content of a file cannot be right.

    Raises:
        DataError: another content arrived.
        OSError: no network, no such file there, a full or read-only disk.
    """
    kind, wanted = ("sha256", sha256) if sha256 else ("md5", md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file() and wanted in ("", file_digest(target, kind)):
            return
        part = target.with_name(f"{target.name}.part")
        _fetch(url, part)
        try:
            found = file_digest(part, kind) if wanted else ""
            if found != wanted:
                raise DataError(f"{url} sent something else: its {kind} is {found}, not {wanted}")
            if check:
                check(part)
        except DataError:
            part.unlink()
            raise
        os.replace(part, target)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content, '' if there is no such file."""
    return file_digest(path, "sha256")


def file_digest(path: Path, kind: str) -> str:
    """The same with another algorithm of hashlib."""
    if not path.is_file():
        return ""
    result = hashlib.new(kind, usedforsecurity=kind != "md5")
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            result.update(chunk)
    return result.hexdigest()


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what is missing; from the start if the server cannot do that."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - of the package's list
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - see above
    except urllib.error.HTTPError as error:
        if error.code != 416:  # that says: nothing is missing
            raise
        return
    with answer:
        goes_on = answer.status == 206
        missing = int(answer.headers.get("Content-Length") or 0)
        free = shutil.disk_usage(part.parent).free + (0 if goes_on else start)
        if missing > free:
            reason = f"no room for its {missing:,} bytes: {free:,} are free"
            raise OSError(errno.ENOSPC, reason, str(part.parent))
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm.wrapattr(
                answer, "read", total=missing or None, desc=part.stem, miniters=1, delay=1
            ) as source,
        ):
            shutil.copyfileobj(source, file, _CHUNK)
            file.flush()
            os.fsync(file.fileno())
            arrived = file.tell() - (start if goes_on else 0)
    if arrived < missing:
        raise OSError(f"the connection broke off after {arrived:,} of {missing:,} bytes")
