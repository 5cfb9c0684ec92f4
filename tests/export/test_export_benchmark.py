"""The benchmark of exported files: every way is timed, and says what the model says."""

import json
import sys

import pytest
import torch
from packaging.version import Version

from benchmarks import export
from benchmarks._setup import class_names, prompted_clip, random_clip
from varprompt.errors import VarPromptError

TINY = "export.py --backbone tiny --images 6 --batch-sizes 1 4 --repeats 2 --threads 1".split()


def test_report(tmp_path, monkeypatch, capsys):
    output = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", [*TINY, "--output", str(output)])
    threads = torch.get_num_threads()
    try:
        if Version(torch.__version__) < Version("2.7"):
            with pytest.raises(VarPromptError, match="take a newer torch"):
                export.main()
            return
        export.main()
    finally:
        torch.set_num_threads(threads)
    report = json.loads(output.read_text())
    assert report["settings"]["C"] == 37 and report["environment"]["packages"]["onnxruntime"]
    for of in report["files"].values():
        assert max(of["largest_difference_from_torch"].values()) < 1e-4
        assert of["bytes"] > report["bytes_of_the_image_tower"]
    assert list(report["batches"]) == ["1", "4"]
    for ways in report["batches"].values():
        assert list(ways) == ["clip by hand", "varprompt", "onnx", "torch.export"]
        assert all(len(of["seconds"]) == 2 and min(of["seconds"]) > 0 for of in ways.values())
    assert capsys.readouterr().out.count("images a second") == 8


@torch.no_grad()
def test_by_hand_is_the_model_that_has_learned_nothing():
    clip_model, names = random_clip("tiny"), class_names("oxford_pets")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    untrained = prompted_clip(clip_model, names, "CoOp", 1, ctx_init="a photo of a")
    wanted = torch.from_numpy(export.here(untrained)(images).prob)
    got = export.by_hand(clip_model, names)(images).double()
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
