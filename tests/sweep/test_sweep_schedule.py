"""The order of cells, further tries, failures, interruption; with a stand-in for train.py."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from stand_in import calls

from varprompt.run.interrupt import StopRequest, stop_on_signal
from varprompt.sweep import local
from varprompt.sweep.local import LocalPool, Place
from varprompt.sweep.memory import MemoryModel
from varprompt.sweep.schedule import NEEDED, Scheduler
from varprompt.sweep.work import Outcome, last_words

GIB = 1 << 30


def sweep(cells, *places, retries=1, finished=(), stop=None):
    said = []
    pool = LocalPool(places or [Place("", GIB, 3)], MemoryModel(), threads=2)
    told = StopRequest() if stop is None else stop
    scheduler = Scheduler(pool, retries, told, lambda c, o, again: said.append((c.name, again)))
    return scheduler.run(cells, finished), said


def test_tests_come_after_their_training_and_finished_cells_not_at_all(fake):
    cells = [fake("train"), fake("test", "train"), fake("old"), fake("test-of-old", "old")]
    report, said = sweep(cells, finished=["old"])
    assert sorted(report.done) == sorted(cell.name for cell in cells)
    assert (report.failed, report.interrupted) == ({}, False)
    assert calls(cells[2]) == [] and len(said) == 3
    assert calls(cells[1])[0][0] > calls(cells[0])[0][0] + 0.1
    assert calls(cells[0])[0][2] == "2"  # threads
    assert calls(cells[0])[0][3] == list(cells[0].argv)


def test_a_failed_cell_stops_no_other_and_is_listed_with_its_reason(fake):
    cells = [fake("bad", ends="2 0"), fake("its_test", "bad"), fake("crash", ends="1 1 0"),
             fake("good")]  # fmt: skip
    report, _ = sweep(cells)
    assert report.done == ["good"]
    assert report.failed == {"bad": "it is bad", "its_test": NEEDED, "crash": "it is bad"}
    assert [len(calls(cell)) for cell in cells] == [1, 0, 2, 1]  # bad input is not tried again


@pytest.mark.parametrize("end", ["-9", "-11", "75", "1", "full"])
def test_what_was_killed_lost_or_interrupted_is_tried_again(end, fake):
    cell = fake("unlucky", ends=end)
    report, said = sweep([cell])
    assert (report.done, report.failed) == (["unlucky"], {})
    assert said == [("unlucky", True), ("unlucky", False)] and len(calls(cell)) == 2


def test_a_busy_folder_is_tried_again_a_little_later(fake):
    cell = fake("busy", ends="busy")
    report, _ = sweep([cell])
    assert report.done == ["busy"]
    assert calls(cell)[1][0] - calls(cell)[0][0] > 1.9


def test_killed_too_often(fake):
    report, _ = sweep([fake("killed", ends="-9 -9 -9 -9")], retries=2)
    assert report.failed == {"killed": "killed by SIGKILL; is the memory full?"}


def test_a_stop_request_ends_all_with_their_states(fake):
    cells = [fake("a", ends="wait"), fake("b", ends="wait"), fake("c"), fake("d")]
    with stop_on_signal() as stop:
        stop.deferred = True

        def when_both_wait():
            while not all((cell.folder / "waits").exists() for cell in cells[:2]):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=when_both_wait).start()
        report, _ = sweep(cells, Place("", GIB, 2), stop=stop)
    assert report.interrupted and report.failed == {} and report.done == []
    assert all((cell.folder / "state").exists() for cell in cells[:2])
    assert calls(cells[2]) == calls(cells[3]) == []


def test_gpus_are_shared_by_measured_memory_and_not_before(fake, monkeypatch):
    """10 GiB of 80 each, as the first of the kind shows, which has a GPU for itself."""

    class Process:
        def __init__(self, cell, env):
            self.cell, self.env, self.end = cell, env, None

        def start(self):
            started[self.cell.name] = self
            return self

        def poll(self):
            return self.end

    cells = [fake(f"c{i}") for i in range(20)]
    sweep([cells[0]])  # leaves its results
    started = {}
    monkeypatch.setattr(local, "Process", Process)
    pool = LocalPool([Place("3", 80 * GIB, 16), Place("5", 80 * GIB, 16)], MemoryModel(), 1)
    assert [pool.start(cell, False) for cell in cells[:3]] == [True, True, False]
    assert [started[f"c{i}"].env["CUDA_VISIBLE_DEVICES"] for i in range(2)] == ["3", "5"]
    started["c0"].end = started["c1"].end = Outcome(0)
    assert [cell.name for cell, _ in pool.ended()] == ["c0", "c1"]
    fit = [pool.start(cell, False) for cell in cells[2:]]
    assert fit == [True] * 12 + [False] * 6  # 11.5 + 0.5 GiB each: six on each GPU
    assert [started[f"c{i}"].env["CUDA_VISIBLE_DEVICES"] for i in range(2, 6)] == ["3", "5"] * 2


def test_room_on_a_place():
    place = Place("0", 100, slots=2)
    assert place.room(None, False) == 100 and place.room(30, False) == 30
    assert place.room(30, alone=True) == 100 and place.room(300, False) == 100
    place.taken["a"] = 60
    assert place.room(40, False) == 40
    assert place.room(41, False) is place.room(None, False) is place.room(1, True) is None
    place.taken["b"] = 0
    assert place.room(0, False) is None  # no slot
    assert Place("", 100, 4).room(None, False) == 0  # on the CPU the cores decide


def test_measured_memory(fake):
    model, cell = MemoryModel(), fake("x")
    other = fake("y", options=("--trainer", "VPT"))
    assert model.on_gpu(cell) is model.on_host(cell) is None and model.gpu_share(cell) == 1
    sweep([cell])
    model.learn([cell, other])
    assert 10 * GIB < model.on_gpu(cell) < 13 * GIB and model.on_gpu(fake("z")) is not None
    assert model.gpu_share(cell) == pytest.approx((11.5 + 0.5) / 80, abs=0.01)
    assert model.on_gpu(other) is None
    results, old = cell.folder / "results.json", MemoryModel()
    results.write_text(results.read_text().replace('"memory"', '"resources"'))  # as of 0.1.0
    old.learn([cell])
    assert old.on_gpu(cell) == model.on_gpu(cell) and old.on_host(cell) == model.on_host(cell)


def test_last_words(fake):
    cell = fake("x")
    assert last_words(cell) == ""
    sweep([cell])
    assert last_words(cell) == "some line"
    assert not Outcome(2, "TRAINER is 'x'").again and Outcome(-9).again


def test_a_run_does_not_outlive_its_parent(tmp_path):
    """As of a worker that is lost; else it would keep the lock of the folder."""
    watched = "from varprompt.sweep import child; import os, sys; child._watch(int(sys.argv[1]))"
    parent = (
        "import os, subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {watched!r}, str(os.getpid())])\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    os.kill(pid, 0)
    process.kill()
    process.communicate()
    end = time.monotonic() + 10
    while time.monotonic() < end and not ended(pid):
        time.sleep(0.05)
    assert ended(pid)


def ended(pid):
    """Whether a process is no more, or only waits to be noticed by its new parent."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
