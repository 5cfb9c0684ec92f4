"""A classifier goes to the hub's form and back unchanged, with a card that tells what is true."""

import json
import os
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from classifiers import classifier, pictures
from huggingface_hub import hub_mixin

from varprompt.classifier import PromptClassifier
from varprompt.classifier.card import card_text
from varprompt.classifier.hub import public
from varprompt.errors import CheckpointError, ConfigError
from varprompt.uncertainty import ece, risk_threshold

IMAGES = pictures(5, seed=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    new = tmp_path_factory.mktemp("hub") / "model"
    classifier().save_pretrained(new)
    return new


def same(first, second):
    a, b = first.report(IMAGES), second.report(IMAGES)
    return np.array_equal(a.prob, b.prob) and all(
        np.array_equal(x, y) for x, y in zip(a.uncertainty, b.uncertainty, strict=True)
    )


def test_there_and_back_to_the_last_bit(folder):
    names = sorted(os.listdir(folder))
    assert names[:3] == ["README.md", "classifier.json", "config.json"]
    assert len(names) == 4 and re.fullmatch(r"learned-\w{16}\.safetensors", names[3])
    back = PromptClassifier.from_pretrained(folder, device="cpu", parameters={"progress": False})
    assert isinstance(back, PromptClassifier) and not back.progress
    assert same(back, classifier()) and list(back.classes_) == list(classifier().classes_)
    assert same(PromptClassifier.load(folder, device="cpu"), back)  # the same files as save's


def test_from_the_hub_s_cache(folder, tmp_path):
    """As the hub's client lays out what it has downloaded."""
    place, commit = tmp_path / "models--somebody--pets", "0123456789" * 4
    (place / "snapshots").mkdir(parents=True)
    (place / "snapshots" / commit).symlink_to(folder)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    options = {"cache_dir": tmp_path, "local_files_only": True, "device": "cpu"}
    assert same(PromptClassifier.from_pretrained("somebody/pets", **options), classifier())
    for name in ("somebody/cats", "a/b/c", "", "gone"):
        with pytest.raises(CheckpointError, match="could not be downloaded") as error:
            PromptClassifier.from_pretrained(name, **options)
        assert str(error.value).count("\n") == 0


def test_damaged_files_are_refused(folder, tmp_path):
    (tmp_path / "classifier.json").write_bytes((folder / "classifier.json").read_bytes())
    with pytest.raises(CheckpointError, match="is missing: copy the whole folder"):
        PromptClassifier.from_pretrained(tmp_path, device="cpu")


def test_what_is_pushed(monkeypatch):
    calls = []

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, private, exist_ok):
            calls.append((repo_id, private, exist_ok, self.token))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path, **options):
            calls.append((sorted(os.listdir(folder_path)), options["delete_patterns"]))
            return "https://example.org/commit"

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    address = classifier().push_to_hub("somebody/pets", private=True, token="t")
    assert address == "https://example.org/commit"
    assert calls[0] == ("somebody/pets", True, True, "t")
    assert len(calls[1][0]) == 4 and "README.md" in calls[1][0]
    assert calls[1][1] == "learned-*.safetensors"  # of the one that was there before


def test_no_path_of_this_machine_leaves_it(tmp_path):
    described = classifier().describe()
    for backbone, left in {
        str(tmp_path): tmp_path.name, f"open_clip:{tmp_path}/tower": "open_clip:tower",
        "hf:lab/clip": "hf:lab/clip", "ViT-B/16": "ViT-B/16", "hf:~/secret/clip": "hf:clip",
    }.items():  # fmt: skip
        described["parameters"] |= {"backbone": backbone, "backbone_path": f"{tmp_path}/w.pt",
                                    "prompts": f"{tmp_path}/prompts.yaml"}  # fmt: skip
        described["clip"]["source"] = f"a CLIP ({tmp_path}/w.pt)"
        said = public(described)
        assert said["parameters"]["backbone"] == said["clip"]["source"] == left
        assert str(tmp_path.parent) not in json.dumps(said) and "secret" not in json.dumps(said)
    assert said["clip"]["weights_sha256"] == described["clip"]["weights_sha256"]


def test_the_card_s_head(tmp_path):
    fields = {"license": "cc-by-4.0", "datasets": ["somebody/pets"]}
    classifier().save_pretrained(tmp_path, model_card_kwargs=fields)
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert head["library_name"] == "varprompt" and head["license"] == "cc-by-4.0"
    assert head["pipeline_tag"] == "image-classification" and head["datasets"] == fields["datasets"]
    assert {"clip", "uncertainty", "model_hub_mixin"} <= set(head["tags"])


def test_the_card_tells_what_was_seen(folder):
    text, held = (folder / "README.md").read_text(), classifier().learned_.held_out
    n, right = len(held.correct), int(held.correct.sum())
    assert f"| images | {n} |" in text and f"| right | {right} ({100 * right / n:.1f} %) |" in text
    assert f"error | {100 * ece(held.confidence, held.correct):.1f} % |" in text
    assert f"| temperature | {classifier().temperature_:.3f} |" in text
    promised = risk_threshold(held.confidence, held.correct, 0.05).coverage > 0
    assert ("No probability promises" in text) != promised
    assert "## What it must not be used for" in text and "**not stated**" in text
    assert classifier().learned_.clip.weights_sha256 in text
    counts = classifier().learned_.counts["learned_from"]
    assert f"Learned from {sum(counts.values())} images" in text
    assert f"| sun | sun | {counts['sun']} |" in text


def test_the_card_of_other_classes_promises_nothing_and_is_harmless():
    names = ["<script>x</script>", "a|b", "[c](http://example.org)", "d`*_e"]
    other = classifier().with_classes(names)
    text = card_text(other.learned_, public(other.describe()))
    assert "nothing is known of errors" in text and "| images |" not in text
    for bad in ("<script", "a|b", "[c]", "d`"):
        assert bad not in text
    assert text.count("| not stated |") == 4
    many = classifier().with_classes([f"n{i}" for i in range(205)])
    assert "5 more are in classifier.json" in card_text(many.learned_, public(many.describe()))


def test_a_card_of_one_s_own_stays(tmp_path):
    classifier().save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    before = card.read_text()
    classifier().with_classes(["crown", "scythe"]).save_pretrained(tmp_path)
    assert "crown" in card.read_text() and "crown" not in before
    card.write_text("mine")
    classifier().save_pretrained(tmp_path)
    assert card.read_text() == "mine" and len(os.listdir(tmp_path)) == 4


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "varprompt.classifier.hub")
    monkeypatch.delattr(sys.modules["varprompt.classifier"], "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"huggingface_hub.*pip install 'varprompt\[hub\]'"):
        classifier().save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()
