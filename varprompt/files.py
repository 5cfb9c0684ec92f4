"""Files: written whole or not at all; checkpoints are read without running code from them.

CoOp's files hold, besides tensors, a pickled scheduler with its optimizer. Nothing of it is
needed, so its classes (all of ``torch.optim``) are read as inert placeholders and then dropped.
torch is imported where a checkpoint is: who writes a text need not wait for it.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

from .errors import CheckpointError, disk_failed, pass_on_memory

_CODE_SIZE = 64 * 2**20  # bytes of the program code in an archive, more than any has
_UNFINISHED = ".tmp"  # end of the name of a file that is being written
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
        path.write_bytes(content.getbuffer())
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    handle, temporary = _temporary_beside(path)
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
    """Whether something is there, or a link to something, that is neither file nor folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


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
        _load(file, path, {})  # proven readable before it replaces the previous one

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
    # at once, and before it is looked at: a disk that does not answer is no damage
    file = io.BytesIO(Path(path).read_bytes())
    state = _load(file, path, _placeholders(file))
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, not a dict")
    return {key: None if _has_placeholder(value) else value for key, value in state.items()}


class _Placeholder:
    """Stands where a file has an object of ``torch.optim``."""

    def __new__(cls, *args: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass


def _plain_dict(*args: Any) -> dict[Any, Any]:
    """Stands for ``collections.defaultdict``."""
    return {}


def _placeholders(file: IO[bytes]) -> dict[str, Any]:
    """What to use for the classes a file names that ``torch.load`` does not know."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception as error:  # damaged, or of torch's oldest form: loading it says what is wrong
        pass_on_memory(error, "looking for the classes in a checkpoint")
        names = []
    finally:
        file.seek(0)
    if not any(name.startswith("torch.optim.") for name in names):
        return {}
    known = {name: _Placeholder for name in names if name.startswith("torch.optim.")}
    return known | {"collections.defaultdict": _plain_dict, "builtins.dict": _Placeholder}


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_placeholder, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_placeholder, value))
    return isinstance(value, _Placeholder)


def _load(file: IO[bytes], path: str | os.PathLike, placeholders: dict[str, Any]) -> Any:
    import torch

    allowed: list[Any] = [(stand_in, name) for name, stand_in in placeholders.items()]
    try:
        _check_sums(file)
        with torch.serialization.safe_globals(allowed):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = ", ".join(dict.fromkeys(re.findall(r"GLOBAL (\S+)", str(error))))
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds objects other than tensors and numbers"
            f"{names and f' ({names})'}, which are never unpickled"
        ) from error
    except Exception as error:  # a damaged file makes the reader raise anything
        if disk_failed(error):
            raise
        pass_on_memory(error, f"reading {path}")
        known = isinstance(error, OSError | RuntimeError | ValueError)
        reason = str(error).partition(".")[0].strip()[:100] if known else ""
        raise CheckpointError(
            f"checkpoint {path} is damaged or not a checkpoint ({reason or 'not of torch.save'})"
        ) from error


def _check_sums(file: IO[bytes]) -> None:
    """Compare the checksums in a zip archive, which ``torch.load`` does not."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(archive)
            broken = archive.testzip()
        if broken:
            raise ValueError(f"the checksum of its part {broken} is wrong")
    file.seek(0)
    if file.read(4) == b"PK\3\4" and not zipfile.is_zipfile(file):
        raise ValueError("it is cut short")
    file.seek(0)


def check_unpacked_size(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is far larger unpacked: torch compresses nothing but program code.

    Raises:
        ValueError: its parts have more than twice the bytes of the file, and 64 MB.
    """
    unpacked = sum(part.file_size for part in archive.infolist())
    packed = archive.fp.seek(0, io.SEEK_END) if archive.fp else 0
    if unpacked > 2 * packed + _CODE_SIZE:
        raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
