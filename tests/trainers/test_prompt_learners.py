"""KgCoOp, MaPLe, IVLP and PromptSRC and what a posterior makes of them: from start to results."""

import json

import pytest
import reference
import torch
from helpers import CLASSES, build, command
from safetensors.torch import save_file

import train
from trainers.guidance import average_weights
from trainers.promptsrc import PromptSRC
from trainers.templates import DIVERSE
from varprompt import PromptedCLIP, load_classifier
from varprompt.common import files
from varprompt.errors import CheckpointError, ConfigError

DEEP = ("MaPLe", "IVLP", "PromptSRC", "VPT_MaPLe", "VPT_PromptSRC")
NODES = {
    "KgCoOp": {}, "VPT_KgCoOp": {"L": 2},
    "MaPLe": {"PROMPT_DEPTH": 2}, "VPT_MaPLe": {"PROMPT_DEPTH": 2, "L": 2, "RESIDUAL": "per_layer"},
    "IVLP": {"PROMPT_DEPTH_TEXT": 2, "PROMPT_DEPTH_VISION": 2},
    "PromptSRC": {"PROMPT_DEPTH_TEXT": 2, "PROMPT_DEPTH_VISION": 2},
    "VPT_PromptSRC": {"PROMPT_DEPTH_TEXT": 2, "PROMPT_DEPTH_VISION": 2, "L": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A weight file of a random CLIP with a vision transformer."""
    file = tmp_path_factory.mktemp("clip") / "vit.safetensors"
    clip = reference.random_clip(patch=8, context_length=40)
    state = {k: v.contiguous() for k, v in clip.state_dict().items()}
    save_file(state, file)
    return file


def arguments(pictures, output, trainer, vit, *flags, **options):
    """A short run; `options` of the trainer's node in capitals, others with "__" for dots."""
    node = trainer.upper()
    given = {"PREC": "fp32"} | NODES[trainer]
    given |= {k: v for k, v in options.items() if "__" not in k}
    others = {k: v for k, v in options.items() if "__" in k}
    others |= {f"TRAINER__{node}__{k}": v for k, v in given.items()}
    if trainer in DEEP:
        others |= {"MODEL__BACKBONE__PATH": vit, "MODEL__BACKBONE__ACTIVATION": "quick_gelu"}
    options = {"OPTIM__MAX_EPOCH": 2, **others}
    return command(pictures, output, *flags, trainer=trainer, **options)


@pytest.mark.parametrize("trainer", NODES)
def test_trained_tested_and_tested_again(trainer, pictures, vit, tmp_path, capsys):
    run = arguments(pictures, tmp_path / "run", trainer, vit, TRAIN__PRINT_FREQ=1)
    assert train.main(run) == 0
    out = capsys.readouterr().out
    first = json.loads((tmp_path / "run/results.json").read_text())
    assert first["trainer"] == trainer and first["n_total"] == 4 * len(CLASSES)
    terms = {"KgCoOp": ["text_cosine"], "PromptSRC": ["text_l1", "image_l1", "logits_kl"]}
    for term in terms.get(trainer.removeprefix("VPT_"), []):
        assert f" {term} " in out
    assert (" kl " in out) == trainer.startswith("VPT_")
    assert f"TRAINER.{trainer.upper()}" not in "".join(
        line for line in out.splitlines() if "no effect" in line
    )
    again = arguments(
        pictures, tmp_path / "test", trainer, vit, "--eval-only", "--model-dir", tmp_path / "run"
    )
    assert train.main(again) == 0
    second = json.loads((tmp_path / "test/results.json").read_text())
    assert {k: second[k] for k in ("accuracy", "nll")} == {k: first[k] for k in ("accuracy", "nll")}


def epochs(folder):
    """What was learned after each epoch, by name."""
    names = sorted((folder / "prompt_learner").glob("model.pth.tar-*"))
    return [files.read(name)["state_dict"] for name in names]


def test_promptsrc_ends_with_the_average(pictures, vit, tmp_path):
    options = {"OPTIM__MAX_EPOCH": 3, "TRAIN__CHECKPOINT_FREQ": 1, "GPA_MEAN": 2}
    states = {}
    for std in (0, 0.8):
        folder = tmp_path / str(std)
        run = arguments(pictures, folder, "PromptSRC", vit, GPA_STD=std, **options)
        assert train.main(run) == 0
        states[std] = epochs(folder)
    density = torch.distributions.Normal(2.0, 0.8).log_prob(torch.tensor([1.0, 2.0, 3.0])).exp()
    weights = density / density.sum()
    for name, got in states[0.8][2].items():
        assert torch.equal(states[0][0][name], states[0.8][0][name])
        want = sum(w * state[name] for w, state in zip(weights, states[0], strict=True))
        assert torch.allclose(got, want, atol=1e-6) and not torch.allclose(got, states[0][2][name])


def test_weights_of_epochs_far_from_the_mean():
    assert average_weights(500, 1, 3) == pytest.approx([0, 0, 1])
    assert sum(average_weights(15, 1, 20)) == pytest.approx(1)


def test_an_interrupted_average_goes_on(pictures, vit, tmp_path, monkeypatch):
    options = {"OPTIM__MAX_EPOCH": 3, "GPA_MEAN": 2}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train.main(arguments(pictures, whole, "PromptSRC", vit, **options)) == 0
    run_epoch = PromptSRC.run_epoch

    def power_cut(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        run_epoch(self)

    monkeypatch.setattr(PromptSRC, "run_epoch", power_cut)
    again = arguments(pictures, broken, "PromptSRC", vit, **options)
    with pytest.raises(KeyboardInterrupt):
        train.main(again)
    monkeypatch.setattr(PromptSRC, "run_epoch", run_epoch)
    assert train.main(again) == 0
    one, two = (epochs(folder)[-1] for folder in (whole, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("wrong", [None, {}, {"ctx": torch.zeros(2)}])
def test_a_state_without_its_average(wrong, pictures, vit, tmp_path):
    made = build(arguments(pictures, tmp_path, "PromptSRC", vit))
    state = made.state(1) | {"average": wrong}
    file = made.store.folder / "resume.pth.tar"
    files.write(state, file)
    with pytest.raises(CheckpointError, match="its average over epochs is"):
        made.resume_model_if_exist("")


def test_options_of_losses_have_limits(pictures, vit, tmp_path):
    with pytest.raises(ConfigError) as caught:
        build(arguments(pictures, tmp_path, "PromptSRC", vit, TEXT_LOSS_WEIGHT=-1, GPA_STD=-2))
    assert "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT is -1" in str(caught.value)
    assert "TRAINER.PROMPTSRC.GPA_STD is -2" in str(caught.value)


def test_visual_prompts_refuse_what_they_cannot_use(pictures, vit, tmp_path):
    with pytest.raises(ConfigError, match="TRAIN.FEATURE_CACHE is 2, but visual prompts"):
        build(arguments(pictures, tmp_path, "MaPLe", vit, TRAIN__FEATURE_CACHE=2))
    with pytest.raises(ConfigError, match="choose a ViT"):
        build(command(pictures, tmp_path, trainer="MaPLe", TRAINER__MAPLE__PREC="fp32",
                      TRAINER__MAPLE__PROMPT_DEPTH=1))  # fmt: skip


@pytest.mark.parametrize("couple", [False, True])
def test_conditional_by_an_option(couple, pictures, vit, tmp_path):
    options = {"CONDITIONAL": True, "COUPLE_RESIDUAL": couple, "OPTIM__MAX_EPOCH": 1}
    options |= {"PRIOR_MEAN": "zero" if couple else "class_words"}
    made = build(arguments(pictures, tmp_path, "VPT_MaPLe", vit, **options))
    assert made.model.prompt_learner.conditional
    made.train()
    assert json.loads((tmp_path / "results.json").read_text())["n_total"] == 4 * len(CLASSES)


def test_features_of_test_images_belong_to_the_prompts(pictures, vit, tmp_path, monkeypatch):
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / "cache"))
    seen = []
    for seed in (1, 1, 2):
        run = arguments(pictures, tmp_path / "run", "MaPLe", vit, OPTIM__MAX_EPOCH=0)
        run[run.index("--seed") + 1] = str(seed)
        made = build(run)
        features, _ = made.tester.features(made.test_loader)
        seen.append(features)
    assert torch.equal(seen[0], seen[1]) and not torch.allclose(seen[0], seen[2])
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


def test_templates(pictures, vit, tmp_path):
    assert len(DIVERSE) == len(set(DIVERSE)) == 60
    made = build(arguments(pictures, tmp_path, "KgCoOp", vit))
    assert made.templates() == ["a photo of a {}."]
    made.cfg = made.cfg.clone()
    made.cfg.defrost()
    for name, kind in (("OxfordPets", "pet"), ("DescribableTextures", "texture")):
        made.cfg.DATASET.NAME = name
        assert made.templates() == [f"a photo of a {{}}, a type of {kind}."]


# name here -> name in the files of the authors of MaPLe, and of PromptSRC
MAPLE = {
    "ctx": "prompt_learner.ctx",
    "deep.couplings.0.weight": "prompt_learner.proj.weight",
    "deep.couplings.0.bias": "prompt_learner.proj.bias",
    "deep.couplings.1.weight": "prompt_learner.compound_prompt_projections.0.weight",
    "deep.couplings.1.bias": "prompt_learner.compound_prompt_projections.0.bias",
}
LAYERS = {
    "MaPLe": {"deep.text": ["prompt_learner.compound_prompts_text.0"]},
    "PromptSRC": {
        "deep.text": ["text_encoder.transformer.resblocks.1.VPT_shallow"],
        "deep.visual": [
            "image_encoder.VPT", "image_encoder.transformer.resblocks.1.VPT_shallow",
        ],
    },
}  # fmt: skip
FOLDERS = {"MaPLe": "MultiModalPromptLearner", "PromptSRC": "VLPromptLearner"}


def their_file(trainer, learner, clip):
    """A checkpoint in the layout of the authors: the whole model, towers and all."""
    state, ours = {}, learner.state_dict()
    for name, value in ours.items():
        layers = LAYERS.get(trainer, {}).get(name)
        if layers:
            state |= dict(zip(layers, value, strict=True))
        else:
            state[MAPLE[name]] = value
    state |= {f"image_encoder.{k}": v for k, v in clip.visual.state_dict().items()}
    state |= {f"text_encoder.transformer.{k}": v for k, v in clip.transformer.state_dict().items()}
    state["logit_scale"] = clip.logit_scale
    if trainer == "PromptSRC":
        state["prompt_learner.ZS_image_encoder.conv1.weight"] = clip.visual.conv1.weight
    start = clip.token_embedding.weight[49406].expand(5, 1, -1)
    return state | {"prompt_learner.token_prefix": start}


@pytest.mark.parametrize("trainer", LAYERS)
def test_files_of_the_authors(trainer, pictures, vit, tmp_path):
    source = build(arguments(pictures, tmp_path / "a", trainer, vit))
    with torch.no_grad():
        for parameter in source.model.prompt_learner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = their_file(trainer, source.model.prompt_learner, source.towers.clip)
    file = tmp_path / "theirs" / FOLDERS[trainer] / "model.pth.tar-5"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": state, "epoch": 5}, file)
    found = build(arguments(pictures, tmp_path / "b", trainer, vit))
    found.load_model(str(tmp_path / "theirs"), 5)
    want = source.model.prompt_learner.state_dict()
    got = found.model.prompt_learner.state_dict()
    assert got.keys() == want.keys() and all(torch.equal(got[k], want[k]) for k in got)
    text = [name for name in state if "compound_prompts_text" in name or "text_encoder" in name]
    state[next(n for n in text if state[n].dim() == 2)] = torch.zeros(3, 7)
    torch.save({"state_dict": state, "epoch": 5}, file)
    with pytest.raises(CheckpointError):
        found.load_model(str(tmp_path / "theirs"), 5)


def test_what_kgcoops_files_hold_besides_is_not_missed(pictures, vit, tmp_path):
    made = build(arguments(pictures, tmp_path, "KgCoOp", vit))
    context = torch.randn_like(made.model.prompt_learner.ctx)
    state = {"ctx": context, "bias_vectors": torch.zeros(1, 512),
             "meta_net.linear1.weight": torch.zeros(512, 512),
             "meta_net.linear1.bias": torch.zeros(512)}  # fmt: skip
    file = tmp_path / "theirs.pth.tar"
    torch.save({"state_dict": state, "epoch": 100}, file)
    made.load_weights(str(file))
    assert torch.equal(made.model.prompt_learner.ctx, context)


SHALLOW = {
    "KgCoOp": {}, "VPT_KgCoOp": {}, "MaPLe": {"PROMPT_DEPTH": 1},
    "PromptSRC": {"PROMPT_DEPTH_TEXT": 1},
}  # fmt: skip


@pytest.mark.parametrize("trainer", SHALLOW)
def test_contexts_that_begin_at_the_words_of_their_class(trainer, pictures, vit, tmp_path, capsys):
    """The file that is left gives other classes, by name, what a model made for them gives."""
    options = SHALLOW[trainer] | {"CLASS_WORDS": 0.3}
    run = arguments(pictures, tmp_path / "run", trainer, vit, TRAIN__PRINT_FREQ=1, **options)
    assert train.main(run) == 0
    printed = capsys.readouterr().out
    assert 'starting from the words "a photo of a", 0.3 of the way to the words of' in printed
    other = load_classifier(tmp_path / "run", device="cpu").with_classes(["cat", "old_dog"])
    model = other.learned_.model
    state = files.read(tmp_path / "run/prompt_learner/model.pth.tar-2")["state_dict"]
    again = PromptedCLIP(model.towers.clip, ["cat", "old_dog"], model.config)
    assert again.config.class_words == 0.3
    again.prompt_learner.load_state_dict(state)
    width = model.towers.clip.text_projection.shape[1]
    features = torch.nn.functional.normalize(torch.randn(3, width), dim=-1)
    torch.testing.assert_close(again.predictor()(features), model.predictor()(features))
    still = arguments(pictures, tmp_path / "still", trainer, vit, **SHALLOW[trainer])
    with pytest.raises(CheckpointError, match=r"another TRAINER\..*\.CLASS_WORDS: 0\.3 -> 0\.0"):
        build(still).load_model(tmp_path / "run")


@pytest.mark.parametrize("trainer", DEEP)
def test_deep_prompts_have_no_words_of_a_class(trainer, pictures, vit, tmp_path, capsys):
    run = arguments(pictures, tmp_path / "run", trainer, vit, CLASS_WORDS=0.3)
    assert train.main(run) == 2
    said = capsys.readouterr().err
    assert f"TRAINER.{trainer.upper()}.CLASS_WORDS is 0.3, but prompts of deeper layers" in said
    assert said.count("\n") == 1 and "PROMPT_DEPTH" in said
