"""Synonyms and templates: their file, and what they make of the texts of a class."""

import json

import pytest
import torch
import torch.nn.functional as F
from helpers import NAMES, small_clip

from varprompt.config import PromptConfig
from varprompt.errors import ConfigError, DataError
from varprompt.model import PromptedCLIP, zero_shot
from varprompt.prompt_texts import PromptTexts, parse_prompts, read_prompts

TEXTS = PromptTexts(("{}", "{}, a pet"), {"dog": ("hound", "old_dog"), "x": ("cross",)})


def features(model, n=3):
    width = model.towers.clip.text_projection.shape[1]
    return F.normalize(torch.randn(n, width), dim=-1)


def test_the_text_of_a_class_is_the_mean_of_its_texts():
    """Each text alone is a class of a model without synonyms."""
    model = PromptedCLIP(small_clip(), NAMES, PromptConfig(), texts=TEXTS)
    every = [TEXTS.of(name) for name in NAMES]
    assert every[0] == ["hound", "old dog", "hound, a pet", "old dog, a pet"]
    alone = PromptedCLIP(small_clip(), [t for own in every for t in own], PromptConfig())
    given = features(model)
    with torch.no_grad():
        parts, got = (m.outputs(given, 1).text[0, 0].double() for m in (alone, model))
    wanted = torch.stack(
        [F.normalize(p.mean(0), dim=-1) for p in parts.split(list(map(len, every)))]
    )
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


def test_zero_shot_with_the_words_of_the_context_is_where_learning_starts():
    model = PromptedCLIP(small_clip(), NAMES, PromptConfig(), texts=TEXTS)
    given = features(model)
    wanted = zero_shot(model.towers, NAMES, ["a photo of a {}."], TEXTS)(given)
    torch.testing.assert_close(model.predictor()(given), wanted, atol=1e-5, rtol=0)


def test_gradients_reach_the_context_through_all_texts():
    model = PromptedCLIP(small_clip(), NAMES, PromptConfig(), texts=TEXTS)
    model.logits_of(features(model))[0].square().sum().backward()
    assert model.prompt_learner.ctx.grad.abs().min() > 0


def test_files(tmp_path):
    content = TEXTS.record()
    (tmp_path / "x.json").write_text(json.dumps(content))
    (tmp_path / "x.yaml").write_text(
        "templates: ['{}', '{}, a pet']\nclasses: {dog: [hound, old_dog], x: cross}\n"
    )
    assert read_prompts(tmp_path / "x.json") == read_prompts(tmp_path / "x.yaml") == TEXTS
    assert parse_prompts({"templates": "{}!"}) == PromptTexts(("{}!",))
    TEXTS.check_names(NAMES)
    with pytest.raises(DataError, match=r"names that are no class: 1\n    'x'"):
        TEXTS.check_names(["dog"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "give templates and classes"),
        ("template: x", "give templates and classes"),
        ("templates: [a photo]", "templates need one {} each"),
        ("templates: []", "templates need one {} each"),
        ("templates: 7", "templates need one {} each"),
        ("classes: [dog]", "classes are no mapping"),
        ("classes: {dog: []}", "classes without names: 1"),
        ("classes: {dog: ' '}", "classes without names: 1"),
        ("classes: {dog: 7}", "classes without names: 1"),
        ("a: b: c", "neither YAML nor JSON"),
        ("classes:\n  dog: a\n  dog: b", "the key 'dog' is given 2 times"),
        ("templates: &a ['{}']\nclasses: {dog: *a}", "aliases"),
        ("!!python/object/apply:os.getcwd []", "neither YAML nor JSON"),
    ],
)
def test_bad_files(text, message, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / "x.yaml")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="not a readable text file"):
        read_prompts(tmp_path / "none.yaml")


def test_a_context_for_each_class_has_one_text():
    config = PromptConfig(ctx_init="", class_specific=True)
    with pytest.raises(ConfigError, match="leaves no room for several texts"):
        PromptedCLIP(small_clip(), NAMES, config, texts=TEXTS)
