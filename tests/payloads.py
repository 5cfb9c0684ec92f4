"""Contents of files and names of folders as nobody should write them, to try the tools with."""

import json
import os

DEEP = 90_000
TEXTS = {
    "nothing": b"",
    "null": b"null",
    "true": b"true",
    "number": b"5",
    "text": b'"accuracy"',
    "list": b"[1]",
    "empty-object": b"{}",
    "cut": b'{"accuracy": 90.1',
    "two": b'{"accuracy": 90.1}{"accuracy": 1}',
    "comma": b'{"accuracy": 90.1,}',
    "comment": b'// results\n{"accuracy": 90.1}',
    "single-quotes": b"{'accuracy': 90.1}",
    "deep-list": b"[" * DEEP,
    "deep-object": b'{"a":' * DEEP,
    "closed-deep-list": b"[" * DEEP + b"]" * DEEP,
    "deep-value": b'{"accuracy": 90.1, "config": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "twice": b'{"accuracy": 90.1, "accuracy": 12}',
    "utf-16": '{"accuracy": 90.1}'.encode("utf-16"),
    "utf-32": '{"accuracy": 90.1}'.encode("utf-32"),
    "latin-1": '{"accuracy": 90.1, "trainer": "é"}'.encode("latin-1"),
    "binary": bytes(range(256)) * 9,
    "zeros": bytes(5000),
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "zip": b"PK\x03\x04" + bytes(200),
    "page": b"<html>404 not found</html>",
    "not-a-number": b'{"accuracy": NaN}',
    "infinite": b'{"accuracy": Infinity}',
    "too-large": b'{"accuracy": 1e999}',
    "many-digits": b'{"accuracy": ' + b"9" * 5000 + b"}",
    "long-digits": b'{"accuracy": ' + b"9" * 4000 + b"}",
    "negative": b'{"accuracy": -5}',
    "above": b'{"accuracy": 101}',
    "long-name": b'{"' + b"a" * 10**6 + b'": 1}',
    "half-character": b'{"accuracy": "\\ud800"}',
    "yaml": b"accuracy: 90.1\n",
}
VALUES = {
    "null": None,
    "true": True,
    "list": [],
    "object": {},
    "text": "high",
    "empty": "",
    "negative": -5,
    "above": 10**7,
    "not-a-number": float("nan"),
    "infinite": float("inf"),
    "many-digits": 10**4000,
    "half-character": "\ud800\udcff",
    "control": "a\nb\x1b[31m\x00",
    "deep": json.loads("[" * 300 + "]" * 300),
}
NUMBERS = [
    "-", "8.1.5", "nan", "NaN", "inf", "-inf", "-5", "101", "1e999", "1e400", "+", ".", "e5", "--1",
    "0x10", "1_0", "5,3", "100.0001", "-0.1", "٣", "9" * 5000, "1e3",
]  # fmt: skip
NAMES = [
    b"\xff\xfe", b"caf\xe9", b"a\nb", b"\x1b[31mred", b"[bold]", b"$x_{$", b"_hidden",
    b"a" * 200, "猫".encode(), "🐈".encode(), "\u202eabc".encode(), b"%s%n", b"{0}", b"a\\b",
    b"'\"", b"<script>", b"a|b", b"-rf", b"~", b"*", b"\\begin{document}", b"#&^", b" ", b"\t",
]  # fmt: skip


def strange_files(folder):
    """What is no regular file, in `folder`, by name: paths."""
    paths = {name: folder / name for name in ("loop", "nowhere", "endless", "pipe", "directory")}
    os.symlink(paths["loop"], paths["loop"])
    os.symlink(folder / "not there", paths["nowhere"])
    os.symlink("/dev/zero", paths["endless"])
    os.mkfifo(paths["pipe"])
    paths["directory"].mkdir()
    return paths


def called(main, arguments, capsys):
    """Exit code, standard output and error of a tool, which must not end in a traceback."""
    try:
        code = main([os.fspath(argument) for argument in arguments])
    except SystemExit as stop:  # of argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and "unexpected" not in err, err
    assert code in (0, 1, 2), code
    if code == 2:
        assert "error: " in err.rstrip().splitlines()[-1] or "\nerror: " in f"\n{err}", err
    return code, out, err
