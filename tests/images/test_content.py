"""What is in files: never a path, a size or a time that anybody can set."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import at_once

from varprompt.errors import DataError
from varprompt.images import content
from varprompt.images.content import ContentHasher, digest_file


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The file of digests: not the user's."""
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/content.sha256"


@pytest.fixture
def lasting(monkeypatch):
    """Files just written count as old."""
    monkeypatch.setattr(content, "_TICK", -(10**9))


@pytest.fixture
def files(tmp_path):
    """Paths of 150 small files, two of them equal."""
    noise = np.random.RandomState(0)
    paths = [tmp_path / "files" / f"{i}.bin" for i in range(150)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(noise.bytes(noise.randint(1, 3000)))
    shutil.copy(paths[3], paths[7])
    return [str(path) for path in paths]


def true_digests(paths):
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]


def hasher():
    notes = []
    made = ContentHasher(notes.append)
    made.notes = notes
    return made


def test_digests_are_those_of_the_content(files):
    assert hasher().digests(files) == true_digests(files)
    assert hasher().digests([]) == []
    assert hasher().digest(files[5]) == true_digests(files)[5]


def test_second_start_reads_nothing(files, lasting):
    first, second = hasher(), hasher()
    found = first.digests(files)
    assert first.n_read == 150 and first.digests(files) == found and first.n_read == 150
    assert second.digests(files[::-1]) == found[::-1] and second.n_read == 0
    assert not first.notes + second.notes


def test_files_that_have_just_changed_are_read_again(files):
    """Within a tick of the clock a file can be written twice and its times stay."""
    for _ in range(2):
        made = hasher()
        made.digests(files)
        assert made.n_read == 150
    old = os.stat(files[0]).st_ctime_ns
    assert content._TICK >= 10**9 and old > 0


CHANGES = {
    "written": lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
    "appended": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "replaced": lambda path: os.replace(shutil.copy(f"{path}.new", f"{path}.2"), path),
    "swapped": lambda path: os.rename(f"{path}.new", path),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_equal_size_and_time_deceive_nobody(change, tmp_path, lasting):
    path = tmp_path / "image"
    path.write_bytes(b"a" * 100)
    new = tmp_path / "image.new"
    new.write_bytes(b"b" * 100)
    before = path.stat()
    first = hasher().digest(path)
    change(path)
    os.truncate(path, 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = hasher().digest(path)
    assert found == true_digests([path])[0]
    assert (found != first) == (path.read_bytes() != b"a" * 100)


def test_moved_files_are_known(files, tmp_path, lasting):
    """A folder that gets another name has the same files in it."""
    found = hasher().digests(files)
    os.rename(tmp_path / "files", tmp_path / "moved")
    made = hasher()
    assert made.digests([path.replace("/files/", "/moved/") for path in files]) == found
    assert made.n_read == 0


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 1000, None])
def test_damaged_memory_is_made_anew(damage, files, memory, lasting):
    found = hasher().digests(files)
    whole = memory.read_bytes()
    flipped = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
    memory.write_bytes(flipped if damage is None else damage)
    made = hasher()
    assert made.digests(files) == found and made.n_read == 150
    assert ["is damaged" in note for note in made.notes] == [True]
    assert memory.read_bytes() == whole


def test_memory_has_an_end(files, memory, monkeypatch, lasting):
    monkeypatch.setattr(content, "_MOST", 100)
    hasher().digests(files)
    made = hasher()
    made.digests(files[50:])
    assert made.n_read == 0 and memory.stat().st_size == 100 * 72 + 32
    made.digests(files[:50])
    assert made.n_read == 50


def test_what_is_killed_has_lost_one_block(files, monkeypatch, lasting):
    monkeypatch.setattr(content, "_BLOCK", 40)
    os.unlink(files[100])
    with pytest.raises(DataError):
        hasher().digests(files)
    made, real = hasher(), content._read

    def read(path, kind):
        if path == files[90]:
            raise KeyboardInterrupt
        return real(path, kind)

    Path(files[100]).touch()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(content, "_read", read)
        made.digests(files)
    again = hasher()
    assert again.digests(files) == true_digests(files) and again.n_read == 70


@pytest.mark.parametrize("place", ["a file", "/proc/here"])
def test_unusable_folder_costs_one_note(place, files, tmp_path, monkeypatch, lasting):
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / place))
    made = hasher()
    for _ in range(2):
        assert made.digests(files) == true_digests(files)
    assert len(made.notes) == 1 and "set VARPROMPT_CACHE" in made.notes[0]
    assert made.n_read == 150  # known in this process


def test_files_that_cannot_be_read_are_named(files, tmp_path):
    for path, reason in (
        (tmp_path / "none", "No such file"), (tmp_path, "not a regular file"),
        (f"{tmp_path}/\0", "null (byte|character)"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"not a readable image .*{reason}"):
            hasher().digests([files[0], str(path)])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="not a regular file"):
        hasher().digests([str(pipe)])


def test_many_at_once(files, lasting):
    """Threads that share the memory on disk lose nothing but time."""
    wrong = []

    def work(number):
        for start in range(0, 150, 30):
            part = files[(start + 30 * number) % 150 :][:30]
            if hasher().digests(part) != true_digests(part):
                wrong.append(part)

    at_once(work, 4)
    assert not wrong
    names = os.listdir(digest_file().parent)
    assert names == ["content.sha256"]


def test_place_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VARPROMPT_CACHE")
    assert digest_file() == tmp_path / ".cache/varprompt/content.sha256"
