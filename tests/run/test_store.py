"""States are written whole, read with patience, and never pushed out by older ones."""

import errno
import os
import zipfile
from pathlib import Path

import pytest
import torch

from varprompt.common import files
from varprompt.errors import CheckpointError
from varprompt.run import store as module
from varprompt.run.folder import RESUME, RESUME_BEFORE
from varprompt.run.store import RunStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    notes = []
    made = RunStore(tmp_path, notes.append)
    made.notes = notes
    return made


def state(number):
    return {"epoch": number, "ctx": torch.full((3,), float(number))}


def saved(store):
    """Numbers of the newest state and of the one before; None of what cannot be read."""
    found = []
    for name in (RESUME, RESUME_BEFORE):
        try:
            found.append(files.read(store.folder / name)["epoch"])
        except CheckpointError:
            found.append(None)
    return found


def fail(monkeypatch, times, error):
    """The next reads of a whole file fail."""
    original, left = Path.read_bytes, [times]

    def read_bytes(self):
        if left[0]:
            left[0] -= 1
            raise error
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


def test_two_states_are_kept(store):
    assert store.newest_state(()) is None
    for number in (1, 2, 3):
        store.save_state(state(number))
    assert saved(store) == [3, 2]
    assert store.newest_state(["epoch"]).content["epoch"] == 3


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_answers_late(code, store, monkeypatch):
    """One failure to read is no damage: the newest state is used, and stays."""
    for number in (1, 2):
        store.save_state(state(number))
    fail(monkeypatch, 2, OSError(code, os.strerror(code)))
    assert store.newest_state(()).content["epoch"] == 2
    assert saved(store) == [2, 1] and not store.notes


@pytest.mark.parametrize("call", ["torch.load", "zipfile.is_zipfile"])
def test_an_error_of_the_disk_in_the_midst_of_reading(call, store, monkeypatch):
    for number in (1, 2):
        store.save_state(state(number))
    left, original = [1], {"torch.load": torch.load, "zipfile.is_zipfile": zipfile.is_zipfile}[call]

    def once(*args, **options):
        if left.pop() if left else 0:
            raise OSError(errno.EIO, "Input/output error")
        return original(*args, **options)

    monkeypatch.setattr(call, once)
    assert store.newest_state(()).content["epoch"] == 2 and not store.notes


def test_a_disk_that_does_not_answer(store, monkeypatch):
    """Nothing is changed, and no older state is taken instead."""
    for number in (1, 2):
        store.save_state(state(number))
    with monkeypatch.context() as patch:
        fail(patch, 3, OSError(errno.EIO, "Input/output error"))
        with pytest.raises(CheckpointError, match="cannot be read now .Input/output error."):
            store.newest_state(())
    assert saved(store) == [2, 1]


def test_a_full_memory_is_no_damage(store, monkeypatch):
    store.save_state(state(1))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: torch.empty(2**50))
        with pytest.raises(MemoryError, match="out of memory while reading .*resume.pth.tar"):
            store.newest_state(())
    assert saved(store) == [1, None] and not store.notes


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_newest_state_gives_way_to_the_next_only(damage, store):
    for number in (1, 2):
        store.save_state(state(number))
    content = (store.folder / RESUME).read_bytes()
    (store.folder / RESUME).write_bytes(content[:-99] if damage is None else damage)
    before = sorted((p.name, p.read_bytes()) for p in store.folder.iterdir())
    assert store.newest_state(()).content["epoch"] == 1
    assert "trying the one before" in store.notes[0]
    assert sorted((p.name, p.read_bytes()) for p in store.folder.iterdir()) == before
    store.save_state(state(3))
    assert saved(store) == [3, 1]  # the readable one was not pushed out
    store.save_state(state(4))
    assert saved(store) == [4, 3]


def test_a_state_without_its_keys_is_damaged(store):
    store.save_state(state(1))
    store.save_state({"ctx": torch.ones(1)})
    assert store.newest_state(["epoch"]).content["epoch"] == 1
    assert "is no state of a run, it lacks epoch" in store.notes[0]


def test_no_readable_state(store):
    store.save_state({"ctx": torch.ones(1)})
    with pytest.raises(CheckpointError, match="no readable state in .*move the folder away"):
        store.newest_state(["epoch"])


def test_a_state_that_cannot_be_written_leaves_the_others(store, monkeypatch):
    for number in (1, 2):
        store.save_state(state(number))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            store.save_state(state(3))
    assert saved(store) == [2, 1]


def test_models(store):
    file = store.save_model({"epoch": 3}, "model.pth.tar-3")
    assert file == store.folder / "model.pth.tar-3" and files.read(file) == {"epoch": 3}
    assert (store.folder / "checkpoint").read_text() == "model.pth.tar-3\n"
    assert store.notes == [f"Checkpoint saved to {file}"]
