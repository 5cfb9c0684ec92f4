"""Visual prompts in the frozen vision transformer against whole sequences, one image at a time."""

import pytest
import reference
import torch
from helpers import Live, error, images, small_clip, textbook_clip, value_and_gradient
from torch import nn

from varprompt.errors import ConfigError
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.image import PromptedImageEncoder
from varprompt.towers.load import cast_clip

WIDTH, LAYERS = 128, 4
TOLERANCE = 1e-5  # float32
AMPLE = 1 << 40
OPTIONS = {"vision_width": WIDTH, "vision_layers": LAYERS, "patch": 8}


def prompts(*shape, seed=0):
    """Prompts (L, K, J, N, V)."""
    generator = torch.Generator().manual_seed(seed)
    return (0.3 * torch.randn(*shape, WIDTH, generator=generator)).requires_grad_()


def encoder(budget=AMPLE, clip=None):
    return PromptedImageEncoder(clip or small_clip(**OPTIONS), lambda: budget)


def textbook(given, x):
    """Features (L, B, E) in float64."""
    clip = textbook_clip(**OPTIONS)
    return torch.stack([
        torch.stack([
            reference.prompted_image_feature(clip, image, sample[i % len(sample)])
            for i, image in enumerate(x.double())
        ])
        for sample in given
    ])  # fmt: skip


def compare(encode, given, x):
    """Errors of value and gradient."""
    want = value_and_gradient(lambda p: textbook(p, x), given.detach().double().requires_grad_())
    got = value_and_gradient(lambda p: encode(x, p), given)
    assert got[0].dtype == torch.float32
    return [error(g, w) for g, w in zip(got, want, strict=True)]


@pytest.mark.parametrize("budget", [AMPLE, 1])
@pytest.mark.parametrize("depth", [1, 3, LAYERS])
@pytest.mark.parametrize(("n_samples", "n_rows", "n_prompts"), [(1, 1, 1), (2, 1, 3), (3, 5, 2)])
def test_value_and_gradient(n_samples, n_rows, n_prompts, depth, budget):
    given = prompts(n_samples, n_rows, depth, n_prompts)
    assert max(compare(encoder(budget), given, images(5))) < TOLERANCE


def test_the_textbook_without_prompts_is_clips_own_tower():
    clip = textbook_clip(**OPTIONS)
    got = textbook(torch.zeros(1, 1, 1, 0, WIDTH).double(), images(3))[0]
    assert error(got, reference.image_features(clip, images(3).double())) < 1e-12


def test_only_prompts_get_gradients():
    clip, given = small_clip(**OPTIONS), prompts(1, 1, 2, 2)
    encoder(clip=clip)(images(2), given).sum().backward()
    assert given.grad is not None and all(p.grad is None for p in clip.parameters())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("bf16", 0.1)])
def test_half_precision(precision, tolerance):
    encode = encoder(clip=cast_clip(small_clip(**OPTIONS), precision))
    errors = compare(encode, prompts(2, 1, 3, 2), images(3))
    assert 1e-5 < errors[0] < tolerance and errors[1] < 3 * tolerance
    features = encode(images(2), prompts(1, 1, 1, 2))
    assert (features.double().norm(dim=-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("with_graph", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_call_fits_the_budget(with_graph, precision):
    clip, peaks = cast_clip(small_clip(**OPTIONS), precision), []
    for budget in (1_000_000, 4_000_000, AMPLE):
        x, given = images(40), prompts(2, 1, 3, 3)
        with torch.set_grad_enabled(with_graph), Live() as live:
            features = encoder(budget, clip)(x, given)
            if with_graph:
                features.sum().backward()
        peaks.append(live.peak)
        # patches, prompts and features of all images are there in any case
        besides = 4 * 2 * 40 * (17 + 2 * 9 + 1) * WIDTH
        assert live.peak < budget + besides
    assert peaks[0] < peaks[1] < peaks[2]


def test_towers_without_places_for_prompts():
    with pytest.raises(ConfigError, match="visual prompts are not possible: they stand among"):
        FrozenCLIP(small_clip(resnet=True)).encode_prompted_image  # noqa: B018
    strange = small_clip(**OPTIONS)
    strange.visual.transformer.resblocks[1].mlp.gelu = nn.Tanh()
    strange.visual.transformer.resblocks[2].attn_mask = torch.zeros(17, 17)
    with pytest.raises(ConfigError, match="in the image tower of this CLIP") as caught:
        FrozenCLIP(strange).encode_prompted_image  # noqa: B018
    assert "has a mask" in str(caught.value) and "Tanh" in str(caught.value)


def test_the_memory_budget_is_the_text_towers():
    towers = FrozenCLIP(small_clip(**OPTIONS), mem_budget=12345)
    assert towers.encode_prompted_image.budget() == 12345
    towers.encode_text.mem_budget = 77
    assert towers.encode_prompted_image.budget() == 77
