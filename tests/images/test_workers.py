"""How the processes that read images end, and what is said of it."""

import multiprocessing
import os
import re
import signal
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader

from varprompt.errors import DataError, VarPromptError
from varprompt.images.encode import encode_images
from varprompt.images.workers import PlainLoader, end_workers, set_up_worker


class Deadly(torch.utils.data.Dataset):
    """The worker that reads item 5 gets a signal, but not before an event."""

    def __init__(self, number, event=None):
        self.number, self.event = number, event

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            if self.event:
                self.event.wait()
            os.kill(os.getpid(), self.number)
        return torch.tensor(index)


DEATHS = {
    signal.SIGKILL: "the memory seems full; lower BATCH_SIZE or DATALOADER.NUM_WORKERS (--workers",
    signal.SIGBUS: "/dev/shm",
}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
@pytest.mark.parametrize("number", DEATHS)
def test_a_dead_worker_is_named_with_the_likely_reason(number):
    with pytest.raises(VarPromptError) as caught:
        list(PlainLoader(Deadly(number), batch_size=1, num_workers=1))
    text = str(caught.value)
    name = signal.Signals(number).name
    assert re.match(rf"DataLoader worker [01] \(process \d+\) was killed by {name}: ", text)
    assert DEATHS[number] in text and len(text.splitlines()) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
def test_a_worker_that_dies_disturbs_nobody_before_the_next_batch():
    """Not what is done with the batch before, nor a destructor that happens to run."""
    received = multiprocessing.get_context("fork").Event()
    loader = PlainLoader(Deadly(signal.SIGKILL, received), batch_size=5, num_workers=1)
    batches = iter(loader)
    assert len(next(batches)) == 5
    received.set()
    (worker,) = multiprocessing.active_children()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(VarPromptError, match="was killed by SIGKILL"):
        next(batches)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset")])
def test_whatever_a_torn_connection_leads_to(error, monkeypatch):
    """The reader of a queue whose writer is dead raises what it likes."""

    class Batches:
        def __init__(self):
            context = multiprocessing.get_context("fork")
            self._workers = [context.Process(target=os._exit, args=(3,))]
            self._workers[0].start()
            self._shutdown_workers = self._workers[0].join

        def __iter__(self):
            raise error
            yield

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", lambda self: Batches())
    with pytest.raises(VarPromptError, match=r"worker 0 \(process \d+\) ended with code 3"):
        list(PlainLoader(Deadly(9), num_workers=0))


def test_other_errors_stay_what_they_are(monkeypatch):
    def broken(self):
        raise RuntimeError("of the transform")
        yield

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", broken)
    with pytest.raises(RuntimeError, match="of the transform"):
        list(PlainLoader(Deadly(9), num_workers=0))


SHARED = (
    "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"
)


class Lacking(torch.utils.data.Dataset):
    """Workers raise what torch raises when they cannot hand over a batch."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise self.error


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
@pytest.mark.parametrize(
    "error, kind, message",
    [
        (RuntimeError(SHARED), VarPromptError, r"\(unable .* device \(28\)\): set .*n_workers\) 0"),
        (RuntimeError("unable to write to file </torch_5>"), VarPromptError, "shm-size"),
        (OSError(24, "Too many open files"), VarPromptError, "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), VarPromptError, "ulimit -n"),
        (MemoryError("out of memory while reading a.png"), MemoryError, "^out of memory .* a.png$"),
        (MemoryError(), MemoryError, "^out of memory"),
        (DataError("a.png is broken"), DataError, "^a.png is broken$"),
    ],
    ids=["shm", "write", "files", "ancdata", "memory", "bare", "data"],
)
def test_what_workers_lack_is_said_in_a_line(error, kind, message):
    with pytest.raises(kind, match=message) as caught:
        list(PlainLoader(Lacking(error), num_workers=1))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
def test_workers_are_forked_whatever_the_default_is():
    """Python 3.14 starts them from an empty process, to which nothing local can be sent."""

    class Local(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return index

    default = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert [int(x) for x in PlainLoader(Local(), num_workers=1)] == [0, 1, 2]
    finally:
        multiprocessing.set_start_method(default, force=True)


def test_workers_that_cannot_be_started(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Queue", full)
    with pytest.raises(
        VarPromptError,
        match=r"2 data loader workers cannot be started .*n_workers\) 0",
    ):
        list(PlainLoader(Lacking(None), num_workers=2))


def test_a_signal_while_workers_are_started_leaves_no_remark(monkeypatch):
    """Of the destructor, which pytest would make an error."""

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiprocessing.context.BaseContext.Queue", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(PlainLoader(Lacking(None), num_workers=2))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("why", ["unreadable", "enough", "whole"])
def test_workers_end_with_an_error_or_when_nobody_wants_more(why, persistent):
    """At once, though the error that is held keeps the frames in which it arose."""
    items = Lacking(DataError("broken")) if why == "unreadable" else range(8)
    loader = PlainLoader(items, batch_size=1, num_workers=2, persistent_workers=persistent)
    batches = iter(loader)
    if why == "unreadable":
        with pytest.raises(DataError, match="broken"):
            next(batches)
    else:
        assert next(batches) == 0 and len(multiprocessing.active_children()) == 2
        assert batches.close() is None if why == "enough" else len(list(batches)) == 7
    stay = persistent and why == "whole"
    assert len(multiprocessing.active_children()) == 2 * stay
    if why != "unreadable":
        assert len(list(loader)) == 8  # and new ones are started, or those that stayed go on
    end_workers(loader)
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
def test_workers_end_when_their_images_cannot_be_encoded():
    def encode(images):
        raise RuntimeError("of the tower")

    loader = DataLoader([{"img": torch.zeros(1)}] * 8, num_workers=2)
    with pytest.raises(RuntimeError, match="of the tower") as caught:
        encode_images(loader, range(8), encode, batch_size=2)
    assert caught.tb and not multiprocessing.active_children()


def _hand_over(ready):
    set_up_worker(0)
    ready.set()
    time.sleep(0.3)  # until then the parent is killed, or not
    try:
        raise EOFError("torn connection")
    except EOFError:
        sys.excepthook(*sys.exc_info())


def _parent(dies):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_hand_over, args=(ready,))
    worker.start()
    context.Process(target=time.sleep, args=(2.0,)).start()  # a later one, which lives on
    ready.wait()
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    worker.join()
    os._exit(0)  # without coverage's and pytest's farewells


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
@pytest.mark.parametrize("dies", [True, False])
def test_a_connection_torn_by_the_death_of_the_parent_is_not_reported(dies):
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        os.dup2(writing, 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.close(writing)
        _parent(dies)
    os.close(writing)
    os.waitpid(parent, 0)
    with open(reading, encoding="utf-8") as printed:  # until the worker has ended, too
        text = printed.read()
    assert ("torn connection" in text) is not dies, text
