"""Checkpoints in CoOp's layout and back."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import NAMES, prompted
from test_learner_state import CONFIGS, LAYOUTS, foreign, load

from tools.convert import main
from varprompt.common import files

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, tmp_path):
    config, mapping = LAYOUTS[layout]
    model = prompted(config)
    ours, theirs, back = (tmp_path / name for name in ("ours", "theirs", "back"))
    state = model.prompt_learner.state_dict()
    files.write({"state_dict": state, "epoch": 7, "classnames": NAMES, "noise": 1}, ours)
    assert main([str(ours), str(theirs), "--to", "coop"]) == 0
    written = torch.load(theirs, weights_only=True)
    assert written["epoch"] == 7 and "noise" not in written
    assert written["state_dict"].keys() == mapping.keys()
    assert main([str(theirs), str(back), "--to", "ours"]) == 0
    for path in (theirs, back):
        other = prompted(config, seed=3)
        load(other, files.read(path))
        for name, value in other.prompt_learner.state_dict().items():
            assert torch.equal(value, state[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_theirs(layout, tmp_path):
    config, mapping = LAYOUTS[layout]
    model = prompted(config)
    torch.save(foreign(model, NAMES, torch.float16), tmp_path / "theirs")
    assert main([str(tmp_path / "theirs"), str(tmp_path / "ours"), "--to", "ours"]) == 0
    found = files.read(tmp_path / "ours")
    names = set(mapping.values())
    assert set(found["state_dict"]) - {"token_prefix", "token_suffix"} == names
    load(prompted(config, seed=3), found)


@pytest.mark.parametrize(
    "name", ["delta", "fixed", "per_token", "conditional-per_token", "low_rank", "mixture"]
)
def test_without_counterpart(name, tmp_path, capsys):
    state = prompted(CONFIGS[name]).prompt_learner.state_dict()
    files.write({"state_dict": state}, tmp_path / "ours")
    assert main([str(tmp_path / "ours"), str(tmp_path / "out"), "--to", "coop"]) == 2
    assert "POSTERIOR must be gaussian and RESIDUAL shared" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_contexts_that_begin_at_the_words_of_their_class(share, tmp_path, capsys):
    """They have no counterpart, and nothing but the configuration tells them."""
    config = f"TRAINER:\n  NAME: CoOp\n  COOP:\n    CLASS_WORDS: {share}\n"
    files.write({"state_dict": {"ctx": torch.ones(3, 5)}, "config": config}, tmp_path / "ours")
    code = main([str(tmp_path / "ours"), str(tmp_path / "out"), "--to", "coop"])
    assert (code, (tmp_path / "out").exists()) == ((2, False) if share else (0, True))
    said = "was learned with TRAINER.COOP.CLASS_WORDS 0.2: prompts of CoOp's" if share else ""
    assert said in capsys.readouterr().err


def test_bad_files(tmp_path, capsys):
    files.write({"state_dict": {"fc": torch.ones(1)}}, tmp_path / "other")
    (tmp_path / "folder").mkdir()
    for source, message in (
        ("none", "does not exist"),
        ("other", "is no prompt checkpoint"),
        ("folder", "is a folder; give a file, model.pth.tar-EPOCH"),
    ):
        assert main([str(tmp_path / source), str(tmp_path / "out"), "--to", "coop"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("call", [["tools/convert.py"], ["-m", "tools.convert"]])
def test_both_ways_to_call_it(call, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    files.write({"state_dict": {"ctx": torch.ones(3, 5)}}, source)
    command = [sys.executable, *call, source, target, "--to", "coop"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert torch.equal(files.read(target)["state_dict"]["ctx"], torch.ones(3, 5))
