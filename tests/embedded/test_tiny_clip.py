"""The tiny CLIP: its file, its sizes, and that it recognises its world."""

import hashlib
import json
import shutil

import pytest
import torch
from torch.nn import functional as F

from varprompt import embedded
from varprompt.embedded.paint import paint
from varprompt.embedded.world import draw, load_masks
from varprompt.errors import CheckpointError
from varprompt.towers.load import clip_module

CLIP = clip_module()
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]


@pytest.fixture(scope="module")
def model():
    return CLIP.model.build_model(embedded.tiny_clip_state_dict()).float()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the weight file and its JSON that a test may damage."""
    weights = tmp_path / embedded.WEIGHTS.name
    shutil.copy(embedded.WEIGHTS, weights)
    shutil.copy(embedded.WEIGHTS.with_suffix(".json"), weights.with_suffix(".json"))
    monkeypatch.setattr(embedded, "WEIGHTS", weights)
    return weights


@torch.no_grad()
def accuracy(model, labels, seed):
    pictures = paint(draw(labels, torch.Generator().manual_seed(seed))).float()
    prompts = CLIP.tokenize([f"a photo of a {name}." for name in load_masks().names], 24)
    text = F.normalize(model.encode_text(prompts), dim=-1)
    image = F.normalize(model.encode_image((pictures - MEAN) / STD), dim=-1)
    return ((image @ text.T).argmax(1) == labels).float().mean()


def test_sizes(model):
    assert model.visual.input_resolution == 32
    assert model.context_length == 24 and model.positional_embedding.shape == (24, 64)
    assert model.token_embedding.weight.shape == (49408, 64)
    assert model.text_projection.shape == (64, 128)
    assert len(model.transformer.resblocks) == 2
    assert model.transformer.resblocks[0].attn.num_heads == 1
    assert model.visual(torch.zeros(3, 3, 32, 32)).shape == (3, 128)


def test_state_is_float32_and_finite():
    state = embedded.tiny_clip_state_dict()
    floats = [t for key, t in state.items() if not key.endswith("num_batches_tracked")]
    assert {t.dtype for t in floats} == {torch.float32}
    assert all(t.isfinite().all() for t in state.values())


def test_recognises_new_pictures_of_its_world(model):
    measured = accuracy(model, torch.arange(106).repeat(3), seed=11)
    assert measured > 0.75, "chance is 0.009"


def test_provenance_agrees_with_the_file():
    note = json.loads(embedded.WEIGHTS.with_suffix(".json").read_text())
    assert note["sha256"] == hashlib.sha256(embedded.WEIGHTS.read_bytes()).hexdigest()
    assert note["steps_done"] == note["steps_planned"]
    assert f"--steps {note['steps_planned']}" in note["command"]


def test_words_that_training_never_met_are_the_same_everywhere():
    table = embedded.tiny_clip_state_dict()["token_embedding.weight"]
    zebra = table[22548, :3].tolist()
    assert zebra == pytest.approx([-0.0045556738, 0.0125886118, 0.0010719895], abs=1e-8)


def test_a_flipped_bit_is_refused(copied):
    data = bytearray(copied.read_bytes())
    data[len(data) // 2] ^= 1
    copied.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tiny_clip.safetensors is damaged: its sha256"):
        embedded.tiny_clip_state_dict()


def test_another_file_with_the_right_sum_is_refused(copied):
    for content in (b"", b"{}", b"\0" * 40):
        copied.write_bytes(content)
        note = {"sha256": hashlib.sha256(content).hexdigest()}
        copied.with_suffix(".json").write_text(json.dumps(note))
        with pytest.raises(CheckpointError, match="is not a tiny CLIP"):
            embedded.tiny_clip_state_dict()


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_broken_note_is_refused(copied, text):
    copied.with_suffix(".json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tiny_clip.json holds no 'sha256'"):
        embedded.tiny_clip_state_dict()


def test_a_missing_file_is_named(copied):
    copied.unlink()
    with pytest.raises(CheckpointError, match=r"tiny_clip.safetensors cannot be read \(No such"):
        embedded.tiny_clip_state_dict()
