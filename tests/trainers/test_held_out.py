"""Scores of validation images: what is kept after a training, and what is never among it."""

import json
import shutil

import pytest
from helpers import build, command, make_pictures, results

import train
from varprompt.errors import CheckpointError
from varprompt.run.held_out import KeptScores, kept_scores

SHORT = {"OPTIM__MAX_EPOCH": 1, "TRAINER__VPT__L": 2}
KEPT = KeptScores([0.25, 0.1 + 0.2], [True, False], 1.5, "ab" * 32)


@pytest.fixture
def root(tmp_path):
    """Pictures that a test may change."""
    return make_pictures(tmp_path / "data")


def held_out(root, folder, *flags, **options):
    assert train.main(command(root, folder, *flags, **SHORT | options)) == 0
    return kept_scores(folder)


def test_images_that_were_learned_from_or_are_tested_are_left_out(root, tmp_path, capsys):
    assert len(held_out(root, tmp_path / "all").correct) == 5
    shown = root / "pictures"
    shutil.copy(shown / "train/sun/1.png", shown / "val/sun/0.png")
    shutil.copy(shown / "test/x/2.png", shown / "val/x/0.png")
    before = results(tmp_path / "all")
    found = held_out(root, tmp_path / "some")
    assert len(found.correct) == 3
    trainer = build(command(root, tmp_path / "some", **SHORT))
    trainer.load_model(str(tmp_path / "some"))
    assert found.checkpoint == trainer.checkpoint_sha256
    after = results(tmp_path / "some")
    for name in ("accuracy", "nll", "per_class", "uncertainty", "identity"):
        assert before[name] == after[name], name  # results know nothing of them


def test_nothing_is_kept_where_they_chose_the_epoch_or_are_tested(root, tmp_path):
    assert held_out(root, tmp_path / "best", TEST__FINAL_MODEL="best_val") is None
    assert held_out(root, tmp_path / "val", TEST__SPLIT="val") is None
    assert held_out(root, tmp_path / "untrained", OPTIM__MAX_EPOCH=0) is None  # has no model
    model = ["--model-dir", tmp_path / "val", "--eval-only"]
    assert held_out(root, tmp_path / "eval", *model) is None
    shutil.rmtree(root / "pictures/val")
    assert held_out(root, tmp_path / "none") is None


def test_a_validation_image_that_cannot_be_read_ends_no_run(root, tmp_path, capsys):
    (root / "pictures/val/sun/0.png").write_bytes(b"no image")
    assert held_out(root, tmp_path / "run") is None
    said = capsys.readouterr().out
    assert "No scores of validation images are kept: " in said and "sun/0.png" in said
    assert "accuracy" in results(tmp_path / "run")


def test_an_earlier_run_gets_them_when_it_is_tested_again(root, tmp_path):
    first = held_out(root, tmp_path / "run")
    (tmp_path / "run/held_out.json").unlink()
    assert held_out(root, tmp_path / "run") is None  # done already
    (tmp_path / "run/results.json").unlink()
    assert held_out(root, tmp_path / "run") == first


def test_they_come_back(tmp_path):
    assert kept_scores(tmp_path) is None
    KEPT.write(tmp_path)
    assert kept_scores(tmp_path) == KEPT


@pytest.mark.parametrize(
    "change",
    [
        "", "[]", "{", {"confidence": []}, {"confidence": [0.5]}, {"confidence": [0.5, "NaN"]},
        {"confidence": [0.5, 2]}, {"correct": [1, 0]}, {"correct": None}, {"temperature": []},
    ],
)  # fmt: skip
def test_damage_is_told(change, tmp_path):
    KEPT.write(tmp_path)
    file = tmp_path / "held_out.json"
    whole = json.loads(file.read_text())
    file.write_text(change if isinstance(change, str) else json.dumps(whole | change))
    with pytest.raises(CheckpointError, match=r"held_out.json is damaged .*: delete it"):
        kept_scores(tmp_path)
