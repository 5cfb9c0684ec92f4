"""Signals as requests."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from varprompt.run.interrupt import EXIT_RESUMABLE, StopRequest, stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_waits_if_deferred_second_one_acts(number):
    with stop_on_signal() as stop:
        stop.deferred = True
        os.kill(os.getpid(), number)
        assert stop and stop.signal == number
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), number)
    assert caught.value.code == EXIT_RESUMABLE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_acts_at_once_if_not_deferred(number):
    with pytest.raises(SystemExit) as caught, stop_on_signal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
    assert caught.value.code == EXIT_RESUMABLE


def test_handlers_come_back_after_an_error():
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(KeyError), stop_on_signal():
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
        raise KeyError
    assert {s: signal.getsignal(s) for s in before} == before


@pytest.mark.parametrize("deferred", [False, True])
def test_an_error_after_a_signal_is_one_line_and_ends_as_a_stop(deferred, capsys):
    with pytest.raises(SystemExit) as caught, stop_on_signal() as stop:
        stop.deferred = deferred
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
        finally:
            raise OSError("a worker that has heard it, too")
    assert caught.value.code == EXIT_RESUMABLE
    assert capsys.readouterr().err == "error: a worker that has heard it, too\n"


def test_other_threads_go_without():
    found = []

    def work():
        with stop_on_signal() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], StopRequest) and not found[0]


def test_exit_code():
    assert EXIT_RESUMABLE == os.EX_TEMPFAIL


class Dying:
    """Sends a signal from its destructor, where Python drops exceptions."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0)  # here the handler runs


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_exception_that_python_drops_is_raised_again(number, deferred, capsys):
    with pytest.raises(SystemExit) as caught, stop_on_signal() as stop:
        stop.deferred = deferred
        Dying(number)
        if deferred:
            time.sleep(0.2)  # the first one is only noted
            assert stop.signal == number
            Dying(number)
        time.sleep(5)
    assert caught.value.code == EXIT_RESUMABLE
    assert capsys.readouterr().err == ""


def test_other_dropped_exceptions_are_reported(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with stop_on_signal():
        Raising()
    assert [lost.exc_type for lost in told] == [ZeroDivisionError]


class Raising:
    def __del__(self):
        raise ZeroDivisionError


HOOK = """
import os, signal, sys, time
from varprompt.run.interrupt import stop_on_signal
def hook():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)
os.register_at_fork({place}=hook)
with stop_on_signal():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    time.sleep(5)
sys.exit(0)
"""


@pytest.mark.parametrize("place", ["before", "after_in_parent"])
def test_a_signal_in_the_hooks_of_a_fork_is_not_lost(place):
    code = HOOK.format(place=place)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (EXIT_RESUMABLE, "")


IMPORTING = """
import os, signal
from varprompt.run.interrupt import stop_on_signal
with stop_on_signal() as stop:
    stop.importing = True
    try:
        os.kill(os.getpid(), signal.SIGINT)
        os.getpid()
    except BaseException as error:
        raise ImportError from error
"""


def test_a_signal_among_imports_is_one_line():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert done.returncode == EXIT_RESUMABLE
    assert done.stderr == "interrupted: the same command goes on from the last state\n"
