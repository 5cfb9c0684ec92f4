"""Files are written whole or not at all, and reading them runs nothing."""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from varprompt.common import files, safe_load
from varprompt.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]

STATE = {"state_dict": {"ctx": torch.arange(6.0)}, "epoch": 3, "val_result": None, "name": "x"}


class Command:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "er" / "model.pth.tar-3"
    files.write(STATE, path)
    found = files.read(path)
    assert torch.equal(found["state_dict"].pop("ctx"), STATE["state_dict"]["ctx"])
    assert found == {**STATE, "state_dict": {}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~files._umask()
    assert os.listdir(path.parent) == [path.name]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power failure leaves an empty file where a whole one was."""
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        calls.append(("fsync", os.fstat(handle).st_ino, os.fstat(handle).st_size))
        fsync(handle)

    def renamed(source, target):
        calls.append(("replace", os.stat(source).st_ino, os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write(STATE, tmp_path / "model")
    file = (tmp_path / "model").stat()
    assert calls == [(call, file.st_ino, file.st_size) for call in ("fsync", "replace")]


@pytest.mark.parametrize("failure", ["state", "writer"])
def test_a_failure_keeps_the_old_file(tmp_path, failure):
    path = tmp_path / "model"
    files.write(STATE, path)
    before = path.read_bytes()
    if failure == "state":
        with pytest.raises(CheckpointError, match="never unpickled"):
            files.write({**STATE, "sched": Command(tmp_path / "ran")}, path)
    else:

        def fill_the_disk(file):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            files.write_atomic(path, fill_the_disk)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model"]


def optimizer_and(schedule):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    return optimizer, schedule(optimizer)


@pytest.mark.parametrize(
    "schedule", [lambda o: CosineAnnealingLR(o, 10), lambda o: StepLR(o, 2)], ids=["cosine", "step"]
)
def test_pickled_schedulers_are_read_as_nothing(tmp_path, schedule):
    """CoOp's warm-up scheduler saves its successor, an object that holds the optimizer."""
    optimizer, successor = optimizer_and(schedule)
    scheduler = {"successor": successor, "warmup_epoch": 1, "cons_lr": 1e-5, "last_epoch": 2}
    state = {**STATE, "optimizer": optimizer.state_dict(), "scheduler": scheduler}
    torch.save(state, tmp_path / "model")
    found = files.read(tmp_path / "model")
    assert found["scheduler"] is None
    assert found["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    assert torch.equal(found["state_dict"]["ctx"], STATE["state_dict"]["ctx"])
    with pytest.raises(CheckpointError, match="CosineAnnealingLR|StepLR"):
        files.write(state, tmp_path / "ours")  # our own files hold plain values only


@pytest.mark.parametrize("new_form", [True, False])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-a-scheduler"])
def test_commands_are_refused_by_name(tmp_path, new_form, beside):
    ran = tmp_path / "ran"
    state = {**STATE, "extra": Command(ran)}
    if beside:
        state["scheduler"] = {"successor": optimizer_and(lambda o: StepLR(o, 2))[1]}
    torch.save(state, tmp_path / "model", _use_new_zipfile_serialization=new_form)
    with pytest.raises(CheckpointError, match=r"posix\.system|torch\.optim") as caught:
        files.read(tmp_path / "model")
    assert "never unpickled" in str(caught.value) and not ran.exists()
    if new_form:
        assert "posix.system" in str(caught.value)


def test_a_command_dressed_as_a_scheduler_is_not_run(tmp_path):
    """A file may name torch.optim.<anything>: it gets a placeholder, whatever that is called."""
    ran = tmp_path / "ran"
    torch.save({"state_dict": {}, "scheduler": Command(ran)}, tmp_path / "plain")
    with zipfile.ZipFile(tmp_path / "plain") as old, zipfile.ZipFile(tmp_path / "m", "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b"cposix\nsystem", b"ctorch.optim.os\nsystem")
            new.writestr(name, data)
    assert files.read(tmp_path / "m")["scheduler"] is None
    assert not ran.exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(STATE["state_dict"]["ctx"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, r"\(it is cut short\)"),
        (flip, "checksum of its part .* is wrong"),
        (lambda p: p.write_bytes(b""), "damaged or not a checkpoint: it is empty"),
        (lambda p: p.write_text("hello"), r"\(not of torch.save\)"),
        (lambda p: torch.save(torch.ones(2), p), "holds a Tensor, not a dict"),
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: (p.unlink(), p.mkdir()), "does not exist"),
    ],
)
def test_damage_is_noticed(tmp_path, harm, message):
    path = tmp_path / "model"
    files.write(STATE, path)
    harm(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        files.read(path)
    assert str(path) in str(caught.value)


def test_allowing_placeholders_leaves_no_trace(tmp_path):
    torch.save({"scheduler": optimizer_and(lambda o: StepLR(o, 2))[1]}, tmp_path / "model")
    before = set(torch.serialization.get_safe_globals())
    files.read(tmp_path / "model")
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(tmp_path):
    pipe, device = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    device.symlink_to(os.devnull)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_atomic(pipe, lambda file: file.write(b"all of it"))
        assert os.read(reader, 99) == b"all of it"
    finally:
        os.close(reader)
    files.write_atomic(device, lambda file: file.write(b"nothing"))
    assert stat.S_ISFIFO(pipe.stat().st_mode) and device.is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert sorted(os.listdir(tmp_path)) == ["null", "pipe"]


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link", tmp_path / "disk/file"
    link.symlink_to(target)  # to nothing, at first
    for content in (b"first", b"second"):
        files.write_atomic(link, lambda file, content=content: file.write(content))
        assert link.is_symlink() and target.read_bytes() == content
    assert os.listdir(tmp_path / "disk") == ["file"]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        files.write_atomic(tmp_path / "file/x", lambda file: None)
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError, match="too long") as long:
        files.write_atomic(tmp_path / ("x" * 300), lambda file: None)
    assert long.value.filename == str(tmp_path / ("x" * 300))


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert files.unwritable(tmp_path) == "is a folder; give the file to write"
    assert files.unwritable(tmp_path / "file/deep/x") == (
        f"cannot be written: {tmp_path / 'file'} is no folder"
    )
    assert not any(map(files.unwritable, [tmp_path / "new/deep/x", tmp_path / "file", os.devnull]))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert f"nothing can be written into {tmp_path}" in files.unwritable(tmp_path / "new/x")


def test_tensors_that_are_longer_than_the_file():
    """Torch 2.6 makes them; each storage counts once, some tensors have none."""
    whole = torch.ones(5)
    without = [torch.eye(2).to_sparse(), torch.ones(9, device="meta")]
    state = {"a": [whole, (whole[:2], 3)], "b": without}
    safe_load.check_claims(state, whole.nbytes)
    with pytest.raises(ValueError, match="its tensors claim 20 bytes and it holds 19"):
        safe_load.check_claims(state, whole.nbytes - 1)


def test_a_list_that_holds_itself_is_read(tmp_path):
    endless = [torch.ones(2)]
    endless.append(endless)
    files.write({"x": endless}, tmp_path / "model")
    found = files.read(tmp_path / "model")["x"]
    assert found[1] is found and torch.equal(found[0], torch.ones(2))


def test_an_open_file_keeps_what_was_written_to_it(tmp_path):
    """``--output /dev/stdout >> all.csv`` must not put another file in the place of all.csv."""
    kept = tmp_path / "all.csv"
    kept.write_text("before\n")
    code = (
        "from varprompt.common.files import write_atomic; print('said'); "
        "write_atomic('/dev/stdout', lambda file: file.write(b'written\\n')); print('last')"
    )
    with open(kept, "a") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True, cwd=ROOT)
    assert kept.read_text() == "before\nsaid\nwritten\nlast\n"
