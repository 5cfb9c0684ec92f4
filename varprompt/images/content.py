"""What is in image files: their SHA-256, computed once per file and remembered on disk.

A path, a size or a time of change does not tell what a file holds. Its content does, but to read
50,000 images in full at every start takes minutes on a slow disk. So digests are kept in
`digest_file()` under (device, inode, size, time of change of the content, time of change of the
inode), all in nanoseconds. The last one is set by the system alone: whoever writes to a file, or
puts another in its place and sets the old time, changes it.

One case is left: a file that is written again within the same tick of the file system's clock. As
git does, a file that has changed just before it was read is not remembered, so that it is read
again at the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.files import cache_file
from ..errors import DataError

_ROW = np.dtype([("key", "<u8", 5), ("digest", "u1", 32)])
_TICK = 2_000_000_000  # nanoseconds: the coarsest clock of a file system (FAT)
_MOST = 2_000_000  # rows kept, 144 MB: more than ImageNet has images
_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93,
     0xA0761D6478BD642F], dtype=np.uint64,
)  # fmt: skip # odd numbers without a pattern
_BITS = (1 << 64) - 1
_CHUNK = 1 << 20
_READERS = 8  # at once: a network file system answers slowly, but many at a time
_TOGETHER = 64  # files that a reader is given at once
_BLOCK = 20_000  # files between two writings of the memory

Key = tuple[int, int, int, int, int]


def digest_file() -> Path:
    """``content.sha256`` in ``$VARPROMPT_CACHE``, by default in ``~/.cache/varprompt``.

    Raises:
        RuntimeError: there is no home folder.
    """
    return cache_file("content.sha256")


class ContentHasher:
    """SHA-256 of files, remembered on disk.

    Nothing that goes wrong with the memory stops a run: it is noted once, and files are read.

    Args:
        note: takes a line for the log.
    """

    def __init__(self, note: Callable[[str], None]):
        self.note = note
        self.n_read = 0  # files read in full so far
        self._known = _Known(np.empty(0, _ROW))
        self._loaded, self._lasts = False, True

    def digests(self, paths: Sequence[str], kind: str = "image") -> list[str]:
        """Hex digests of the content of files, in order; with a progress bar if it takes longer.

        Args:
            paths: names of the files.
            kind: what they are, for messages.

        Raises:
            DataError: a file is missing, not a regular file, or cannot be read.
        """
        self._load()
        keys = np.array([_key(path, kind) for path in paths], np.uint64).reshape(-1, 5)
        digests, hit = self._known.find(keys)
        missing = np.flatnonzero(~hit)
        with tqdm(total=len(missing), delay=1, disable=None, desc=f"hashing {kind}s") as bar:
            for start in range(0, len(missing), _BLOCK):  # what is killed has lost one block
                block = missing[start : start + _BLOCK]
                rows, lasting = _read_all([paths[i] for i in block], kind, bar.update)
                digests[block] = rows["digest"]
                self.n_read += len(rows)
                if lasting.any():
                    self._remember(rows[lasting])
        return [row.tobytes().hex() for row in digests]

    def digest(self, path: str | os.PathLike) -> str:
        """Hex digest of one file that is no image."""
        return self.digests([os.fspath(path)], "file")[0]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            self._known = _Known(_read_rows(digest_file()))
        except FileNotFoundError:
            pass
        except ValueError:
            self.note(f"{digest_file()} is damaged: images are read again")
        except (OSError, RuntimeError) as error:
            self._without_memory(error)

    def _remember(self, rows: np.ndarray) -> None:
        self._known = _Known(np.concatenate([self._known.rows, rows]))
        try:
            if self._lasts:
                _merge_into(digest_file(), rows)
        except (OSError, RuntimeError) as error:
            self._without_memory(error)

    def _without_memory(self, error: Exception) -> None:
        self._lasts = False
        self.note(
            f"Digests of images are not kept ({error}): set VARPROMPT_CACHE to a writable folder"
        )


class _Known:
    """Rows that can be looked up by their key."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows
        mixed = _mix(rows["key"])
        self._order = np.argsort(mixed, kind="stable")
        self._sorted = mixed[self._order]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Digests `(N, 32)` of keys `(N, 5)`, and which of them were found."""
        digests = np.zeros((len(keys), 32), np.uint8)
        hit = np.zeros(len(keys), bool)
        if len(self.rows) and len(keys):
            place = np.searchsorted(self._sorted, _mix(keys), side="right") - 1  # the newest
            row = self.rows[self._order[np.maximum(place, 0)]]
            hit = (row["key"] == keys).all(1)  # in full: two keys may be mixed to one number
            digests[hit] = row["digest"][hit]
        return digests, hit


def _mix(keys: np.ndarray) -> np.ndarray:
    return (keys * _MIX).sum(1, dtype=np.uint64)


def _key(path: str, kind: str) -> Key:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, kind, error) from error
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
        raise DataError(f"{path}: not a readable {kind} (not a regular file)")
    return _key_of(found)


def _key_of(found: os.stat_result) -> Key:
    return (
        found.st_dev & _BITS, found.st_ino & _BITS, found.st_size, found.st_mtime_ns & _BITS,
        found.st_ctime_ns & _BITS,
    )  # fmt: skip


def _unreadable(path: str, kind: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path}: not a readable {kind} ({reason})")


def _read_all(
    paths: Sequence[str], kind: str, done: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows `(N,)` of files, and which of them may be remembered; `done` hears of the progress."""
    rows, lasting = np.empty(len(paths), _ROW), np.zeros(len(paths), bool)
    parts = [paths[i : i + _TOGETHER] for i in range(0, len(paths), _TOGETHER)]
    readers = ThreadPoolExecutor(_READERS)
    try:
        i = 0
        for part in readers.map(lambda part: [_read(path, kind) for path in part], parts):
            for key, digest, old_enough in part:
                rows[i] = (key, np.frombuffer(digest, np.uint8))
                lasting[i] = old_enough
                i += 1
            done(len(part))
    finally:
        readers.shutdown(cancel_futures=True)  # Ctrl-C does not wait for what has not begun
    return rows, lasting


def _read(path: str, kind: str) -> tuple[Key, bytes, bool]:
    """Hash a file; it may be remembered if it has not changed just before or meanwhile."""
    started = time.time_ns()
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            before = _key_of(os.fstat(file.fileno()))
            while content := file.read(_CHUNK):
                digest.update(content)
            after = _key_of(os.fstat(file.fileno()))
    except OSError as error:
        raise _unreadable(path, kind, error) from error
    # Windows tells when a file was made instead of when its inode changed: anybody can set that
    tells = os.name != "nt"
    return after, digest.digest(), tells and before == after and started - after[4] > _TICK


def _read_rows(path: Path) -> np.ndarray:
    """The rows of a file.

    Raises:
        ValueError: it is damaged.
    """
    content = path.read_bytes()
    body, checksum = content[:-32], content[-32:]
    if len(body) % _ROW.itemsize or hashlib.sha256(body).digest() != checksum:
        raise ValueError("the checksum is wrong")
    return np.frombuffer(body, _ROW)


def _merge_into(path: Path, rows: np.ndarray) -> None:
    """Add rows to a file, the oldest go beyond `_MOST`.

    Of two processes that do so at once one may lose its rows: their files are read once more.
    There is no fsync: what a power failure leaves has a wrong checksum.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, ValueError):
        rows = np.concatenate([_read_rows(path), rows])
    body = rows[-_MOST:].tobytes()
    handle, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.write(hashlib.sha256(body).digest())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
