"""Zero-shot baselines, and what baselines share with the rest."""

import json

import pytest
import reference
import torch
from helpers import CLASSES, build, command

import train
from trainers.baselines import ENSEMBLE, TEMPLATES
from varprompt.errors import ConfigError
from varprompt.towers.load import load_clip


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_equals_the_textbook(trainer, pictures, tmp_path):
    made = build(command(pictures, tmp_path, trainer=trainer))
    batch = next(iter(made.test_loader))
    got = made.predictor()(made.encode_image(batch["img"]))
    clip = reference.double(load_clip("embedded"))
    templates = (
        ["a photo of a {}."] if trainer == "ZeroshotCLIP" else [*ENSEMBLE, "a photo of a {}."]
    )
    text = reference.zero_shot(clip, sorted(CLASSES), templates)
    features = reference.image_features(clip, batch["img"].double())
    want = (clip.logit_scale.exp() * features @ text.T).log_softmax(-1)
    assert (got - want).abs().max() < 1e-4


# name of the data set -> CoOp's whole prompt for "small dog"
PROMPTS = {
    "OxfordPets": "a photo of a small dog, a type of pet.",
    "OxfordFlowers": "a photo of a small dog, a type of flower.",
    "FGVCAircraft": "a photo of a small dog, a type of aircraft.",
    "DescribableTextures": "small dog texture.",
    "EuroSAT": "a centered satellite photo of small dog.",
    "Food101": "a photo of small dog, a type of food.",
    "UCF101": "a photo of a person doing small dog.",
    "StanfordCars": "a photo of a small dog.",
    "ImageNetSketch": "a photo of a small dog.",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_templates(name, pictures, tmp_path):
    zero_shot = build(command(pictures, tmp_path, trainer="ZeroshotCLIP2"))
    zero_shot.cfg = zero_shot.cfg.clone()
    zero_shot.cfg.defrost()
    zero_shot.cfg.DATASET.NAME = name
    texts = [t.format("small dog") for t in zero_shot.templates()]
    assert len(texts) == 8 and texts[-1] == PROMPTS[name]
    zero_shot.cfg.DATASET.NAME = "ImageNet"
    assert zero_shot.templates() == list(ENSEMBLE) and len(ENSEMBLE) == 7
    assert len(TEMPLATES) == 7


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_templates_of_ones_own(trainer, pictures, tmp_path, capsys):
    texts = ("an x-ray of a {}.", "a scan of {}, X_ray")
    options = {"TRAINER__ZEROSHOT__TEMPLATES": texts, "TRAINER__COOP__CTX_INIT": "an x-ray of"}
    zero_shot = build(command(pictures, tmp_path, trainer=trainer, **options))
    assert zero_shot.templates() == list(texts)
    assert f"TRAINER.COOP.CTX_INIT has no effect on {trainer}" in capsys.readouterr().out
    one = build(
        command(pictures, tmp_path, trainer=trainer, TRAINER__ZEROSHOT__TEMPLATES="a scan of {}")
    )
    assert one.templates() == ["a scan of {}"]


@pytest.mark.parametrize("text", ["an x-ray", "{} or {}", "{0}", "{} {name}", "{} }"])
def test_templates_without_a_place_for_the_name(text, pictures, tmp_path):
    options = {"TRAINER__ZEROSHOT__TEMPLATES": (text,)}
    with pytest.raises(ConfigError, match="a template has one {} for the class name"):
        build(command(pictures, tmp_path, trainer="ZeroshotCLIP", **options))


@pytest.mark.parametrize("flags", [(), ("--eval-only",), ("--eval-only", "--model-dir", "/none")])
def test_zero_shot_runs_however_it_is_asked(flags, pictures, tmp_path, capsys):
    arguments = command(pictures, tmp_path / "out", *flags, trainer="ZeroshotCLIP")
    assert train.main(arguments) == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["trainer"] == "ZeroshotCLIP" and found["n_total"] == 20
    assert not (tmp_path / "out/prompt_learner").exists()
    assert "* accuracy: " in capsys.readouterr().out
    assert train.main(arguments) == 0
    assert "Already done" in capsys.readouterr().out


def test_coop_reports_what_coop_reports(pictures, tmp_path):
    for trainer in ("CoOp", "CoCoOp"):
        made = build(command(pictures, tmp_path, trainer=trainer))
        made.num_batches, made.epoch = 3, 0
        made.before_epoch()
        scalars = made.forward_backward(next(iter(made.train_loader_x)))
        assert list(scalars) == ["loss", "acc"]


def test_context_words_beat_the_number(pictures, tmp_path):
    """As in CoOp, CTX_INIT decides M."""
    options = {"TRAINER__COOP__CTX_INIT": "a_photo_of_a", "TRAINER__COOP__N_CTX": 16}
    made = build(command(pictures, tmp_path, trainer="CoOp", **options))
    clip = load_clip("embedded")
    ids = torch.tensor([320, 1125, 539, 320])  # a photo of a
    assert torch.equal(made.model.prompt_learner.ctx, clip.token_embedding.weight[ids])


def test_contexts_that_do_not_fit(pictures, tmp_path):
    with pytest.raises(ConfigError, match=r"5 prompt\(s\) do not fit the 24 tokens"):
        build(command(pictures, tmp_path, trainer="CoOp", TRAINER__COOP__N_CTX=22))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_half_precision_on_a_cpu_is_said_to_be_slow(precision, pictures, tmp_path, capsys):
    build(command(pictures, tmp_path, trainer="CoOp", TRAINER__COOP__PREC=precision))
    assert ("PREC fp16 is slow on a CPU" in capsys.readouterr().out) == (precision == "fp16")
