"""How command lines end: on errors, on Ctrl-C, and whatever the standard streams can take."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from varprompt.common import console
from varprompt.common.characters import in_ascii, only_ascii, printable
from varprompt.common.console import run_tool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Return a function: the source of a tool -> the name of its module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source, name="some_tool"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


STOP = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
MAIN = "def main(argv):\n"
ENDS = {
    "returns": (f"{MAIN}    return argv", 1, ""),
    "bad-input": (
        f"from varprompt.errors import DataError\n{MAIN}    raise DataError('no\\x1b images')",
        2, "error: no\\x1b images\n",
    ),
    "system": (f"{MAIN}    open('/proc/x', 'w')", 2, "error: [Errno 2] No such file or "),
    "limit": (f"{MAIN}    raise ImportError('x.so: failed to map segment from shared object')", 2,
              "error: the memory is full (ImportError)"),
    "memory": (f"{MAIN}    raise MemoryError", 2, "error: the memory is full"),
    "package": (f"import no_such_package\n{MAIN}    pass", 2,
                "error: the package no_such_package is not installed: pip install"),
    "defect": (f"{MAIN}    raise KeyError('x\\ny')", 2, "error: unexpected KeyError: 'x\\ny' ("),
    "recursion": (f"{MAIN}    return main(argv)", 2, "error: unexpected RecursionError"),
    "interrupt": (f"{MAIN}    raise KeyboardInterrupt", 130, "interrupted\n"),
    "signal": (f"{STOP}{MAIN}    pass", 130, "interrupted\n"),
    "signal-taken-for-another": (
        f"try:\n    {STOP.replace(chr(10), '; ')}\nexcept KeyboardInterrupt:\n"
        "    raise ImportError('initialisation failed')\n", 130, "interrupted\n",
    ),
    "no-reader": (f"{MAIN}    raise BrokenPipeError", 1, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_ends(name, tool, capsys):
    source, code, said = ENDS[name]
    before = signal.getsignal(signal.SIGINT), sys.stdout.errors, sys.unraisablehook
    assert run_tool(tool(source), 1) == code
    out, err = capsys.readouterr()
    assert not out and err.startswith(said) and err.count("\n") == bool(said)
    assert (signal.getsignal(signal.SIGINT), sys.stdout.errors, sys.unraisablehook) == before


def test_tracebacks_on_request(tool, monkeypatch):
    monkeypatch.setenv(console.DEBUG, "1")
    with pytest.raises(KeyError):
        run_tool(tool(f"{MAIN}    raise KeyError"))


def test_usage_ends_as_argparse_does(tool):
    with pytest.raises(SystemExit, match="2"):
        run_tool(tool(f"{MAIN}    raise SystemExit(2)"))


PRINTS = f"{MAIN}    print('± é 猫 \\udcff')\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "± é 猫 \\xff"), ("iso-8859-1", "± é \\u732b \\xff"),
     ("ascii", "+- \\xe9 \\u732b \\xff"), ("cp1252", "± é \\u732b \\xff")],
)  # fmt: skip
def test_what_a_console_cannot_show_is_escaped(encoding, shown, tool, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert only_ascii() == (encoding != "utf-8")
    run_tool(tool(PRINTS))
    assert stream.buffer.getvalue().decode(encoding).strip() == shown


def test_streams_that_are_closed(tool, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run_tool(tool(f"{PRINTS}    return 0")) == 0
    assert run_tool(tool(f"{MAIN}    raise MemoryError", "another_tool")) == 2
    assert sys.stdout is sys.stderr is None


def test_names():
    assert printable("a\nb\udcff é\x1b") == r"a\nb\xff é\x1b"
    assert in_ascii("1 ±2 é") == r"1 +-2 \xe9"


def run(source, tail="", script=False, **more):
    """A tool in a process of its own, behind a shell's redirections."""
    code = (
        f"from varprompt.common.console import run_script; raise SystemExit(run_script({source!r}))"
    )
    command = f"{sys.executable} -c {code!r} {tail}".replace('"', '\\"')
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{more.pop('path')}"}
    return subprocess.run(
        ["bash", "-c", command.replace('\\"', '"')], capture_output=True, text=True,
        env=environment, **more,
    )  # fmt: skip


SIGNAL_AT = """
import importlib.abc, os, runpy, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
sys.argv = ["train.py", "train", "--help"]
{start}
"""
STARTS = {
    "train.py": "runpy.run_path('train.py', run_name='__main__')",
    "varprompt train": "runpy.run_module('varprompt', run_name='__main__')",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("start", STARTS)
def test_signal_among_the_first_imports_of_a_training(start, number):
    code = SIGNAL_AT.format(
        module="varprompt.commands.train", number=int(number), start=STARTS[start]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "interrupted\n")


def test_signal_among_the_first_imports_of_a_tool():
    code = SIGNAL_AT.format(module="varprompt.settings", number=int(signal.SIGTERM), start=(
        "sys.argv[1] = 'report'; runpy.run_module('varprompt', run_name='__main__')"
    ))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "interrupted\n")


def test_interrupt_where_python_forgets_it(tool, tmp_path):
    source = f"class A:\n    def __del__(self):\n        {STOP.replace(chr(10), '; ')}\n"
    name = tool(f"{source}{MAIN}    A()\n    print('went on')\n    return 0")
    ended = run(name, path=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("tail", "code", "said"),
    [(">&-", 0, ""), ("2>&-", 0, ""), (">&- 2>&-", 0, ""), ("<&- >&- 2>&-", 0, ""),
     ("> /dev/full", 2, "error: [Errno 28] No space left on device"), ("| true", 0, "")],
)  # fmt: skip
def test_redirections(tail, code, said, tool, tmp_path):
    name = tool(f"{MAIN}    print('x' * 10**6)\n    return 0")
    ended = run(name, tail, path=tmp_path)
    assert (ended.returncode, ended.stderr.strip()) == (code, said)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_whoever_ends_it_nothing_half_written_stays(number, code, tool, tmp_path):
    (tmp_path / "out").mkdir()
    name = tool(
        f"import os\nfrom varprompt.common.files import write_atomic\n{MAIN}"
        f"    write_atomic('out/x', lambda file: os.kill(os.getpid(), {int(number)}))"
    )
    ended = run(name, path=tmp_path, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "interrupted\n")
    assert not list((tmp_path / "out").iterdir())


def test_an_impatient_second_ctrl_c_leaves_nothing_behind_either(tool, tmp_path):
    (tmp_path / "out").mkdir()
    name = tool(
        f"import os, time\nfrom varprompt.common import console\n"
        f"from varprompt.common.files import write_atomic\n"
        f"os.makedirs('photos/of mine')\nconsole.unfinished.add('photos')\n"
        f"def twice(file):\n    try:\n        os.kill(os.getpid(), {int(signal.SIGINT)})\n"
        f"        time.sleep(9)\n    finally:\n"
        f"        os.kill(os.getpid(), {int(signal.SIGINT)})\n"
        f"{MAIN}    write_atomic('out/x', twice)"
    )
    ended = run(name, path=tmp_path, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "photos").exists()


def test_a_hangup_that_is_heard_twice_does_not_cut_the_end_short(tool, tmp_path):
    """From the terminal, and from the shell that passes it on."""
    hangup = "os.kill(os.getpid(), signal.SIGHUP)"
    name = tool(
        f"import os, signal\n{MAIN}    try:\n        {hangup}\n    finally:\n"
        f"        {hangup}\n        open('done', 'w').close()"
    )
    assert run(name, path=tmp_path, cwd=tmp_path).returncode == 129
    assert (tmp_path / "done").exists()


def test_a_hangup_that_is_ignored_stays_ignored(tool, tmp_path):
    """As nohup has it."""
    name = tool(f"import os, signal\n{MAIN}    os.kill(os.getpid(), signal.SIGHUP)\n    return 7")
    code = f"from varprompt.common.console import run_script as r; raise SystemExit(r({name!r}))"
    ended = subprocess.run(
        ["bash", "-c", 'trap "" HUP; "$0" -c "$1"', sys.executable, code], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 7


def test_no_file_gets_the_number_of_a_closed_stream(tool, tmp_path):
    """What libraries write to standard error would end up in it."""
    name = tool(f"import os\n{MAIN}    return os.open('x', os.O_WRONLY | os.O_CREAT)")
    assert run(name, "<&- >&- 2>&-", path=tmp_path, cwd=tmp_path).returncode > 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_error_that_cannot_be_said(tool, tmp_path):
    name = tool(f"{MAIN}    raise MemoryError")
    assert run(name, "> /dev/full 2> /dev/full", path=tmp_path).returncode == 2


FOREIGN = """
import sys
sys.excepthook = lambda kind, error, trace: print("theirs", kind.__name__, file=sys.stderr)
from varprompt.common.console import explain_errors
from varprompt.errors import ConfigError
explain_errors()
raise {error}
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ConfigError(['one', 'two'])", "error: one\ntwo\n"),
        ("KeyError('x')", "theirs KeyError\n"),
    ],
)
def test_errors_in_programs_of_others(error, said):
    """Such as CoOp's train.py, where nobody catches them."""
    code = FOREIGN.format(error=error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, said)
