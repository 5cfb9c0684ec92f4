"""CLIPs of open_clip and transformers: what these libraries compute, in value and gradient."""

import functools
import json
import math
import operator
import shutil

import foreign
import pytest
import torch
import torch.nn.functional as F
from helpers import error, images

from varprompt.errors import CheckpointError, ConfigError
from varprompt.towers import forms
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.load import build_clip, clip_module, input_size, load_clip
from varprompt.towers.openai import openai_urls
from varprompt.towers.text import FrozenTextEncoder
from varprompt.towers.tokens import class_tokens, embed_words, text_tokens

ALL = [*(("open_clip", kind) for kind in foreign.OPEN_CLIP), *(("hf", k) for k in foreign.HF)]
NAMES = ["dog", "king_of_hearts", "centered lily of the valley", "x"]
WORDS = "a photo of a"
TOLERANCE = 1e-5


def their_features(their, clip, context, deep=None):
    """Features `(C, E)` by the library's own tower, made to take the context instead of WORDS.

    `deep` is what its second layer finds there.
    """
    ids = their.tokens([f"{WORDS} {name.replace('_', ' ')}." for name in NAMES])
    words = forms.encode(WORDS, clip)
    first = [next(i for i in range(len(row)) if row[i : i + 4].tolist() == words) for row in ids]

    def put(values, rows):
        return torch.stack([
            torch.cat([row[:i], values, row[i + len(values) :]])
            for row, i in zip(rows, first, strict=True)
        ])  # fmt: skip

    hooks = [their.embedding.register_forward_hook(lambda module, args, out: put(context, out))]
    if deep is not None:
        hooks.append(
            their.layers[1].register_forward_pre_hook(
                lambda module, args: (put(deep, args[0]), *args[1:])
            )
        )
    features = F.normalize(their.encode_text(ids), dim=-1)
    for hook in hooks:
        hook.remove()
    return features


def normal(features):
    return F.normalize(features.detach(), dim=-1)


@pytest.mark.parametrize(("library", "kind"), ALL)
def test_features_are_the_librarys(library, kind, theirs):
    their = theirs(library, kind)
    clip = load_clip(their.name)
    assert input_size(clip) == their.size and not clip.training
    assert not any(p.requires_grad for p in clip.parameters())
    assert forms.text_form(clip).whole == (kind in foreign.PLAIN)
    pictures = images(3, their.size)
    frozen = FrozenCLIP(clip)
    assert error(frozen.encode_image(pictures), normal(their.encode_image(pictures))) < TOLERANCE
    texts = [f"{WORDS} {name.replace('_', ' ')}." for name in NAMES]
    want = normal(their.encode_text(their.tokens(texts)))
    nothing = torch.zeros(1, 0, 64)
    assert error(frozen.encode_text(nothing, text_tokens(clip, texts))[0], want) < TOLERANCE
    words = embed_words(clip, WORDS)[None]  # the same as context in front of the names
    assert error(frozen.encode_text(words, class_tokens(clip, NAMES, 4))[0], want) < TOLERANCE


AMPLE = 1 << 40
CHUNKED = [("open_clip", "coca"), ("open_clip", "siglip"), ("hf", "clip"), ("hf", "siglip2")]


@pytest.mark.parametrize(
    ("library", "kind", "budget"), [*((*m, AMPLE) for m in ALL), *((*m, 1) for m in CHUNKED)]
)
def test_value_and_gradient_with_learned_context(library, kind, budget, theirs):
    """The library's own tower, whose embedding layer is made to answer with the context."""
    their = theirs(library, kind)
    clip = load_clip(their.name)
    generator = torch.Generator().manual_seed(1)
    contexts = (0.3 * torch.randn(2, 4, 64, generator=generator)).requires_grad_()
    weights = torch.randn(2, len(NAMES), 64, generator=generator)[
        ..., : clip.text_projection.shape[1]
    ]
    want = torch.stack([their_features(their, clip, context) for context in contexts])
    got = FrozenTextEncoder(clip, budget)(contexts, class_tokens(clip, NAMES, 4))
    assert error(got, want) < TOLERANCE
    gradients = [torch.autograd.grad((f * weights).sum(), contexts)[0] for f in (got, want)]
    assert error(*gradients) < 3 * TOLERANCE


@pytest.mark.parametrize("budget", [AMPLE, 1])
@pytest.mark.parametrize(
    ("library", "kind"), [("open_clip", "vit"), ("open_clip", "mobileclip"), ("hf", "siglip2")]
)
def test_deep_prompts(library, kind, budget, theirs):
    their = theirs(library, kind)
    clip = load_clip(their.name)
    generator = torch.Generator().manual_seed(3)
    prompts = (0.3 * torch.randn(2, 2, 4, 64, generator=generator)).requires_grad_()
    deep = prompts[1:, :, :3]  # the fourth token goes on
    pairs = zip(prompts[0], deep[0], strict=True)
    want = torch.stack([their_features(their, clip, *pair) for pair in pairs])
    got = FrozenTextEncoder(clip, budget)(prompts[0], class_tokens(clip, NAMES, 4), deep)
    assert error(got, want) < TOLERANCE
    weights = torch.randn(want.shape, generator=generator)
    gradients = [torch.autograd.grad((f * weights).sum(), prompts)[0] for f in (got, want)]
    assert error(*gradients) < 3 * TOLERANCE


@pytest.mark.parametrize(
    ("library", "kind"), [("open_clip", "vit"), ("open_clip", "coca"), ("hf", "siglip2")]
)
@pytest.mark.parametrize("position", ["middle", "front"])
def test_class_specific_contexts_and_other_places_of_the_name(library, kind, position, theirs):
    """A context of its own for each class is what it is alone; the words may stand anywhere."""
    clip = load_clip(theirs(library, kind).name)
    encoder = FrozenTextEncoder(clip, AMPLE)
    contexts = torch.randn(2, len(NAMES), 4, 64, generator=torch.Generator().manual_seed(2))
    tokens = class_tokens(clip, NAMES, 4, position=position, class_specific=True)
    got = encoder(contexts, tokens)
    for c, name in enumerate(NAMES):
        alone = encoder(contexts[:, c], class_tokens(clip, [name], 4, position=position))
        assert error(got[:, c], alone[:, 0]) < TOLERANCE


@pytest.mark.parametrize("position", ["end", "front"])
@pytest.mark.parametrize(
    ("library", "kind"), [("open_clip", "vit"), ("open_clip", "coca"), ("hf", "siglip2")]
)
def test_what_classes_add_to_a_context(library, kind, position, theirs):
    """The context and the addition of a class, in front of its name alone."""
    clip = load_clip(theirs(library, kind).name)
    encoder, generator = FrozenTextEncoder(clip, AMPLE), torch.Generator().manual_seed(2)
    contexts = torch.randn(2, 4, 64, generator=generator)
    moves = torch.randn(len(NAMES), 64, generator=generator)
    tokens = class_tokens(clip, NAMES, 4, position=position, class_specific=True).moved(moves)
    got = encoder(contexts, tokens)
    for c, name in enumerate(NAMES):
        own = contexts + moves[c]
        alone = encoder(own, class_tokens(clip, [name], 4, position=position))
        assert error(got[:, c], alone[:, 0]) < TOLERANCE


@pytest.mark.parametrize(
    ("library", "kind", "precision"),
    [("open_clip", "eva02", "bf16"), ("open_clip", "coca", "fp16"), ("hf", "clip", "bf16"),
     ("hf", "siglip2", "fp16")],
)  # fmt: skip
def test_half_precision(library, kind, precision, theirs):
    their = theirs(library, kind)
    frozen = FrozenCLIP(load_clip(their.name), precision)
    pictures = images(2, their.size)
    allowed = {"bf16": 0.1, "fp16": 0.02}[precision]  # some ten roundings of 2^-8, 2^-11 a layer
    got = frozen.encode_image(pictures)
    assert got.dtype == torch.float32
    assert error(got, normal(their.encode_image(pictures))) < allowed
    texts = ["a dog.", "x."]
    text = frozen.encode_text(torch.zeros(1, 0, 64), text_tokens(frozen.clip, texts))[0]
    assert error(text, normal(their.encode_text(their.tokens(texts)))) < allowed


STATED = {
    ("open_clip", "vit"): ("gelu", "softmax", 0.4, 0.3),
    ("open_clip", "quickgelu"): ("quick_gelu", "softmax", 0.4, 0.3),
    ("open_clip", "siglip"): ("gelu_tanh", "sigmoid", 0.4, 0.3),
    ("hf", "clip"): ("quick_gelu", "softmax", 0.48145466, 0.26862954),
    ("hf", "clip of old"): ("gelu", "softmax", 0.48145466, 0.26862954),
    ("hf", "siglip"): ("gelu_tanh", "sigmoid", 0.5, 0.5),
}


@pytest.mark.parametrize(("library", "kind"), STATED)
def test_what_is_stated(library, kind, theirs):
    their = theirs(library, kind)
    clip = load_clip(their.name)
    stated = clip.provenance
    mean, std = stated.mean[0], stated.std[0]
    assert (stated.activation, stated.scores, mean, std) == STATED[library, kind]
    assert stated.context_length == clip.context_length == foreign.CONTEXT
    assert str(their.folder) in stated.source and len(stated.weights_sha256) == 64
    lines = forms.remarks(clip)
    assert any("plain path" in line for line in lines) == (kind in foreign.PLAIN)
    assert any("sigmoid" in line for line in lines) == (stated.scores == "sigmoid")
    other = {"gelu": "quick_gelu"}.get(stated.activation, "gelu")
    with pytest.raises(
        ConfigError, match=f"the activation of .* is {stated.activation}; leave out"
    ):
        load_clip(their.name, activation=other)


@pytest.mark.parametrize(("library", "kind"), [("open_clip", "siglip"), ("hf", "siglip")])
def test_sigmoid_scores_of_pairs_are_the_librarys(library, kind, theirs):
    their = theirs(library, kind)
    frozen = FrozenCLIP(load_clip(their.name))
    pictures, texts = images(3, 32), ["a dog.", "a small ring."]
    got = frozen.pair_scores(
        frozen.encode_image(pictures),
        frozen.encode_text(torch.zeros(1, 0, 64), text_tokens(frozen.clip, texts))[0],
    )
    ids = their.tokens(texts)
    with torch.no_grad():
        if library == "hf":
            want = their.model(input_ids=ids, pixel_values=pictures).logits_per_image
        else:
            want = their.model.get_logits(pictures, ids)[0]
    assert frozen.bias != 0 and error(got, want.sigmoid()) < TOLERANCE


def test_identity_is_that_of_weights_and_configuration(theirs, tmp_path):
    for library, file, old, new in (
        ("open_clip", "open_clip_config.json", '"heads": 2', '"heads": 4'),
        ("hf", "config.json", '"num_attention_heads": 2', '"num_attention_heads": 4'),
    ):
        their = theirs(library, "vit" if library == "open_clip" else "clip")
        copy = tmp_path / library
        shutil.copytree(their.folder, copy)
        digest = load_clip(their.name).weights_sha256
        assert load_clip(f"{library}:{copy}").weights_sha256 == digest
        (copy / file).write_text((copy / file).read_text().replace(old, new))
        assert load_clip(f"{library}:{copy}").weights_sha256 != digest


LARGE = {"RN50x4": (288, (4, 6, 10, 6)), "RN50x16": (384, (6, 8, 18, 8)),
         "RN50x64": (448, (3, 15, 36, 10)), "ViT-L/14@336px": (336, 24)}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_openais_larger_models_have_their_own_sizes(name):
    """With their depth and resolution, made narrow."""
    size, layers = LARGE[name]
    assert name in openai_urls()
    vision = (8, 0) if isinstance(layers, tuple) else (64, 14)
    model = clip_module().model.CLIP(16, size, layers, *vision, 24, 99, 64, 1, 2).float().eval()
    state = {k: v.half().float() for k, v in model.state_dict().items()}
    clip = build_clip(state, name, "quick_gelu").eval()
    assert input_size(clip) == size
    model.load_state_dict(state)
    pictures = images(1, size)
    assert error(clip.encode_image(pictures), model.encode_image(pictures)) < TOLERANCE


LIES = [
    ("hf", "config.json", ("text_config", "num_hidden_layers"), 1, "has no place for"),
    ("hf", "config.json", ("vision_config", "num_hidden_layers"), 1, "has no place for"),
    ("hf", "config.json", ("text_config", "layer_norm_eps"), -1.0, "layer_norm_eps -1.0; it needs"),
    ("hf", "config.json", ("text_config", "vocab_size"), 10, "embeddings.token_embedding.weight"),
    ("hf", "preprocessor_config.json", ("image_std",), [0, 0, 0], "from 1e-06 to 1000 are needed"),
    ("hf", "preprocessor_config.json", ("image_mean",), [math.inf] * 3, "from -1000 to 1000 are"),
    ("hf", "preprocessor_config.json", ("do_rescale",), False, "only pixels from 0 to 1"),
    ("hf", "preprocessor_config.json", ("rescale_factor",), 1, "rescale_factor 1, do_rescale"),
    ("open_clip", "open_clip_config.json", ("preprocess_cfg", "std"), [0, 1, 1], "from 1e-06 to"),
    (
        "open_clip",
        "open_clip_config.json",
        ("model_cfg", "text_cfg", "layers"),
        1,
        "Unexpected key",
    ),
]


@pytest.mark.parametrize(("library", "file", "key", "value", "said"), LIES)
def test_a_configuration_that_lies_is_refused(library, file, key, value, said, theirs, tmp_path):
    """transformers would leave out layers; a deviation of 0 makes every feature infinite."""
    their = theirs(library, "vit" if library == "open_clip" else "clip")
    copy = shutil.copytree(their.folder, tmp_path / "copy")
    content = json.loads((copy / file).read_text())
    *way, last = key
    functools.reduce(operator.getitem, way, content)[last] = value
    (copy / file).write_text(json.dumps(content))
    with pytest.raises((CheckpointError, ConfigError), match=said):
        load_clip(f"{library}:{copy}")


@pytest.mark.parametrize("library", ["hf", "open_clip"])
def test_a_clone_without_its_large_files(library, theirs, tmp_path):
    their = theirs(library, "vit" if library == "open_clip" else "clip")
    copy = shutil.copytree(their.folder, tmp_path / "copy")
    (weights,) = copy.glob("*.safetensors")
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="is a pointer of Git LFS"):
        load_clip(f"{library}:{copy}")
