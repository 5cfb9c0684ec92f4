"""A file from the network that is whole, and the right one, whenever it has its name."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ..errors import DataError

_TIMEOUT = 60  # seconds without any data
_CHUNK = 2**20


def download(url: str, target: Path, sha256: str) -> None:
    """Fetch `url` to `target`, unless that is there already with the right content.

    What has arrived is kept beside it as ``NAME.part`` and taken up again next time. Other
    processes that want the same file wait.

    Args:
        url: of the file.
        target: where it goes; a file with other content is replaced.
        sha256: hex digest of the content.

    Raises:
        DataError: another content arrived.
        OSError: no network, no such file there, a full or read-only disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if file_sha256(target) == sha256:
            return
        part = target.with_name(f"{target.name}.part")
        _fetch(url, part)
        found = file_sha256(part)
        if found != sha256:
            part.unlink()
            raise DataError(f"{url} sent something else: its sha256 is {found}, not {sha256}")
        os.replace(part, target)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content, '' if there is no such file."""
    if not path.is_file():
        return ""
    result = hashlib.sha256()
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
