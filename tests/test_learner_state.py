"""Learned values from every layout: all of them or none."""

import dataclasses

import pytest
import torch
from helpers import NAMES, images, prompted, small_clip

from varprompt.config import PromptConfig
from varprompt.errors import CheckpointError
from varprompt.layouts import name_here, name_there
from varprompt.learner_state import load_learner

VPT = PromptConfig(posterior="gaussian", logvar_init=-3.0, n_samples=3, n_samples_test=3)
VPT_COCOOP = dataclasses.replace(VPT, conditional=True)
CSC = PromptConfig(ctx_init="", class_specific=True)
LAYERS = [f"{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")]
# trainer -> (configuration, name in the other layout -> name here)
LAYOUTS = {
    "CoOp": (PromptConfig(), {"ctx": "ctx"}),
    "CoOp-csc": (CSC, {"ctx": "ctx"}),
    "CoCoOp": (
        PromptConfig(posterior="meta_net", conditional=True),
        {"ctx": "ctx"}
        | {
            f"meta_net.linear{n}.{kind}": f"posterior.linear{n}.{kind}"
            for n in (1, 2)
            for kind in ("weight", "bias")
        },
    ),
    "coopvpt": (
        VPT,
        {"ctx": "ctx", "mean_posterior": "posterior.mu", "std_posterior": "posterior.logvar"},
    ),
    "cocoopvpt": (
        VPT_COCOOP,
        {"ctx": "ctx"}
        | {f"meta_net.weight_mean.module.{x}": f"posterior.mean.{x}" for x in LAYERS}
        | {f"meta_net.weight_log_variance.module.{x}": f"posterior.logvar.{x}" for x in LAYERS},
    ),
}


def buffers(model, names, dtype=torch.float32):
    """CoOp's embeddings of start token and of "name . [end]", padded."""
    from varprompt.towers import openai_clip as clip

    clip_model = model.towers.clip
    ids = clip.tokenize([n.replace("_", " ") + "." for n in names])
    embedded = clip_model.token_embedding(ids).to(dtype)
    return {"token_prefix": embedded[:, :1], "token_suffix": embedded[:, 1:-4]}


def foreign(model, names, dtype=torch.float32, module=""):
    """A checkpoint as CoOp's or the authors' code writes it."""
    mapping = next(m for c, m in LAYOUTS.values() if c == model.config)
    state = model.prompt_learner.state_dict()
    tensors = {there: state[here].to(dtype) for there, here in mapping.items()}
    tensors |= buffers(model, names, dtype)
    return {"state_dict": {module + k: v for k, v in tensors.items()}, "epoch": 7}


def load(model, checkpoint, names=NAMES):
    load_learner(model.prompt_learner, checkpoint, "file", names, model.tokens)


def outputs(model):
    return model.predictor()(model.towers.encode_image(images(3)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("module", ["", "module."])
def test_other_layouts(layout, module):
    config, _ = LAYOUTS[layout]
    theirs, ours = prompted(config), prompted(config, seed=3)
    assert not torch.allclose(outputs(ours), outputs(theirs))
    load(ours, foreign(theirs, NAMES, module=module))
    assert torch.equal(outputs(ours), outputs(theirs))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_is_widened(layout):
    config, mapping = LAYOUTS[layout]
    theirs, ours = prompted(config), prompted(config, seed=3)
    checkpoint = foreign(theirs, NAMES, torch.float16)
    load(ours, checkpoint)
    for there, here in mapping.items():
        value = ours.prompt_learner.state_dict()[here]
        assert value.dtype == torch.float32
        assert torch.equal(value, checkpoint["state_dict"][there].float())


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "CoOp-csc"])
def test_base_to_new(layout):
    """Another number of other classes: only the class names change."""
    config, _ = LAYOUTS[layout]
    theirs, ours = prompted(config), prompted(config, NAMES[:3], seed=3)
    load(ours, foreign(theirs, NAMES), NAMES[:3])
    for name, value in ours.prompt_learner.state_dict().items():
        assert torch.equal(value, theirs.prompt_learner.state_dict()[name])


CONFIGS = {name: config for name, (config, _) in LAYOUTS.items()} | {
    "delta": dataclasses.replace(VPT, posterior="delta"),
    "fixed": dataclasses.replace(VPT, posterior="fixed"),
    "per_token": dataclasses.replace(VPT, residual="per_token"),
    "conditional-per_token": dataclasses.replace(VPT_COCOOP, residual="per_token"),
    "longer": dataclasses.replace(VPT, ctx_init="", n_ctx=5),
    "low_rank": dataclasses.replace(VPT, posterior="low_rank"),
    "lower_rank": dataclasses.replace(VPT, posterior="low_rank", rank=2),
    "mixture": dataclasses.replace(
        VPT, posterior="mixture", residual="per_token", templates=("a photo of a {}.", "{} art")
    ),
}
PAIRS = [(a, b) for a in CONFIGS for b in CONFIGS if a != b]


@pytest.mark.parametrize("name", ["low_rank", "mixture"])
def test_own_families_come_back(name):
    theirs, ours = prompted(CONFIGS[name]), prompted(CONFIGS[name], seed=3)
    load(ours, {"state_dict": theirs.prompt_learner.state_dict()})
    assert torch.equal(outputs(ours), outputs(theirs))


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_nothing_is_loaded_partly(theirs, ours):
    """A file of every trainer and configuration is refused by every other one."""
    source, model = prompted(CONFIGS[theirs]), prompted(CONFIGS[ours], seed=3)
    before = {k: v.clone() for k, v in model.prompt_learner.state_dict().items()}
    checkpoint = {"state_dict": source.prompt_learner.state_dict(), "trainer": theirs}
    with pytest.raises(CheckpointError, match=f"written by {theirs}.* nothing was loaded"):
        load(model, checkpoint)
    for name, value in model.prompt_learner.state_dict().items():
        assert torch.equal(value, before[name])


def test_message_names_the_values():
    model = prompted(VPT)
    state = dict(model.prompt_learner.state_dict())
    state["posterior.nu"] = state.pop("posterior.mu")
    state["ctx"] = state["ctx"][:, :3]
    with pytest.raises(CheckpointError) as caught:
        load(model, state)
    for part in (r"lacks posterior.mu (1, 64)", "has posterior.nu (1, 64) in excess",
                 "has ctx (4, 3) where (4, 64) is needed"):  # fmt: skip
        assert part in str(caught.value)


OTHERS = ["cat", *NAMES[1:]]


@pytest.mark.parametrize(
    "names", [OTHERS, NAMES[::-1], NAMES[:3]], ids=["others", "another-order", "fewer"]
)
@pytest.mark.parametrize("layout", ["ours", "theirs"])
def test_class_specific_contexts_of_other_classes(layout, names):
    theirs, ours = prompted(CSC), prompted(CSC, names, seed=3)
    checkpoint = foreign(theirs, NAMES)
    if layout == "ours":
        checkpoint = {"state_dict": {"ctx": theirs.prompt_learner.ctx}, "classnames": NAMES}
    with pytest.raises(CheckpointError, match=r"one context per class.*TRAINER\.COOP\.CSC False"):
        load(ours, checkpoint, names)
    same = prompted(CSC, seed=3)
    load(same, checkpoint)
    assert torch.equal(same.prompt_learner.ctx, theirs.prompt_learner.ctx)


def test_class_specific_contexts_of_unknown_classes():
    model = prompted(CSC)
    with pytest.raises(CheckpointError, match="one context per class"):
        load(model, {"state_dict": model.prompt_learner.state_dict()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_contexts_of_another_clip(dtype):
    theirs = prompted(VPT, clip=small_clip(seed=1))
    with pytest.raises(CheckpointError, match="another CLIP"):
        load(prompted(VPT), foreign(theirs, NAMES, dtype))


def test_names_are_mapped_back():
    for _, mapping in LAYOUTS.values():
        for there, here in mapping.items():
            assert (name_here(there), name_there(here)) == (here, there)
            assert name_here(here) == here
