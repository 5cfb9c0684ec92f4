"""Command lines that end well: one line for an error, whatever the input, the console or the user.

A tool's module has a function ``main(argv) -> int``. It is imported inside of `run_tool`, so that
Ctrl-C during slow imports is handled as well. Nothing heavy may be imported here.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from ..errors import VarPromptError, out_of_memory
from .characters import printable
from .streams import let_go_of_broken_streams, safe_standard_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

READER_GONE = 1
EXIT_BAD_INPUT = 2
EXIT_RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
INTERRUPTED = 130
DEBUG = "VARPROMPT_DEBUG"  # environment variable: tracebacks of defects

unfinished: set[str] = set()  # files and folders that must not outlive this process
_interrupted = 0  # number of the signal that has asked this process to end
_exit_code = 0  # of a process that a signal ends; 0 = that of a shell, 128 + the signal's number


def run_script(module: str) -> int:
    """`run_tool` for a file that is started itself: nothing may fail at Python's own end either."""
    code = run_tool(module)
    with suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def run_tool(module: str, argv: Sequence[str] | None = None) -> int:
    """The exit code of ``module.main(argv)``; an error is one line on standard error.

    0 and 1 are the tool's own; 1 is also what it ends with when nobody reads its output any more;
    2: bad input; 130: Ctrl-C; 143: SIGTERM; 129: its terminal is gone.
    """
    from importlib import import_module

    with _interruptions(), safe_standard_streams():
        try:
            code = import_module(module).main(argv)
            sys.stdout.flush()
            return code
        except SystemExit:
            raise
        except BaseException as error:
            return _explained(error)
        finally:
            let_go_of_broken_streams()


def exit_at_interrupt(code: int = 0) -> None:
    """Until handlers of the command take over, Ctrl-C and SIGTERM end the process with one line.

    For slow imports. The exit code is `code`; 0 = that of a shell, 130 or 143.
    """
    global _exit_code
    _exit_code = code
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, _end)
        signal.signal(signal.SIGTERM, _end)


def explain_errors() -> None:
    """In a program that is not ours, such as CoOp's train.py: an error of ours is one line there.

    $VARPROMPT_DEBUG brings the traceback back. Errors of others are reported as before.
    """
    report = sys.excepthook

    def one_line(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(error, VarPromptError) and not os.environ.get(DEBUG):
            say(f"error: {reason_for(error)}")
        else:
            report(kind, error, trace)

    sys.excepthook = one_line


def out(text: str) -> None:
    """Lines on standard output."""
    print(text)  # noqa: T201


def say(line: str) -> None:
    """One line on standard error, if there is one."""
    with suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _explained(error: BaseException) -> int:
    if _interrupted or isinstance(error, KeyboardInterrupt):  # also what an import made of it
        say("interrupted")
        return 128 + (_interrupted or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return READER_GONE
    if os.environ.get(DEBUG) or not isinstance(error, Exception):
        raise error
    say(f"error: {reason_for(error)}")
    return EXIT_BAD_INPUT


def reason_for(error: Exception) -> str:
    """What to say about an error, in one line where it is not a list of problems."""
    if out_of_memory(error):
        return f"the memory is full ({type(error).__name__})"
    if isinstance(error, VarPromptError | OSError):
        return "\n".join(map(printable, str(error).splitlines())) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing_package(error.name)
    place, trace = "", error.__traceback__
    while trace:
        place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
    what = printable(f"{type(error).__name__}: {error}"[:300])
    return f"unexpected {what} ({place}); {DEBUG}=1 shows where: please report it"


def missing_package(name: str) -> str:
    """What to do about a package that is not installed; in a checkout most likely .venv."""
    advice = f"the package {name} is not installed: pip install {name}"
    checkout = Path(__file__).resolve().parents[2]
    setup, venv = checkout / "scripts/setup.sh", checkout / ".venv"
    if not setup.is_file():
        return advice
    make = f"bash {setup} && " if not venv.is_dir() or Path(sys.prefix) == venv else ""
    return f"{advice}, or use the environment of the scripts: {make}source {venv}/bin/activate"


def need_packages() -> None:
    """End with one line if what every command needs is not installed: for slow imports.

    Raises:
        SystemExit: something is missing.
    """
    for name in ("numpy", "torch", "yaml", "yacs"):
        if find_spec(name) is None:
            say(f"error: {missing_package({'yaml': 'PyYAML'}.get(name, name))}")
            raise SystemExit(EXIT_BAD_INPUT)


@contextmanager
def _interruptions() -> Iterator[None]:
    """Remember Ctrl-C: an import or a callback that it hits may turn it into something else.

    SIGTERM and SIGHUP (a closed terminal) are Ctrl-C, too, so that nothing half written stays
    behind; not if somebody has them ignored, as nohup does.
    """
    global _interrupted
    _interrupted, hook, before = 0, sys.unraisablehook, {}
    sys.unraisablehook = _unraisable
    with suppress(ValueError):
        for number in (signal.SIGINT, *ends_politely()):
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        with suppress(ValueError, TypeError):
            for number, handler in before.items():
                own = handler == _end and number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if own else handler)


def ends_politely() -> list[signal.Signals]:
    """The signals besides Ctrl-C that ask this process to end, of those that are not ignored."""
    found = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows has no HUP
    return [n for n in found if n is not None and signal.getsignal(n) != signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    if _interrupted == getattr(signal, "SIGHUP", -1) == number:
        return  # a shell passes on to its jobs what they have heard from their terminal
    if _interrupted:  # impatient
        _end(number)
    _interrupted = number
    raise KeyboardInterrupt


def _unraisable(args: Any) -> None:
    """Ctrl-C in a destructor or callback would be printed and forgotten."""
    if isinstance(args.exc_value, KeyboardInterrupt):
        _end(_interrupted or signal.SIGINT)
    sys.__unraisablehook__(args)


def _end(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    for path in unfinished:
        with suppress(OSError):
            (shutil.rmtree if os.path.isdir(path) else os.unlink)(path)
    for child in getattr(sys.modules.get("multiprocessing.process"), "_children", ()):
        with suppress(OSError, AttributeError, TypeError):
            os.kill(child.pid, signal.SIGKILL)  # it would notice only seconds later
    os._exit(_exit_code or 128 + number)
