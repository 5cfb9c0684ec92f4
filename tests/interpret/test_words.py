"""Words nearest to learned vectors, against a loop; contexts of every kind of model."""

import math

import pytest
import torch
from helpers import small_clip

from varprompt.config import PromptConfig
from varprompt.interpret.texts import class_texts, neighbours
from varprompt.interpret.words import Vocabulary, contexts_of
from varprompt.model import PromptedCLIP, zero_shot
from varprompt.towers.forms import vocabulary
from varprompt.towers.templates import embed_template

NAMES = ["dog", "Boeing 747", "x"]


def model_of(**fields):
    torch.manual_seed(0)
    return PromptedCLIP(small_clip(), NAMES, PromptConfig(**fields))


def features(model, n=3):
    made = torch.randn(n, model.towers.clip.text_projection.shape[1])
    return torch.nn.functional.normalize(made, dim=-1)


def test_nearest_is_what_a_loop_finds():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(23, 5, generator=generator)
    texts = [f"w{i}" if i % 7 else "" for i in range(23)]
    vectors = torch.randn(4, 5, generator=generator)
    for metric in ("euclidean", "cosine"):
        found = Vocabulary(table, texts).nearest(vectors, 3, metric)
        for vector, words in zip(vectors.double(), found, strict=True):
            rows = []
            for text, row in zip(texts, table.double(), strict=True):
                if text:
                    cosine = (vector @ row / vector.norm() / row.norm()).item()
                    rows.append(((vector - row).norm().item(), cosine, text))
            rows.sort(key=lambda r: r[0] if metric == "euclidean" else -r[1])
            assert [w.text for w in words] == [text for *_, text in rows[:3]]
            for word, (distance, cosine, _) in zip(words, rows, strict=False):
                assert word.distance == pytest.approx(distance, rel=1e-5)
                assert word.cosine == pytest.approx(cosine, abs=1e-6)
    usual = Vocabulary(table, ["w"] * 23).usual_distance()
    apart = torch.cdist(table.double(), table.double()).fill_diagonal_(math.inf).min(1).values
    assert usual == pytest.approx(apart.median().item(), rel=1e-4)


def test_words_that_a_context_starts_from_are_found():
    model = model_of(posterior="gaussian", ctx_init="a photo of", logvar_init=-6.0)
    (context,) = contexts_of(model, features(model))
    clip = model.towers.clip
    found = Vocabulary(clip.token_embedding.weight, vocabulary(clip)).nearest(context.vectors, 2)
    assert [words[0].text for words in found] == ["a", "photo", "of"]
    assert all(words[0].distance < 1e-5 and words[0].cosine > 0.999999 for words in found)
    width = context.vectors.shape[1]
    expected = torch.full((3,), math.exp(-3) * math.sqrt(width))
    torch.testing.assert_close(context.reach, expected, rtol=1e-4, atol=0)
    assert context.name == "" and not context.moved.any()


def test_every_component_of_a_mixture():
    templates = ["a photo of {}.", "{} in art"]
    model = model_of(posterior="mixture", residual="per_token", templates=templates)
    found = contexts_of(model, features(model))
    assert [c.name for c in found] == ['component 1: "a photo of {}."', 'component 2: "{} in art"']
    for context, words in zip(found, templates, strict=True):
        torch.testing.assert_close(context.vectors, embed_template(small_clip(), words).embeddings)


def test_a_context_for_each_class_and_one_without_noise():
    model = model_of(class_specific=True, ctx_init="", n_ctx=2)
    found = contexts_of(model, features(model), NAMES)
    assert [c.name for c in found] == NAMES
    assert torch.equal(torch.stack([c.vectors for c in found]), model.prompt_learner.ctx.detach())
    (plain,) = contexts_of(model_of(ctx_init="a photo"), torch.zeros(1, 1))
    assert not plain.reach.any() and not plain.moved.any()


def test_what_the_image_moves():
    model = model_of(posterior="meta_net", conditional=True, ctx_init="a photo of")
    x = features(model, 5)
    (context,) = contexts_of(model, x)
    with torch.no_grad():
        shift = model.prompt_learner.posterior.rsample(1, x, None)[0, :, 0]  # (B, D)
    centre = model.prompt_learner.ctx.detach() + shift.mean(0)
    torch.testing.assert_close(context.vectors, centre)
    moved = (shift - shift.mean(0)).square().sum(-1).mean().sqrt()
    torch.testing.assert_close(context.moved, moved.expand(3))
    assert not context.reach.any() and context.moved.all()


def test_texts_before_are_of_all_templates():
    templates = ["a photo of {}.", "{} in art"]
    model = model_of(posterior="mixture", residual="per_token", templates=templates)
    x, found = features(model), class_texts(model, features(model), NAMES)
    before = zero_shot(model.towers, NAMES, templates).text(x)[0, 0]
    torch.testing.assert_close(found.before, before @ before.T)
    assert found.templates == templates


def test_texts_before_and_after():
    model = model_of(posterior="gaussian", ctx_init="an {odd} text".replace("{odd}", "odd"))
    x = features(model)
    found = class_texts(model, x, NAMES)
    assert found.templates == ["an odd text {}."]
    before = zero_shot(model.towers, NAMES, ["an odd text {}."]).text(x)[0, 0]
    torch.testing.assert_close(found.before, before @ before.T)
    mean = torch.nn.functional.normalize(model.predictor().text(x).mean((0, 1)), dim=-1)
    torch.testing.assert_close(found.after, mean @ mean.T)
    for i, neighbour in enumerate(neighbours(found.after)):
        others = [(found.after[i, j].item(), j) for j in range(3) if j != i]
        assert (neighbour.cosine, neighbour.index) == max(others)
    assert neighbours(torch.ones(1, 1)) == []
