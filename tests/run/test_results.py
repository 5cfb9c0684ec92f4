"""The file of a test's figures."""

import json
import math

import pytest
import torch

from varprompt.run.results import provenance, read_results, write_results


def test_names_that_are_no_text(tmp_path):
    """Of a folder that was named in Latin-1."""
    name = b"caf\xe9".decode(errors="surrogateescape")
    write_results(tmp_path, {"name": name})
    assert read_results(tmp_path)["name"] == name


def test_file(tmp_path):
    assert read_results(tmp_path) is None
    write_results(tmp_path, {"accuracy": 50.123456789, "name": "é"})
    found = read_results(tmp_path)
    assert found["accuracy"] == 50.123456789 and found["name"] == "é"
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found.keys() == {"accuracy", "name", "date", "versions", "git_commit"}
    for damage in ("", "{", "[1]", '{"accuracy": 1'):
        (tmp_path / "results.json").write_text(damage)
        assert read_results(tmp_path) is None
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path, {"nll": math.nan})
    assert json.loads((tmp_path / "results.json").read_text() + "}") == {"accuracy": 1}


def test_provenance():
    found = provenance()
    assert found["date"].endswith("+00:00")
    assert {"python", "torch", "torchvision", "clip-anytorch", "numpy"} <= found["versions"].keys()
    assert "unknown" not in found["versions"].values()
