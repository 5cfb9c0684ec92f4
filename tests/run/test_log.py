"""The log file: complete, beside a stdout that stays what it was."""

import io
import os
import subprocess
import sys
import threading

import pytest
from tqdm import tqdm

from varprompt.run.log import quiet_writer_threads, safe_streams, tee_stdout


class Console(io.TextIOWrapper):
    """A stdout whose bytes can be looked at."""

    def __init__(self, monkeypatch):
        super().__init__(io.BytesIO(), encoding="latin-1", write_through=True)
        monkeypatch.setattr(sys, "stdout", self)


def test_prints_go_to_console_and_file(monkeypatch, tmp_path):
    console = Console(monkeypatch)
    path = tmp_path / "new" / "log.txt"
    with tee_stdout(path) as tee:
        assert sys.stdout is tee
        print("one", 2)  # noqa: T201
        sys.stdout.writelines(["th", "ree\n"])
        assert path.read_text() == "one 2\nthree\n"  # line by line, not at the end
    assert console.buffer.getvalue() == b"one 2\nthree\n"


def test_console_answers_what_libraries_ask(monkeypatch, tmp_path):
    console = Console(monkeypatch)
    with tee_stdout(tmp_path / "log.txt"):
        assert sys.stdout.encoding == "latin-1"
        assert sys.stdout.isatty() is False
        assert sys.stdout.buffer is console.buffer
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()  # as the console itself does
        with pytest.raises(AttributeError):
            sys.stdout.no_such_thing  # noqa: B018


def test_console_survives(monkeypatch, tmp_path):
    console = Console(monkeypatch)
    tee = tee_stdout(tmp_path / "log.txt")
    tee.close()
    tee.close()
    assert sys.stdout is console and not console.closed
    print("late", file=tee)  # somebody kept the stream, such as a logging handler
    tee.flush()
    del tee
    print("still here")  # noqa: T201
    assert b"late\nstill here" in console.buffer.getvalue()
    assert (tmp_path / "log.txt").read_text() == ""


def test_appends(monkeypatch, tmp_path):
    Console(monkeypatch)
    for word in ("first", "resumed"):
        with tee_stdout(tmp_path / "log.txt"):
            print(word)  # noqa: T201
    assert (tmp_path / "log.txt").read_text() == "first\nresumed\n"


def test_closing_leaves_somebody_elses_stdout(monkeypatch, tmp_path):
    Console(monkeypatch)
    tee = tee_stdout(tmp_path / "log.txt")
    sys.stdout = other = io.StringIO()
    tee.close()
    assert sys.stdout is other


def test_what_the_console_cannot_show_is_escaped(monkeypatch, tmp_path):
    console = Console(monkeypatch)
    with tee_stdout(tmp_path / "log.txt"):
        print("狗 é", os.fsdecode(b"caf\xe9"))  # noqa: T201
    assert console.buffer.getvalue() == b"\\u72d7 \xe9 caf\\udce9\n"
    assert (tmp_path / "log.txt").read_text() == "狗 é caf\\udce9\n"


class Gone(io.StringIO):
    """A pipe whose reader has ended."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("console", ["gone", "closed"])
def test_a_console_that_is_gone_ends_nothing(console, monkeypatch, tmp_path):
    stream = Gone() if console == "gone" else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    if console == "closed":
        stream.close()
    with tee_stdout(tmp_path / "log.txt"):
        print("one", flush=True)  # noqa: T201
        print("two", flush=True)  # noqa: T201
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("console", ["gone", "closed"])
def test_bars_and_warnings_outlive_the_console(console, monkeypatch):
    """Whose window is closed, say: writing to it is an error of the disk."""
    for name in ("stdout", "stderr"):
        stream = Gone() if console == "gone" else io.StringIO()
        monkeypatch.setattr(sys, name, stream)
        if console == "closed":
            stream.close()
    before = sys.stdout, sys.stderr
    with safe_streams():
        for _ in tqdm(range(3), mininterval=0):
            print("lost", file=sys.stderr, flush=True)  # noqa: T201
            print("lost", flush=True)  # noqa: T201
    assert (sys.stdout, sys.stderr) == before


def test_what_is_printed_before_the_log_is_escaped(monkeypatch):
    console = Console(monkeypatch)
    with safe_streams():
        print("狗")  # noqa: T201
    assert console.buffer.getvalue() == b"\\u72d7\n"


def test_a_full_disk_ends_the_log_only(monkeypatch):
    console = Console(monkeypatch)
    with tee_stdout("/dev/full"):
        print("one")  # noqa: T201
        print("two", flush=True)  # noqa: T201
    said = console.buffer.getvalue().decode()
    assert said.startswith("one\nThe log file ends here: ") and said.endswith("\ntwo\n")


CLOSED = """
import os, sys
from varprompt.run.log import open_standard_streams
open_standard_streams()
print("nowhere"); print("nowhere", file=sys.stderr)
file = open(sys.argv[1], "w")
assert file.fileno() > 2
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_files_of_the_run(closed, tmp_path):
    command = f'exec "$0" -c "$1" "$2" {closed}'
    words = ["bash", "-c", command, sys.executable, CLOSED, str(tmp_path / "file")]
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_threads_that_die_of_a_disk_say_so_in_a_line(capsys):
    def work():
        raise OSError(28, "No space left on device")

    with quiet_writer_threads():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    out, err = capsys.readouterr()
    assert out == "TensorBoard's curves end here: [Errno 28] No space left on device\n" and not err
