"""The errors this project raises on bad input; everything else that escapes is a defect."""

import errno
import reprlib


class VarPromptError(Exception):
    """Base class: bad input, explained in one message."""


class ConfigError(VarPromptError):
    """A configuration or command line that cannot be run; lists every problem at once."""

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(VarPromptError):
    """Missing, broken or contradictory data files."""


class CheckpointError(VarPromptError):
    """A checkpoint or weight file that is missing, damaged, unsafe or made for something else."""


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that the memory is full; torch has a class for that on GPUs only.

    Workers that load data die without a word then.
    """
    texts = (
        "out of memory", "t allocate memory", "Cannot allocate memory", "not enough memory",
        "failed to map segment", "DataLoader worker (",
    )  # fmt: skip
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def pass_on_memory(error: Exception, doing: str) -> None:
    """For a broad ``except`` about damaged files: a full memory is no damage.

    Raises:
        MemoryError: that is what `error` says.
    """
    if out_of_memory(error):
        raise MemoryError(f"out of memory while {doing}") from error


def disk_failed(error: BaseException) -> bool:
    """Whether the disk does not answer; a damaged file may make zipfile seek to nowhere."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


class _Brief(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:  # Python refuses to write the largest
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"{hex(x)[:20]}..."


def brief(value: object) -> str:
    """The beginning of ``repr(value)``, of values however large or deep."""
    shortened = _Brief()
    shortened.maxstring = shortened.maxother = 100
    return shortened.repr(value)
