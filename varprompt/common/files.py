"""Files: written whole or not at all; checkpoints are read without running code from them.

torch is imported where a checkpoint is: who writes a text need not wait for it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from ..errors import CheckpointError
from .console import unfinished
from .safe_load import check_start, load, load_state

_UNFINISHED = ".tmp"  # end of the name of a file that is being written
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/(stdout|stderr|fd/\d+)")
_TEMPORARY = re.compile(rf"\.(?P<name>.+)\.\w{{8}}{re.escape(_UNFINISHED)}")  # of mkstemp


def cache_file(name: str) -> Path:
    """The file `name` in ``$VARPROMPT_CACHE``, by default in ``~/.cache/varprompt``.

    Raises:
        RuntimeError: there is no home folder.
    """
    named = os.environ.get("VARPROMPT_CACHE")
    return Path(named or "~/.cache/varprompt").expanduser() / name


def write_atomic(
    path: str | os.PathLike, save: Any, before: str | os.PathLike | None = None
) -> None:
    """Call ``save(file)`` on a temporary file beside `path`, then rename it to `path`.

    A reader sees the old content or the new one, never a part; a full disk leaves the old one.
    With `before`, the old content stays under that name: at every instant `path`, `before` or
    both are whole. Of a link what it points to is replaced; into a pipe or a device, such as
    /dev/stdout or /dev/null, everything is written at once.

    Raises:
        OSError: the disk is full or read-only, `path` is a folder or below a file.
    """
    path = Path(path)
    if _is_special(path):
        content = io.BytesIO()
        save(content)
        with _opened(path) as target:
            target.write(content.getbuffer())
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    handle, temporary = _temporary_beside(path)
    unfinished.add(temporary)
    try:
        with os.fdopen(handle, "w+b") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        if before is not None and path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # of a full disk
            error.filename = str(path)
        raise
    finally:
        unfinished.discard(temporary)


def unwritable(path: str | os.PathLike) -> str:
    """Why no file can be written at `path`, as far as folders tell; "" if one can."""
    if os.path.isdir(path):
        return "is a folder; give the file to write"
    if _is_special(Path(path)):
        return ""
    folder = next(str(p) for p in Path(path).absolute().parents if os.path.lexists(p))
    if not os.path.isdir(folder):
        return f"cannot be written: {folder} is no folder"
    if not os.access(folder, os.W_OK):
        return f"cannot be written: nothing can be written into {folder}"
    return ""


def _is_special(path: Path) -> bool:
    """Whether something is there, or a link to something, that is neither file nor folder.

    So is an open file of this process, whatever it is of: what was written to it must stay.
    """
    if _DESCRIPTOR.fullmatch(str(path)):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _opened(path: Path) -> IO[bytes]:
    """A pipe or device to write to; an open file where it stands, behind what was printed."""
    found = _DESCRIPTOR.fullmatch(str(path))
    if not found:
        return open(path, "wb")
    if sys.stdout:
        sys.stdout.flush()
    number = {"stdout": 1, "stderr": 2}.get(found[1]) or int(found[1].rpartition("/")[2])
    return os.fdopen(os.dup(number), "wb")


def _temporary_beside(path: Path) -> tuple[int, str]:
    """Handle and name of a new file in the folder of `path`, which is made if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        what = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, what, str(path.parent)) from error
    try:
        return tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
    except OSError as error:
        error.filename = str(path)  # nobody knows the temporary one
        raise


def remove_unfinished(folder: str | os.PathLike, names: re.Pattern[str]) -> None:
    """Delete what killed processes left of `write_atomic`; nobody may be writing to `folder`.

    Args:
        folder: whose files, not those of its folders.
        names: of the files that may have been written; what is called otherwise is left alone.
    """
    for file in Path(folder).glob(f".*{_UNFINISHED}"):
        found = _TEMPORARY.fullmatch(file.name)
        if found and names.fullmatch(found["name"]) and file.is_file() and not file.is_symlink():
            file.unlink(missing_ok=True)


def write(
    state: dict[str, Any], path: str | os.PathLike, before: str | os.PathLike | None = None
) -> None:
    """Save `state` (tensors, numbers, strings and containers of them) so that `read` takes it.

    See `write_atomic` for `before`.

    Raises:
        CheckpointError: `state` holds an object that the safe ``torch.load`` refuses.
        OSError: the disk is full or read-only.
    """
    import torch

    content = io.BytesIO()  # torch's own writer hides why it could not write to a file
    torch.save(state, content)

    def save(file: IO[bytes]) -> None:
        file.write(content.getbuffer())
        file.flush()
        file.seek(0)
        load(file, path)  # proven readable before it replaces the previous one

    write_atomic(path, save, before)


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint of this project's or of CoOp's onto the CPU, with ``weights_only=True``.

    A pickled scheduler object, as in CoOp's files, is read as None.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint, or wants to run code.
        OSError: it cannot be read now.
        MemoryError: there is not enough memory for it.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    check_start(path)
    # at once, and before it is looked at: a disk that does not answer is no damage
    file = io.BytesIO(Path(path).read_bytes())
    return load_state(file, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
