"""The activation, the mask and the layers are asked of the tower; derivatives of its products."""

import pytest
import torch
from helpers import NAMES, error, small_clip
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu

from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.model import PromptedCLIP
from varprompt.towers.blocks import ACTIVATIONS, check_tower
from varprompt.towers.build import clip_module
from varprompt.towers.products import linear
from varprompt.towers.text import FrozenTextEncoder
from varprompt.towers.tokens import class_tokens


class Quick(nn.Module):
    """Another project's QuickGELU under another name."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


ACTS = {"QuickGELU": Quick(), "GELU": nn.GELU(), "GELU (tanh)": nn.GELU(approximate="tanh")}


def clip_with(activation, layers=None, **options):
    """A small CLIP whose text tower has this activation, in all layers or the given ones."""
    model = small_clip(**options)
    for i, block in enumerate(model.transformer.resblocks):
        if layers is None or i in layers:
            block.mlp.gelu = activation
    return model


def own_features(model, context, names):
    """What CLIP's own encode_text makes of "a photo of a {name}." with other first embeddings."""
    text = clip_module().tokenize([f"a photo of a {n.replace('_', ' ')}." for n in names])

    def replace(module, args, embedded):
        return torch.cat([embedded[:, :1], context.expand(len(names), -1, -1), embedded[:, 5:]], 1)

    hook = model.token_embedding.register_forward_hook(replace)
    features = model.encode_text(text)
    hook.remove()
    return features / features.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("budget", [1 << 40, 1])
def test_a_prompted_clip_is_its_own_encode_text(name, budget):
    model = clip_with(ACTS[name])
    assert check_tower(model) is ACTIVATIONS[name]
    prompted = PromptedCLIP(model, NAMES, PromptConfig(mem_budget=budget))
    weights = torch.randn(len(NAMES), 24, generator=torch.Generator().manual_seed(0))
    context = prompted.prompt_learner.ctx
    got = prompted.towers.encode_text(context[None], prompted.tokens)[0]
    want = own_features(model, context, NAMES)
    assert error(got, want) < 1e-5
    got, want = (torch.autograd.grad((f * weights).sum(), context)[0] for f in (got, want))
    assert error(got, want) < 1e-5
    other = clip_with(ACTS["GELU" if name != "GELU" else "QuickGELU"])
    assert error(own_features(other, context, NAMES), own_features(model, context, NAMES)) > 1e-4


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.PReLU(), nn.SiLU(), nn.GLU(), nn.Tanh()])
def test_unknown_activations_are_refused(activation):
    with pytest.raises(ConfigError, match="text tower of this CLIP") as caught:
        PromptedCLIP(clip_with(activation), NAMES, PromptConfig())
    assert f"{type(activation).__name__}(" in str(caught.value)
    assert "activations QuickGELU, GELU, GELU (tanh)" in str(caught.value)


def test_all_that_is_not_supported_is_named_at_once():
    model = clip_with(nn.GELU(), layers=[1])
    model.transformer.resblocks[0].ls_1 = nn.Identity()  # open_clip's, without effect
    check = model.transformer.resblocks[2]
    check.ls_1, check.attn.num_heads, check.attn_mask = nn.Linear(1, 1), 2, None
    with pytest.raises(ConfigError) as caught:
        check_tower(model)
    for words in ("parts ['ls_1']", "heads: [1, 2]", "not causal", "['QuickGELU', 'GELU']"):
        assert words in str(caught.value)


def test_attention_must_be_causal_wherever_the_mask_is():
    model = small_clip()
    mask = model.transformer.resblocks[0].attn_mask
    for other in (mask.triu(2), mask.tril(), mask * 0, mask.T):
        model.transformer.resblocks[1].attn_mask = other.nan_to_num(0, neginf=-torch.inf)
        with pytest.raises(ConfigError, match="not causal"):
            check_tower(model)
    for block in model.transformer.resblocks:  # as in open_clip: the model has it
        del block.attn_mask
    with pytest.raises(ConfigError, match="not causal"):
        check_tower(model)
    model.attn_mask = mask.clamp(min=torch.finfo(torch.float16).min)
    check_tower(model)


def test_prompts_may_be_as_long_as_the_tower_has_positions():
    model = small_clip(context_length=24)
    model.context_length = 77  # says more than there is
    with pytest.raises(ConfigError, match="do not fit the 24 tokens"):
        class_tokens(model, [" ".join(["dog"] * 30)], 4)


def second_derivative(function, x):
    """Of a sum that is not linear, in the direction of ones."""
    (first,) = torch.autograd.grad(function(x).sin().sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the switch below
def test_linear_has_a_second_derivative():
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(7, 5, generator=draw), torch.randn(7, generator=draw)
    x = torch.randn(3, 2, 5, generator=draw).requires_grad_()
    exact = second_derivative(
        lambda x: nn.functional.linear(x, weight.double(), bias.double()),
        x.detach().double().requires_grad_(),
    )
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled):
            assert error(second_derivative(lambda x: linear(x, weight, bias), x), exact) < 1e-5


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the switch below
@pytest.mark.parametrize("budget", [1 << 40, 1])
def test_features_have_a_second_derivative(budget):
    """With attention that has one: the fused kernels of torch raise instead of being wrong."""
    model = small_clip()
    encoder, tokens = FrozenTextEncoder(model, budget), class_tokens(model, NAMES, 2)
    context = (0.05 * torch.randn(2, 2, 64)).requires_grad_()
    found = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled), sdpa_kernel(SDPBackend.MATH):
            found.append(second_derivative(lambda c: encoder(c, tokens), context))
    assert error(*found) < 1e-4


def test_activations_are_their_formulas():
    x = torch.linspace(-9, 9, 91, dtype=torch.float64)
    for name, exact in (("QuickGELU", Quick()(x)), ("GELU", gelu(x))):
        torch.testing.assert_close(ACTIVATIONS[name](x), exact)
