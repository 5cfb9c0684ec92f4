"""Which images a command line means."""

import io
import os
from collections import Counter

from PIL import Image

from varprompt.images.listing import listed_images


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(path, "PNG")


def listed(*names, stdin=b""):
    ignored = Counter()
    return list(listed_images(names, ignored, io.BytesIO(stdin))), ignored


def test_files_folders_patterns_and_standard_input(tmp_path, monkeypatch):
    make(tmp_path, "b.png", "a.png", "in/c.png", "in/deep/d.jpg", "x[1].png", "in/.hidden.png")
    (tmp_path / "in/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert listed("b.png", "gone.png")[0] == ["b.png", "gone.png"]
    found, ignored = listed("in")
    assert found == [os.path.join("in", "c.png"), os.path.join("in", "deep/d.jpg")]
    assert dict(ignored) == {".txt": 1, "hidden": 1}
    assert listed("?.png")[0] == ["a.png", "b.png"]
    assert listed("**/*.jpg")[0] == ["in/deep/d.jpg"]
    assert listed("x[1].png")[0] == ["x[1].png"]  # a file that is called like a pattern
    assert listed("nothing*.png")[0] == ["nothing*.png"]  # whoever reads it says so
    lines = b"b.png\n\nin/deep\r\n\xff.png\n"
    assert listed("a.png", "-", stdin=lines)[0] == [
        "a.png", "b.png", os.path.join("in/deep", "d.jpg"), os.fsdecode(b"\xff.png")
    ]  # fmt: skip


def test_names_come_one_by_one(tmp_path):
    """A list without an end is read as far as it is needed."""

    def endless():
        while True:
            yield b"a.png\n"

    names = listed_images(["-"], Counter(), endless())
    assert [next(names) for _ in range(3)] == ["a.png"] * 3
