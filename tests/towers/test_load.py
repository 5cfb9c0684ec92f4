"""CLIP models from every source, exactly, and what is not one."""

import hashlib
import os
import urllib.error

import pytest
import torch
from clip.model import convert_weights
from helpers import images, small_clip
from safetensors.torch import save_file

from varprompt.errors import CheckpointError, ConfigError
from varprompt.towers.load import cast_clip, clip_module, input_size, load_clip

TOWERS = {"vit": {}, "resnet": {"resnet": True, "vision_width": 16}}


class Command:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def save_torchscript(state, path):
    """An archive like OpenAI's: a scripted module whose state is the CLIP's, in half precision."""

    class Node(torch.nn.Module):
        def forward(self):
            return 0

    root = Node()
    for key, value in state.items():
        *folders, leaf = key.split(".")
        node = root
        for name in folders:
            if not hasattr(node, name):
                node.add_module(name, Node())
            node = getattr(node, name)
        node.register_buffer(leaf, value)
    for key, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(key, torch.tensor(value))
    torch.jit.save(torch.jit.script(root), path)


SAVERS = {
    "plain.pt": torch.save,
    "wrapped.pth": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "parallel.bin": lambda state, path: torch.save(
        {f"module.{k}": v for k, v in state.items()}, path
    ),
    "archive.pt": save_torchscript,
    "tensors.safetensors": lambda state, path: save_file(
        {k: v.contiguous() for k, v in state.items()}, path
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("name", SAVERS)
def test_files_load_exactly(name, tower, tmp_path):
    clip = small_clip(**TOWERS[tower])
    SAVERS[name](clip.state_dict(), tmp_path / name)
    loaded = load_clip("ViT-B/17 does not matter", str(tmp_path / name))
    assert input_size(loaded) == 32 and not loaded.training
    for key, value in loaded.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(value, clip.state_dict()[key]), key
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.encode_image(images(2)), clip.encode_image(images(2)))


def test_half_precision_files_are_widened(tmp_path):
    clip = small_clip()
    convert_weights(clip)
    torch.save(clip.state_dict(), tmp_path / "half.pt")
    loaded = load_clip("", str(tmp_path / "half.pt"))
    assert torch.equal(loaded.text_projection, clip.text_projection.float())


def test_digest_tells_weights_apart(tmp_path):
    digests = set()
    for seed in (0, 0, 1):
        torch.save(small_clip(seed=seed).state_dict(), tmp_path / "w.pt")
        digests.add(load_clip("", str(tmp_path / "w.pt")).weights_sha256)
    assert len(digests) == 2 and all(len(d) == 64 for d in digests)


def test_embedded():
    clip = load_clip("embedded")
    assert (input_size(clip), clip.context_length) == (32, 24)


@pytest.mark.parametrize("tower", TOWERS)
def test_cast_is_openais(tower):
    ours, theirs = (small_clip(**TOWERS[tower]) for _ in range(2))
    cast_clip(ours, "fp16")
    convert_weights(theirs)
    assert {k: v.dtype for k, v in ours.state_dict().items()} == {
        k: v.dtype for k, v in theirs.state_dict().items()
    }
    kinds = {v.dtype for v in cast_clip(small_clip(), "bf16").state_dict().values()}
    assert kinds == {torch.bfloat16, torch.float32}
    for precision in ("fp32", "amp"):
        kinds = {v.dtype for v in cast_clip(small_clip(), precision).state_dict().values()}
        assert kinds == {torch.float32}


def test_openai_names_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache/clip"
    folder.mkdir(parents=True)
    torch.save(small_clip().state_dict(), folder / "ViT-B-32.pt")
    want = small_clip().logit_scale
    assert torch.equal(load_clip("ViT-B/32").logit_scale, want)


def test_no_network_and_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def download(url, folder):
        os.makedirs(folder)
        (tmp_path / ".cache/clip/RN50.pt").write_bytes(b"a part")
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(clip_module().clip, "_download", download)
    with pytest.raises(CheckpointError, match=r"CLIP RN50 are not at .*RN50\.pt and could not be"):
        load_clip("RN50")
    assert not (tmp_path / ".cache/clip/RN50.pt").exists()  # would be taken for the whole


def no_clip(state, keep):
    return {k: v for k, v in state.items() if keep(k)}


BAD = {
    "text": (lambda p: p.write_text("hello"), "damaged or not a checkpoint"),
    "empty": (lambda p: p.write_bytes(b""), "damaged or not a checkpoint"),
    "list": (lambda p: torch.save([torch.ones(1)], p), "holds a list"),
    "other": (lambda p: torch.save({"fc.weight": torch.ones(1)}, p), r"lacks .*text_projection"),
    "half": (
        lambda p: torch.save(no_clip(small_clip().state_dict(), lambda k: "c_fc" not in k), p),
        "not a CLIP of OpenAI's form",
    ),
    "no tower": (
        lambda p: torch.save(no_clip(small_clip().state_dict(), lambda k: "visual" not in k), p),
        "not a CLIP of OpenAI's form",
    ),
    "command": (lambda p: torch.save({"a": Command()}, p), r"\(posix\.system\), which are never"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_a_clip(kind, tmp_path):
    make, message = BAD[kind]
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_clip("", str(path))
    assert str(path) in str(caught.value)


def test_damaged_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="damaged or not a weight file"):
        load_clip("", str(path))


def test_missing_and_unknown(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not exist \(MODEL\.BACKBONE\.PATH\)"):
        load_clip("", str(tmp_path / "none.pt"))
    with pytest.raises(ConfigError, match=r"'ViT-B/17' is unknown; choose from embedded, RN50,"):
        load_clip("ViT-B/17")


def test_digest_is_of_the_values(tmp_path):
    """What provenance notes can be checked with: names and float32 values in sorted order."""
    state = small_clip().state_dict()
    torch.save(state, tmp_path / "w.pt")
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].float().numpy().tobytes())
    assert load_clip("", str(tmp_path / "w.pt")).weights_sha256 == digest.hexdigest()
