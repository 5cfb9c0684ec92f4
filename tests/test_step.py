"""The benchmark of a training step: every variant computes the same, the ratios are reported."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import scaling, step
from benchmarks._ablate import ABLATIONS

TINY = ["step.py", "--backbone", "tiny", "--classes", "5", "-L", "3", "-B", "2", "--repeats", "1"]


def measured(monkeypatch, folder, variant, *options):
    """Report, and tensors, of a variant run in this process."""
    command = [*TINY, *options, "--variant", variant, "--workdir", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    enabled = torch._C._get_mkldnn_enabled()
    try:
        step.main()
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    return json.loads((folder / f"{variant}.json").read_text()), load_file(folder / variant)


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp", "VPT_MaPLe", "VPT_PromptSRC"])
def test_variants_compute_the_same(trainer, tmp_path, monkeypatch):
    options = ["--trainer", trainer, "--plain-images", "1"]
    for variant in ["plain", "fast", *(ABLATIONS if trainer == "VPT" else [])]:
        report, tensors = measured(monkeypatch, tmp_path, variant, *options)
        assert report["time_s"]["p50"] > 0 and report["repeats"] == 1
        assert tensors["logits"].shape == (3, 2, 5)
        assert set(tensors) > {"logits"} and all(t.abs().sum() > 0 for t in tensors.values())
        difference = step.differences(tmp_path, variant, "plain")
        assert difference["logits"] < 1e-6 and difference["gradient"] < 1e-5, variant


def test_one_command_writes_the_report(tmp_path, monkeypatch):
    """Each variant in a process of its own, as from anywhere."""
    out = tmp_path / "step.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [step.__file__, *TINY[1:], "--output", str(out)])
    step.main()
    report = json.loads(out.read_text())
    assert list(report["variants"]) == ["plain", "fast"]
    assert report["plain_over_fast"]["cpu_time"] > 1
    assert report["variants"]["fast"]["difference_to_plain"]["gradient"] < 1e-5
    assert report["setting"]["classes"] == 5 and report["environment"]["packages"]["torch"]


def test_growth_of_a_line_is_one():
    points = [
        {"prompts": n, "cpu_s": {"p50": 0.1 * n}, "peak_bytes": 5.0 * n**0.5} for n in (10, 30, 70)
    ]
    assert scaling.growth(points, "cpu_s") == pytest.approx({"time": 1, "memory": 0.5}, abs=1e-5)
