"""Class names as tokens: every class whole in one tile, in the right order, little padding."""

import dataclasses

import pytest
import torch
from helpers import NAMES, small_clip
from hypothesis import given
from hypothesis import strategies as st

from varprompt.errors import ConfigError
from varprompt.towers import openai_clip as clip
from varprompt.towers.tiles import TILE, fill_tiles
from varprompt.towers.tokens import class_tokens, embed_words, encode, text_tokens

CASES = [("end", False), ("middle", False), ("front", False), ("end", True), ("middle", True)]
MANY = [f"{a} {b}" for a in NAMES for b in [*NAMES, "tit", "Xenops minutus"]]


def ids(text):
    """Token ids of `text` with start and end."""
    row = clip.tokenize(text)[0]
    return row[: int(row.argmax()) + 1]


@pytest.mark.parametrize(("position", "class_specific"), CASES)
@pytest.mark.parametrize("n_ctx", [0, 1, 5])
@pytest.mark.parametrize("names", [NAMES[:1], NAMES, MANY], ids=len)
def test_start_context_and_own_tokens_make_the_prompt(names, n_ctx, position, class_specific):
    model = small_clip()
    tokens = class_tokens(model, names, n_ctx, position=position, class_specific=class_specific)
    assert tokens.n_classes == len(names)
    assert tokens.has_slots == (n_ctx > tokens.n_lead)
    shape = (len(names), n_ctx) if class_specific else (n_ctx,)
    contexts = torch.randn(3, *shape, 64)
    own = tokens.embed(contexts)  # (Z, Y, S or 1, D)
    assert own.shape[2] == (3 if tokens.has_slots else 1)
    own = own.expand(-1, -1, 3, -1).flatten(0, 1)
    for c, name in enumerate(names):
        words, label = ids(name.replace("_", " ") + "."), ids(name.replace("_", " "))
        n_label = len(label) - 2
        embedded = model.token_embedding(words)
        context = contexts[1, c] if class_specific else contexts[1]
        half = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        want = torch.cat([embedded[:1], context[:half], embedded[1 : 1 + n_label],
                          context[half:], embedded[1 + n_label :]])  # fmt: skip
        end = tokens.ends[tokens.inverse[c]]
        length = int(tokens.position.flatten()[end]) + 1
        got = own[end + 1 - length : end + 1, 1]
        assert torch.equal(tokens.position.flatten()[end + 1 - length : end + 1],
                           torch.arange(length))  # fmt: skip
        assert torch.equal(torch.cat([tokens.start[None], context[: tokens.n_lead], got]), want)


def test_a_token_sees_the_shared_beginning_and_its_own_class_so_far():
    tokens = class_tokens(small_clip(), MANY, 4)
    assert tokens.n_tiles > 1 and tokens.n_lead == 4
    lengths = torch.zeros(len(MANY), dtype=torch.long)
    lengths[tokens.inverse.argsort()] = tokens.position.flatten()[tokens.ends] + 1
    assert torch.all(tokens.sees[..., :5])
    for z, mask in enumerate(tokens.sees[..., 5:]):
        used = 0
        for c in (c for c in tokens.owner[z].unique_consecutive() if used < tokens.tile):
            n = int(lengths[c])
            if used + n > tokens.tile:
                break
            block = mask[used : used + n]
            assert torch.equal(block[:, used : used + n], torch.ones(n, n).tril().bool())
            assert block.sum() == n * (n + 1) / 2
            used += n
    assert tokens.sees[..., 5:].sum() >= (lengths * (lengths + 1) // 2).sum()


def test_parts_are_ranges_of_tiles():
    tokens = class_tokens(small_clip(), MANY, 3)
    assert tokens.n_tiles >= 4 and tokens.part(slice(0, tokens.n_tiles)) is tokens
    parts = [tokens.part(slice(i, min(i + 2, tokens.n_tiles))) for i in range(0, tokens.n_tiles, 2)]
    for name in ("fixed", "slots", "owner", "position", "sees"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(tokens, name))
    assert sum((p.counts for p in parts), ()) == tokens.counts
    shifted = [p.ends + 2 * i * tokens.tile for i, p in enumerate(parts)]
    assert torch.equal(torch.cat(shifted), tokens.ends)


def test_tokens_move_to_a_device_as_a_whole():
    tokens = class_tokens(small_clip(), MANY, 4, position="middle")
    moved = tokens.to("meta")
    assert moved.counts == tokens.counts and moved.n_lead == 2 and moved.has_slots
    for field in dataclasses.fields(tokens):
        there, here = (getattr(t, field.name) for t in (moved, tokens))
        if torch.is_tensor(here):
            assert there.device.type == "meta" and here.device.type == "cpu"
            assert (there.shape, there.dtype) == (here.shape, here.dtype)
    assert tokens.to("cpu") is tokens and moved.to(torch.device("meta")) is moved


@given(st.lists(st.integers(1, 70), min_size=1, max_size=300))
def test_tiles_hold_every_class_once_with_little_padding(lengths):
    size, tiles = fill_tiles(lengths)
    assert sorted(c for tile in tiles for c in tile) == list(range(len(lengths)))
    assert all(0 < sum(lengths[c] for c in tile) <= size for tile in tiles)
    assert size < max(TILE, max(lengths)) + 8
    assert max(lengths) > TILE or size * len(tiles) <= 1.5 * sum(lengths) + 8


def test_names_of_data_sets_fill_tiles():
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    lengths = [len(encode(f"{name}.")) + 1 for name in _IMAGENET_CATEGORIES]
    size, tiles = fill_tiles(lengths)
    assert size * len(tiles) < 1.01 * sum(lengths)


def test_names_that_do_not_fit_are_all_named():
    model = small_clip(context_length=24)
    fits = " ".join(["dog"] * 16)  # 1 + 5 + 16 + 2 = 24
    class_tokens(model, ["cat", fits], 5)
    with pytest.raises(ConfigError, match=r"2 prompt\(s\).* 24 tokens.*dog.*shorten") as caught:
        class_tokens(model, [fits + " a", "cat", fits + " b"], 5)
    assert "dog a'" in str(caught.value) and "dog b'" in str(caught.value)
    with pytest.raises(ConfigError, match=r"1 prompt\(s\)"):
        text_tokens(model, [" ".join(["dog"] * 23), "dog"])


def test_words_are_embedded():
    model = small_clip()
    assert torch.equal(
        embed_words(model, "a photo of"), model.token_embedding(ids("a photo of"))[1:-1]
    )
    assert embed_words(model, "").shape == (0, 64)


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|STARTOFTEXT|>", "dog &lt;|endoftext|&gt;"])
def test_marks_of_clip_are_no_words(text):
    """CLIP would read the prompt as ending, or beginning, there."""
    with pytest.raises(ConfigError, match="which belongs to CLIP: leave it out"):
        encode(text)
