"""The tiny CLIP with a vision transformer: its file, its training, and that it knows its world."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from helpers import load_script
from torch.nn import functional as F

from varprompt import embedded
from varprompt.config import PromptConfig
from varprompt.embedded.paint import paint
from varprompt.embedded.world import draw, load_masks
from varprompt.errors import CheckpointError
from varprompt.model import PromptedCLIP
from varprompt.towers.load import load_clip
from varprompt.towers.openai_clip import tokenize

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_embedded_vit.py"
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]


@pytest.fixture(scope="module")
def model():
    return load_clip("embedded_vit")


@pytest.fixture(scope="module")
def script():
    module = load_script("make_embedded_vit")
    module.BATCH = 12
    return module


@torch.no_grad()
def test_recognises_new_pictures_of_its_world(model):
    names, labels = load_masks().names, torch.arange(106).repeat(3)
    pictures = paint(draw(labels, torch.Generator().manual_seed(11))).float()
    text = model.encode_text(tokenize([f"a photo of a {name}." for name in names], 24))
    image = model.encode_image((pictures - MEAN) / STD)
    scores = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    assert (scores.argmax(1) == labels).float().mean() > 0.75, "chance is 0.009"


def test_the_text_tower_is_the_first_ones(model):
    first, state = load_clip("embedded").state_dict(), model.state_dict()
    shared = [name for name in first if not name.startswith("visual.")]
    assert "text_projection" in shared and all(torch.equal(first[n], state[n]) for n in shared)
    assert model.weights_sha256 != load_clip("embedded").weights_sha256
    assert model.provenance.source == "the embedded tiny CLIP with a vision transformer"


def test_provenance_agrees_with_the_files():
    note = json.loads(embedded.VIT_WEIGHTS.with_suffix(".json").read_text())
    assert note["sha256"] == hashlib.sha256(embedded.VIT_WEIGHTS.read_bytes()).hexdigest()
    teacher = hashlib.sha256(embedded.WEIGHTS.read_bytes()).hexdigest()
    assert note["text_tower_and_teacher"] == {"file": "tiny_clip.safetensors", "sha256": teacher}
    assert embedded.VIT_WEIGHTS.stat().st_size < 4e6


def test_damage_is_named(tmp_path, monkeypatch):
    weights = tmp_path / embedded.VIT_WEIGHTS.name
    weights.write_bytes(embedded.VIT_WEIGHTS.read_bytes()[:-1])
    note = embedded.VIT_WEIGHTS.with_suffix(".json").read_text()
    weights.with_suffix(".json").write_text(note)
    monkeypatch.setattr(embedded, "VIT_WEIGHTS", weights)
    with pytest.raises(CheckpointError, match=r"tiny_vit\.safetensors is damaged"):
        embedded.tiny_vit_state_dict()


def test_visual_prompts_have_a_place(model):
    config = PromptConfig(n_ctx=2, keep_words=True, coupled=True, depth=2)
    prompted = PromptedCLIP(model, ["sun", "wheel"], config)
    assert prompted.logits(torch.zeros(3, 3, 32, 32))[0].shape == (1, 3, 2)


def test_resumed_training_equals_uninterrupted(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "COOLING", 2)
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken" / "checkpoint.pt"
    script.train(seed=3, steps=9, end=4, checkpoint=whole, every=4)
    draw_batch = script.draw_batch

    def power_cut(seed, step, *args):
        if step == 3:
            raise KeyboardInterrupt
        return draw_batch(seed, step, *args)

    monkeypatch.setattr(script, "draw_batch", power_cut)
    with pytest.raises(KeyboardInterrupt):
        script.train(seed=3, steps=9, end=4, checkpoint=broken, every=1)
    monkeypatch.setattr(script, "draw_batch", draw_batch)
    script.train(seed=3, steps=9, end=4, checkpoint=broken, every=1)
    one, two = (torch.load(p, weights_only=True)["model"] for p in (whole, broken))
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(SystemExit, match="has begun to end at 4"):
        script.train(seed=3, steps=9, end=6, checkpoint=broken, every=1)


def test_the_end_of_training_is_a_straight_line_to_zero(script):
    rates = [script.rate_of(step, 12000, 8000) for step in range(8000)]
    assert rates[:6501] == [script.rate_of(step, 12000, 12000) for step in range(6501)]
    last = torch.tensor(rates[6500:], dtype=torch.float64).diff()
    assert torch.allclose(last, last[:1].expand_as(last)) and rates[-1] == pytest.approx(-last[0])
    assert script.rate_of(12000, 12000, 12000) == 0
