"""Where CLIPs of open_clip and transformers are found, and what is refused, in one line each."""

import json
import shutil
import sys
import types

import foreign
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from varprompt.errors import CheckpointError, ConfigError
from varprompt.towers import forms
from varprompt.towers.load import check_backbone, load_clip

# ---------------------------------------------------------------- names, files and tags


def test_weight_files_of_named_architectures(theirs, tmp_path, monkeypatch):
    """NAME/TAG with a file: the tag says mean and activation; NAME alone, if its tags agree."""
    their = theirs("open_clip", "vit")
    config = {"embed_dim": 48, **foreign.OPEN_CLIP["vit"]}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-S", config)
    tags = {"one": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "quick_gelu": True},
            "two": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}  # fmt: skip
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda model: list(tags))
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: tags[tag])
    file = tmp_path / "weights.pt"
    torch.save({"state_dict": their.model.state_dict()}, file)
    clip = load_clip("open_clip:ViT-S/one", str(file))
    assert clip.provenance.mean == (0.5, 0.5, 0.5) and clip.activation == "quick_gelu"
    assert load_clip("open_clip:ViT-S", str(file)).activation == "gelu"
    assert "ViT-S/one" in clip.provenance.source and str(file) in clip.provenance.source
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        load_clip("open_clip:ViT-S/one", str(tmp_path / "nowhere.pt"))
    with pytest.raises(ConfigError, match="ViT-S/three is no model with weights; choose a tag: "):
        load_clip("open_clip:ViT-S/three", str(file))
    tags["two"]["mean"] = (0.4,) * 3
    with pytest.raises(ConfigError, match=r"different means .* open_clip:ViT-S/TAG: one, two"):
        load_clip("open_clip:ViT-S", str(file))
    monkeypatch.setattr(open_clip, "download_pretrained", lambda cfg: str(file))
    assert load_clip("open_clip:ViT-S/two").provenance.mean == (0.4, 0.4, 0.4)

    def no_network(cfg):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    says = r"ViT-S/two are not in the cache .*\(no route to host\)\. Download .*\.PATH FILE$"
    with pytest.raises(CheckpointError, match=says):
        load_clip("open_clip:ViT-S/two")


def test_a_file_with_its_configuration_beside_it(theirs, tmp_path):
    folder = theirs("open_clip", "vit").folder
    file = next(folder.glob("*.safetensors"))
    digest = load_clip(f"open_clip:{file}").weights_sha256
    assert digest == load_clip("open_clip:", str(folder)).weights_sha256
    shutil.copy(file, tmp_path)
    with pytest.raises(ConfigError, match="does not say its architecture"):
        load_clip(f"open_clip:{tmp_path / file.name}")


def test_hub_names_are_fetched_or_explained(theirs, monkeypatch):
    import huggingface_hub

    folders = {
        "them/clip": theirs("hf", "clip").folder,
        "them/vit": theirs("open_clip", "vit").folder,
    }
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(folders[name]))
    assert load_clip("hf:them/clip").activation == "quick_gelu"
    assert load_clip("open_clip:hf-hub:them/vit").activation == "gelu"
    with pytest.raises(CheckpointError, match=r"hf:them/none is no folder here, .* hf:FOLDER$"):
        load_clip("hf:them/none")
    with pytest.raises(CheckpointError, match="hf:none is no folder, nor a name ORG"):
        load_clip("hf:none")


@pytest.mark.parametrize("name", ["ViT-B-33", "ViT-B-32", "ViT-B-32/none", ""])
def test_unknown_names_are_refused(name):
    check_backbone(f"open_clip:{name}")  # its prefix only
    with pytest.raises(
        ConfigError, match=r"open_clip:.* (did you mean ViT-B|choose a tag|is no folder)"
    ):
        load_clip(f"open_clip:{name}")


def test_missing_packages_are_named(monkeypatch):
    for package, name, extra in (("open_clip", "open_clip:ViT-B-32/openai", "open_clip"),
                                 ("transformers", "hf:a/b", "hf")):  # fmt: skip
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=rf"pip install 'varprompt\[{extra}\]'"):
            load_clip(name)


# ---------------------------------------------------------------- what is refused


def without(*names):
    def change(folder):
        for name in names:
            for file in folder.glob(name):
                file.unlink()

    return change


def edited(name, change):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def damaged(folder):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])


def lacking(folder):
    file = next(folder.glob("*.safetensors"))
    state = load_file(file)
    save_file(
        {k: v for k, v in state.items() if "final_layer_norm" not in k and "ln_final" not in k},
        file,
        {"format": "pt"},
    )


def text(key, value):
    return edited(
        "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update({key: value})
    )


BAD = {
    "no config": ("hf", "clip", without("config.json"), "has no config.json"),
    "no JSON": ("hf", "clip", lambda f: (f / "config.json").write_text("{"), "json is damaged"),
    "another model": ("hf", "clip", edited("config.json", lambda c: c.update(model_type="bert")),
                      "'bert' model; choose one of clip, siglip, siglip2"),
    "no weights": ("hf", "clip", without("*.safetensors"), "cannot be read as CLIPModel in safet"),
    "damaged": ("hf", "siglip", damaged, "cannot be read as SiglipModel in safetensors"),
    "lacking": ("hf", "clip", lacking, r"lacks 2 of the values of a CLIPModel, e\.g\."),
    "no tokenizer": ("hf", "clip", without("tokenizer*", "vocab*", "merges*"), "has no tokenizer"),
    "no processor": ("hf", "clip", without("preproc*", "processor*"), "has no preprocessor_config"),
    "another end": ("hf", "clip", edited("config.json", lambda c: c["text_config"].update(
        eos_token_id=7)), "reads the output of token 7, but its tokenizer ends a text with"),
    "no patches": ("hf", "siglip2", edited("config.json", lambda c: c["vision_config"].update(
        num_patches=15)), "15 patches|lacks 1 of the values"),
    "open_clip: no config": ("open_clip", "vit", without("*.json"), "has no open_clip_config.json"),
    "open_clip: half": ("open_clip", "vit", edited(
        "open_clip_config.json", lambda c: c.pop("preprocess_cfg")), "lacks model_cfg or prepr"),
    "open_clip: no weights": ("open_clip", "vit", without("*.safetensors"), "has no weights"),
    "open_clip: damaged": ("open_clip", "vit", damaged, "is damaged, or no weights of"),
    "open_clip: lacking": ("open_clip", "vit", lacking, "is damaged, or no weights of"),
    "open_clip: mean": ("open_clip", "vit", edited(
        "open_clip_config.json", lambda c: c["preprocess_cfg"].update(mean=[1])), r"mean \[1\]"),
    "open_clip: no tokenizer": ("open_clip", "siglip", without("tokenizer*", "spiece*"),
                                "the tokenizer of .* cannot be read"),
    "open_clip: a BERT": ("open_clip", "vit", text("hf_model_name", "roberta-base"),
                          "is roberta-base, which is no transformer of CLIP's form"),
    "open_clip: other layers": ("open_clip", "vit", text("block_type", "custom"),
                                "unknown parts|no weights of"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_folders_are_explained_in_one_line(what, theirs, tmp_path):
    library, kind, change, says = BAD[what]
    folder = tmp_path / "copy"
    shutil.copytree(theirs(library, kind).folder, folder)
    change(folder)
    with pytest.raises((CheckpointError, ConfigError), match=says) as caught:
        load_clip(f"{library}:{folder}")
    assert len(str(caught.value).splitlines()) == 1


def test_marks_and_foreign_tokens_are_no_words(theirs):
    clip = load_clip(theirs("hf", "clip").name)
    with pytest.raises(ConfigError, match=r"contains <\|endoftext\|>, which belongs to CLIP"):
        forms.encode("a <|endoftext|>", clip)
    clip.text_form = types.SimpleNamespace(**vars(clip.text_form) | {"vocabulary": 3})
    with pytest.raises(ConfigError, match="and the tower knows 3: they do not belong together"):
        forms.encode("dog", clip)
