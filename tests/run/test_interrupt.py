"""Signals as requests."""

import os
import signal
import threading

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
