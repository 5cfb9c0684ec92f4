"""Checkpoints in CoOp's layout and back."""

import pytest
import torch
from helpers import NAMES, prompted
from test_learner_state import CONFIGS, LAYOUTS, foreign, load

from tools.convert import main
from varprompt import checkpoint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, tmp_path):
    config, mapping = LAYOUTS[layout]
    model = prompted(config)
    ours, theirs, back = (tmp_path / name for name in ("ours", "theirs", "back"))
    state = model.prompt_learner.state_dict()
    checkpoint.write({"state_dict": state, "epoch": 7, "classnames": NAMES, "noise": 1}, ours)
    assert main([str(ours), str(theirs), "--to", "coop"]) == 0
    written = torch.load(theirs, weights_only=True)
    assert written["epoch"] == 7 and "noise" not in written
    assert written["state_dict"].keys() == mapping.keys()
    assert main([str(theirs), str(back), "--to", "ours"]) == 0
    for path in (theirs, back):
        other = prompted(config, seed=3)
        load(other, checkpoint.read(path))
        for name, value in other.prompt_learner.state_dict().items():
            assert torch.equal(value, state[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_theirs(layout, tmp_path):
    config, mapping = LAYOUTS[layout]
    model = prompted(config)
    torch.save(foreign(model, NAMES, torch.float16), tmp_path / "theirs")
    assert main([str(tmp_path / "theirs"), str(tmp_path / "ours"), "--to", "ours"]) == 0
    found = checkpoint.read(tmp_path / "ours")
    names = set(mapping.values())
    assert set(found["state_dict"]) - {"token_prefix", "token_suffix"} == names
    load(prompted(config, seed=3), found)


@pytest.mark.parametrize("name", ["delta", "fixed", "per_token", "conditional-per_token"])
def test_without_counterpart(name, tmp_path, capsys):
    state = prompted(CONFIGS[name]).prompt_learner.state_dict()
    checkpoint.write({"state_dict": state}, tmp_path / "ours")
    assert main([str(tmp_path / "ours"), str(tmp_path / "out"), "--to", "coop"]) == 2
    assert "POSTERIOR must be gaussian and RESIDUAL shared" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_files(tmp_path, capsys):
    checkpoint.write({"state_dict": {"fc": torch.ones(1)}}, tmp_path / "other")
    for source, message in (("none", "does not exist"), ("other", "is no prompt checkpoint")):
        assert main([str(tmp_path / source), str(tmp_path / "out"), "--to", "coop"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
