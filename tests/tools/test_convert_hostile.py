"""Checkpoints that are none: one error line and no file written."""

import io
import struct
import zipfile

import pytest
import torch
from payloads import TEXTS, VALUES, called, strange_files

from tools.convert import main

CTX = torch.ones(3, 5)
STATES = {f"state_dict-{name}": {"state_dict": value} for name, value in VALUES.items()}
STATES |= {f"ctx-{name}": {"state_dict": {"ctx": value}} for name, value in VALUES.items()}
STATES |= {
    f"{key}-{name}": {"state_dict": {"ctx": CTX}, key: value}
    for key in ("epoch", "val_result", "trainer", "classnames", "weights_sha256")
    for name, value in VALUES.items()
}
STATES |= {
    "no-state": {},
    "numbered": {"state_dict": {"ctx": CTX, 1: CTX}},
    "numbered-only": {"state_dict": {1: CTX}},
    "named-by-nothing": {"state_dict": {"ctx": CTX, None: CTX}},
    "named-by-a-pair": {"state_dict": {"ctx": CTX, (1, 2): CTX}},
    "one-number": {"state_dict": {"ctx": torch.tensor(1.0)}},
    "one-row": {"state_dict": {"ctx": torch.ones(3)}},
    "four-axes": {"state_dict": {"ctx": torch.ones(1, 1, 1, 1)}},
    "no-values": {"state_dict": {"ctx": torch.ones(3, 5, device="meta")}},
    "whole-numbers": {"state_dict": {"ctx": torch.ones(3, 5, dtype=torch.long)}},
    "truth": {"state_dict": {"ctx": torch.ones(3, 5, dtype=torch.bool)}},
    "sparse": {"state_dict": {"ctx": torch.ones(3, 5).to_sparse()}},
    "not-a-number": {"state_dict": {"ctx": torch.full((3, 5), torch.nan)}},
    "infinite": {"state_dict": {"ctx": torch.full((3, 5), torch.inf)}},
    "endless": {"state_dict": {"ctx": torch.ones(1).expand(2**40, 2**20)}},
    "unknown-value": {"state_dict": {"ctx": CTX, "more": CTX}},
    "one-unknown-text": {"state_dict": {"ctx": CTX, "more": "text"}},
    "half-a-posterior": {"state_dict": {"ctx": CTX, "mean_posterior": torch.ones(5)}},
    "other-width": {
        "state_dict": {"ctx": CTX, "mean_posterior": torch.ones(4), "std_posterior": torch.ones(4)}
    },
    "long-name": {"state_dict": {"ctx": CTX, "x" * 10**6: CTX}},
    "control": {"state_dict": {"ctx": CTX, "a\nb\x1b[31m": CTX}},
}
FITS = {  # what is not wrong, for one of the layouts
    *(f"{key}-null" for key in ("epoch", "val_result", "trainer", "classnames", "weights_sha256")),
    *(f"{key}-{text}" for key in ("trainer", "weights_sha256") for text in
      ("text", "empty", "half-character", "control")),
    "classnames-list", "epoch-negative", "epoch-above", "epoch-many-digits",
    "val_result-negative", "val_result-above",
    "half-a-posterior", "other-width", "unknown-value", "long-name", "control",
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_states_that_are_none(name, tmp_path, capsys):
    try:
        torch.save(STATES[name], tmp_path / "in")
    except (UnicodeEncodeError, RecursionError):
        pytest.skip("no file can hold it")
    for to in ("ours", "coop"):
        code, out, err = called(main, [tmp_path / "in", tmp_path / to, "--to", to], capsys)
        assert code == 2 or name in FITS, err
        assert (code == 0) == (tmp_path / to).exists()
        assert not out and err.count("\n") <= 1 and len(err) < 2000 and "\x1b" not in err


@pytest.mark.parametrize("name", TEXTS)
def test_files_of_anything(name, tmp_path, capsys):
    (tmp_path / "in").write_bytes(TEXTS[name])
    code, out, err = called(main, [tmp_path / "in", tmp_path / "out", "--to", "coop"], capsys)
    assert code == 2 and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_strange_files(tmp_path, capsys):
    torch.save({"state_dict": {"ctx": CTX}}, tmp_path / "good")
    for path in strange_files(tmp_path).values():
        assert called(main, [path, tmp_path / "out", "--to", "coop"], capsys)[0] == 2
    targets = [tmp_path / "directory", tmp_path / "good/x", "/proc/x", tmp_path / ("x" * 300)]
    for target in targets:
        code, _, err = called(main, [tmp_path / "good", target, "--to", "coop"], capsys)
        assert code == 2 and err.startswith("error: ")
    code, _, err = called(main, [tmp_path / "good", tmp_path / "\udcff", "--to", "coop"], capsys)
    assert code == 0 and err == ""
    assert {path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")} == set()


def zipped(**parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


ARCHIVES = {
    "large": lambda: zipped(a__data__0=bytes(150 * 10**6), a__data_pkl=b"x"),
    "empty": lambda: zipped(),
    "no-pickle": lambda: zipped(a__version=b"3"),
    "twice": lambda: zipped(a=b"1", b=b"2") + zipped(a=b"1"),
    "claims": lambda: zipped(a__data=bytes(99)).replace(
        struct.pack("<I", 99), struct.pack("<I", 2**31)
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name, tmp_path, capsys):
    (tmp_path / "in").write_bytes(ARCHIVES[name]())
    code, _, err = called(main, [tmp_path / "in", tmp_path / "out", "--to", "ours"], capsys)
    assert code == 2 and "damaged" in err
