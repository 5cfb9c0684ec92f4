"""Every trainer with CLIPs of every source: a step, a test, what the log and the results say."""

import json

import pytest
from foreign import PLAIN
from helpers import build, command

from varprompt.errors import ConfigError

TRAINERS = ("ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "VPT", "VPT_CoCoOp")
TABLE = [
    ("open_clip", "vit"),
    ("open_clip", "coca"),
    ("open_clip", "siglip"),
    ("hf", "clip"),
    ("hf", "siglip2"),
]


def run_of(pictures, output, their, trainer, **options):
    options = {
        "MODEL__BACKBONE__NAME": their.name, "INPUT__SIZE": (their.size, their.size),
        "OPTIM__MAX_EPOCH": 1, "DATASET__NUM_SHOTS": 1, "TRAINER__COOP__N_CTX": 2,
        "TRAINER__COCOOP__N_CTX": 2, "TRAINER__VPT__N_CTX": 2, "TRAINER__VPT__CTX_INIT": "",
        **options,
    }  # fmt: skip
    return build(command(pictures, output, trainer=trainer, **options))


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(("library", "kind"), TABLE)
def test_every_trainer_runs(library, kind, trainer, theirs, pictures, tmp_path, capsys):
    their = theirs(library, kind)
    run = run_of(
        pictures, tmp_path, their, trainer,
        INPUT__PIXEL_MEAN=their.mean, INPUT__PIXEL_STD=their.std,
    )  # fmt: skip
    stated = run.towers.clip.provenance
    run.train()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["weights_sha256"] == stated.weights_sha256 and results["bad_steps"] == 0
    assert 0 <= results["accuracy"] <= 100
    said = capsys.readouterr().out
    assert ("plain path" in said) == (kind in PLAIN)
    assert ("sigmoid" in said) == (stated.scores == "sigmoid")


def test_images_must_be_normalised_as_the_source_says(theirs, pictures, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run_of(pictures, tmp_path, theirs("open_clip", "vit"), "CoOp")
    assert 'give INPUT.PIXEL_MEAN "(0.4, 0.4, 0.4)"' in str(caught.value)
    assert 'give INPUT.PIXEL_STD "(0.3, 0.3, 0.3)"' in str(caught.value)
    with pytest.raises(ConfigError, match=r'takes \(32, 32\): give INPUT.SIZE "\(32, 32\)"'):
        run_of(pictures, tmp_path, theirs("open_clip", "vit"), "CoOp", INPUT__SIZE=(224, 224))
