"""The training script: an interrupted training resumes to the very same weights."""

from pathlib import Path

import pytest
import torch
from helpers import load_script

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_embedded_clip.py"


@pytest.fixture(scope="module")
def script():
    module = load_script("make_embedded_clip")
    module.BATCH = 12
    return module


def test_resumed_training_equals_uninterrupted(script, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken" / "checkpoint.pt"
    script.train(seed=3, steps=4, checkpoint=whole, every=4)
    draw = script.draw_batch

    def power_cut(seed, step, *args):
        if step == 3:
            raise KeyboardInterrupt
        return draw(seed, step, *args)

    monkeypatch.setattr(script, "draw_batch", power_cut)
    with pytest.raises(KeyboardInterrupt):
        script.train(seed=3, steps=4, checkpoint=broken, every=2)
    monkeypatch.setattr(script, "draw_batch", draw)
    assert torch.load(broken, weights_only=True)["step"] == 2
    script.train(seed=3, steps=4, checkpoint=broken, every=2)
    one, two = (torch.load(p, weights_only=True)["model"] for p in (whole, broken))
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(SystemExit, match="name another --checkpoint"):
        script.train(seed=4, steps=4, checkpoint=broken, every=2)


def test_training_lowers_the_loss_of_its_batch(script):
    torch.manual_seed(0)
    names = script.load_masks().names
    tokens = script.captions.Vocabulary(script.tokenize, names)
    model = script.tiny_clip(len(tokens.ids))
    optimizer, losses = script.optimizer_of(list(model.parameters()), script.RATE, 0.1), []
    batch = script.draw_batch(1, 0, 0.3, names)
    for _ in range(6):
        loss = script.loss_of(model, tokens, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_cut_texts_have_the_features_of_full_ones(script):
    tokens = script.captions.Vocabulary(script.tokenize, script.load_masks().names)
    model = script.tiny_clip(len(tokens.ids))
    texts = ["a photo of a cat.", "a sketch of the yin yang"]
    full = tokens.row[script.tokenize(texts)]
    with torch.no_grad():
        expected, got = model.encode_text(full), model.encode_text(tokens(texts))
    assert tokens(texts).shape[1] < full.shape[1]
    assert torch.allclose(got, expected, atol=1e-6)


def test_every_caption_has_known_words(script):
    names = script.load_masks().names
    tokens = script.captions.Vocabulary(script.tokenize, names)
    for step in range(3):
        batch = script.draw_batch(1, step, 1.0, names)
        assert (tokens(batch.captions + batch.prompts) >= 0).all()
