"""CLIP models from every source, exactly, and what is not one."""

import hashlib
import math
import os
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from helpers import images, small_clip
from safetensors.torch import save_file

from varprompt.common import files
from varprompt.errors import CheckpointError, ConfigError
from varprompt.towers import load, openai
from varprompt.towers.load import (
    ACTIVATIONS,
    Provenance,
    build_clip,
    cast_clip,
    clip_module,
    input_size,
    load_clip,
)

convert_weights = clip_module().model.convert_weights

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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit")  # deprecated
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


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("name", SAVERS)
def test_files_load_exactly(name, tower, tmp_path):
    clip = small_clip(**TOWERS[tower])
    SAVERS[name](clip.state_dict(), tmp_path / name)
    loaded = load_clip("ViT-B/17 does not matter", str(tmp_path / name), activation="quick_gelu")
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
    loaded = load_clip("", str(tmp_path / "half.pt"), activation="quick_gelu")
    assert torch.equal(loaded.text_projection, clip.text_projection.float())


def test_digest_tells_weights_apart(tmp_path):
    digests = set()
    for seed in (0, 0, 1):
        torch.save(small_clip(seed=seed).state_dict(), tmp_path / "w.pt")
        digests.add(load_clip("", str(tmp_path / "w.pt"), activation="gelu").weights_sha256)
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


@pytest.mark.parametrize("precision", ["fp32", "amp", "fp16"])
def test_a_clip_whose_values_are_rounded_serves_one_precision(precision):
    clip = cast_clip(small_clip(), "bf16")
    assert cast_clip(clip, "bf16") is clip
    with pytest.raises(ConfigError, match="has been put into torch.bfloat16 .*: load it anew"):
        cast_clip(clip, precision)


# ---------------------------------------------------------------- what a file says of itself


def with_exact_gelu(clip):
    for parent in list(clip.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "QuickGELU":
                setattr(parent, name, torch.nn.GELU())
    return clip


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_that_of_the_model(activation, tmp_path):
    want = small_clip()
    torch.save(want.state_dict(), tmp_path / "w.pt")
    if activation == "gelu":
        with_exact_gelu(want)
    loaded = load_clip("", str(tmp_path / "w.pt"), activation=activation)
    tokens = clip_module().tokenize(["a dog", "two rings"])
    assert torch.equal(loaded.encode_image(images(2)), want.encode_image(images(2)))
    assert torch.equal(loaded.encode_text(tokens), want.encode_text(tokens))
    assert loaded.activation == loaded.provenance.activation == activation


def test_state_dict_that_does_not_say_its_activation_is_refused(tmp_path):
    torch.save(small_clip().state_dict(), tmp_path / "w.pt")
    says = (
        r"w\.pt does not say which activation .* MODEL\.BACKBONE\.ACTIVATION quick_gelu .* or gelu"
    )
    with pytest.raises(ConfigError, match=says):
        load_clip("ViT-B/16", str(tmp_path / "w.pt"))
    with pytest.raises(ConfigError, match=r"activation 'relu' is unknown; choose from"):
        load_clip("ViT-B/16", str(tmp_path / "w.pt"), activation="relu")


def of_an_archive(state, path):
    torch.save(state | {k: torch.tensor(1) for k in openai_entries}, path)


openai_entries = ("input_resolution", "context_length", "vocab_size")
SAYING = {
    "archive.pt": (save_torchscript, "quick_gelu"),
    "state-of-an-archive.pt": (of_an_archive, "quick_gelu"),
    "ours.pt": (lambda s, p: torch.save({"state_dict": s, "activation": "gelu"}, p), "gelu"),
    "ours.safetensors": (lambda s, p: save_file(s, p, {"activation": "gelu"}), "gelu"),
}


@pytest.mark.parametrize("name", SAYING)
def test_files_that_say_their_activation(name, tmp_path):
    save, says = SAYING[name]
    save({k: v.contiguous() for k, v in small_clip().state_dict().items()}, tmp_path / name)
    assert load_clip("", str(tmp_path / name)).activation == says
    other = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[says]
    with pytest.raises(ConfigError, match=f"says that its activation is {says}"):
        load_clip("", str(tmp_path / name), activation=other)


def test_named_clips_say_everything():
    clip = load_clip("embedded")
    assert clip.provenance == Provenance(
        "the embedded tiny CLIP", clip.weights_sha256, "quick_gelu", 24
    )
    with pytest.raises(ConfigError, match="the activation of the embedded tiny CLIP is quick_gelu"):
        load_clip("embedded", activation="gelu")


def test_image_towers_whose_heads_are_not_openais_are_refused(tmp_path):
    state = small_clip().state_dict()
    state["visual.conv1.weight"] = torch.zeros(1280, 3, 1, 1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="1280 wide. A weight file does not say how many"):
        load_clip("", str(tmp_path / "w.pt"), activation="gelu")


# ---------------------------------------------------------------- sources


def test_sources_of_others_register_by_prefix(monkeypatch):
    asked = []

    def mine(name, path, activation):
        asked.append((name, path))
        return build_clip(small_clip().state_dict(), "mine", "gelu", mean=(0.5, 0.5, 0.5))

    monkeypatch.setitem(load.CLIP_SOURCES, "mine", mine)
    clip = load_clip("mine:tiny:1", "weights.bin")
    assert asked == [("tiny:1", "weights.bin")]
    assert clip.provenance.mean == (0.5, 0.5, 0.5) and clip.activation == "gelu"
    assert not any(p.requires_grad for p in clip.parameters())
    with pytest.raises(ConfigError, match=r"embedded, embedded_vit, RN50, .*, mine:NAME \(MODEL"):
        load_clip("yours:tiny")


def test_sources_must_state_where_a_clip_comes_from(monkeypatch):
    monkeypatch.setitem(load.CLIP_SOURCES, "mine", lambda *_: small_clip())
    with pytest.raises(ConfigError, match="source 'mine' does not state where 'mine:x' comes from"):
        load_clip("mine:x")


@pytest.fixture
def server(range_server, tmp_path, monkeypatch):
    """Has ViT-B/32 as a small CLIP in the form of OpenAI's archives: its `content`."""
    save_torchscript(small_clip().state_dict(), tmp_path / "served.pt")
    content = range_server.content = (tmp_path / "served.pt").read_bytes()
    name = f"models/{hashlib.sha256(content).hexdigest()}/ViT-B-32.pt"
    range_server.files[name] = content
    monkeypatch.setenv("HOME", str(tmp_path))
    for module in (openai, load):
        monkeypatch.setattr(module, "openai_urls", lambda: {"ViT-B/32": range_server.url(name)})
    return range_server


@pytest.fixture
def cached(tmp_path):
    return tmp_path / ".cache/clip/ViT-B-32.pt"


def check_download(server, cached):
    clip = load_clip("ViT-B/32")
    assert cached.read_bytes() == server.content
    assert not cached.with_name("ViT-B-32.pt.part").exists()
    assert clip.activation == "quick_gelu" and clip.provenance.source.startswith(
        "OpenAI's ViT-B/32"
    )
    assert torch.equal(clip.logit_scale, small_clip().logit_scale)


def test_download_once(server, cached):
    for _ in range(2):
        check_download(server, cached)
    check_download(server, cached)
    assert [wanted for _, wanted in server.asked] == [None]
    assert load_clip("openai:ViT-B/32").activation == "quick_gelu"


@pytest.mark.parametrize("ranges", [True, False])
def test_download_that_was_cut_off_goes_on(server, cached, ranges):
    server.limit = 1000
    with pytest.raises(CheckpointError, match="ViT-B-32.pt, the weights of .* does not exist and"):
        load_clip("ViT-B/32")
    assert not cached.exists()
    server.limit, server.ranges = None, ranges
    check_download(server, cached)
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-"]


def test_whole_part_needs_no_more(server, cached):
    cached.parent.mkdir(parents=True)
    cached.with_name("ViT-B-32.pt.part").write_bytes(server.content)
    check_download(server, cached)


def test_part_of_an_older_download_under_the_name_is_fetched_again(server, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(server.content[:500])
    with pytest.warns(UserWarning, match="ViT-B-32.pt is not OpenAI's file"):
        check_download(server, cached)


def test_other_content_is_refused_and_not_kept(server, cached):
    cached.parent.mkdir(parents=True)
    cached.with_name("ViT-B-32.pt.part").write_bytes(b"of something else")
    with pytest.raises(CheckpointError, match="sent something else: its sha256 is"):
        load_clip("ViT-B/32")
    assert [p.name for p in cached.parent.glob("*.p*t")] == []
    check_download(server, cached)


def test_no_network_and_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    url = "http://127.0.0.1:9/0/RN50.pt"
    monkeypatch.setattr(openai, "openai_urls", lambda: {"RN50": url})
    with pytest.raises(
        CheckpointError, match=r"RN50\.pt, the weights of CLIP RN50, does not exist"
    ):
        load_clip("RN50")


# ---------------------------------------------------------------- OpenAI's code


def test_clip_is_openais_whatever_else_has_the_name(tmp_path):
    """Another `clip` first on the path, imported before or after; nothing of it is touched."""
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/__init__.py").write_text("from . import model")
    (tmp_path / "clip/model.py").write_text("def build_model(state, design_details): raise 1/0")
    code = """
import sys
if "before" in sys.argv:
    import clip
from varprompt.towers.load import load_clip
load_clip("embedded")
before = "clip" in sys.modules
import clip
assert before == ("before" in sys.argv) and clip.__file__.startswith(sys.argv[1]), clip
assert "pkg_resources" not in sys.modules
"""
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    for order in ("before", "after"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), order], env=env, check=True)


def test_pkg_resources_is_left_as_it_was(monkeypatch):
    from varprompt.towers import openai_clip

    with openai_clip._with_pkg_resources():
        assert sys.modules["pkg_resources"].packaging.version.parse("1.0")
    real = sys.modules.get("pkg_resources")
    mine = object()
    monkeypatch.setitem(sys.modules, "pkg_resources", mine)
    with openai_clip._with_pkg_resources():
        assert sys.modules["pkg_resources"] is not mine
    assert sys.modules["pkg_resources"] is mine is not real


def test_missing_clip_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "varprompt.towers.openai_clip", None)
    monkeypatch.delattr("varprompt.towers.openai_clip")
    with pytest.raises(ConfigError, match="pip install clip-anytorch"):
        clip_module()


# ---------------------------------------------------------------- what is not a CLIP


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
        load_clip("", str(path), activation="gelu")
    assert str(path) in str(caught.value)


def test_archive_that_unpacks_to_gigabytes(tmp_path):
    """Refused for its own bytes, before anything is unpacked."""
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/constants.pkl", b"")
        archive.writestr("w/data/0", bytes(100 * 2**20))
    with pytest.raises(CheckpointError, match=r"bytes would unpack to 104,857,600"):
        load_clip("", str(path))
    with pytest.raises(CheckpointError, match=r"bytes would unpack to 104,857,600"):
        files.read(path)


def test_damaged_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="damaged or not a weight file"):
        load_clip("", str(path))


def test_missing_and_unknown(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not exist \(MODEL\.BACKBONE\.PATH\)"):
        load_clip("", str(tmp_path / "none.pt"))
    with pytest.raises(
        ConfigError, match=r"'ViT-B/17' is unknown; choose from embedded, embedded_vit, RN50,"
    ):
        load_clip("ViT-B/17")


def test_digest_is_of_the_values(tmp_path):
    """What provenance notes can be checked with: names and float32 values in sorted order."""
    state = small_clip().state_dict()
    torch.save(state, tmp_path / "w.pt")
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].float().numpy().tobytes())
    loaded = load_clip("", str(tmp_path / "w.pt"), activation="quick_gelu")
    assert loaded.weights_sha256 == loaded.provenance.weights_sha256 == digest.hexdigest()


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_cannot_be_read_now(suffix, error, tmp_path, monkeypatch):
    file = tmp_path / f"clip.{suffix}"
    file.write_bytes(b"PK")

    def fails(*_, **__):
        raise error

    monkeypatch.setattr("varprompt.common.files.read", fails)
    monkeypatch.setattr("safetensors.safe_open", fails)
    with pytest.raises(type(error)):
        load_clip("embedded", str(file))


DAMAGED = {
    "nan": ({"ln_final.weight": torch.full((64,), math.nan)}, "such as ln_final.weight"),
    "infinite scale": ({"logit_scale": torch.tensor(1000.0)}, r"exp\(logit_scale\)"),
    "whole numbers": ({"ln_final.weight": torch.ones(64, dtype=torch.int8)}, "hold torch.int8, no"),
    "complex": ({"ln_final.bias": torch.ones(64, dtype=torch.complex64)}, "torch.complex64, no"),
    "few tokens": ({"token_embedding.weight": torch.ones(99, 64)}, "embeds 99 tokens; OpenAI's"),
    "one too many": ({"another.weight": torch.ones(3)}, 'in state_dict: "another.weight"'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_values_that_no_clip_has_are_named(name, tmp_path):
    values, said = DAMAGED[name]
    torch.save(small_clip().state_dict() | values, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=said):
        load_clip("", str(tmp_path / "w.pt"), activation="gelu")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page, not the file"),
        (b"", "it is empty"),
    ],
)  # fmt: skip
def test_what_is_often_found_in_the_place_of_weights(content, said, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        load_clip("", str(tmp_path / name), activation="gelu")


@pytest.mark.parametrize(
    ("kind", "name"), [("tensors.safetensors", "w.pt"), ("plain.pt", "w.safetensors")]
)
def test_what_a_file_is_decides_and_not_what_it_is_called(kind, name, tmp_path):
    SAVERS[kind](small_clip().state_dict(), tmp_path / name)
    wanted = small_clip().encode_image(images(2))
    loaded = load_clip("", str(tmp_path / name), activation="quick_gelu")
    assert torch.equal(loaded.encode_image(images(2)), wanted)
