"""The log file: complete, beside a stdout that stays what it was."""

import io
import sys

import pytest

from varprompt.run.log import tee_stdout


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
