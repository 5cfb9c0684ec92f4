"""The fast text encoder against whole padded prompts: values, gradients, memory, work."""

import copy
import os

import pytest
import reference
import torch
from helpers import NAMES, Live, error, small_clip, textbook_clip, value_and_gradient
from torch.utils.flop_counter import FlopCounterMode

from varprompt.towers import text
from varprompt.towers.frozen import FrozenCLIP
from varprompt.towers.load import cast_clip
from varprompt.towers.text import FrozenTextEncoder
from varprompt.towers.tokens import class_tokens, text_tokens

WIDTH, EMBED, LAYERS = 128, 24, 3
OPTIONS = {"width": WIDTH, "embed": EMBED, "layers": LAYERS}
TOLERANCE = 1e-5  # float32
MANY = [f"{a} {b}" for a in NAMES for b in [*NAMES, "tit", "Xenops minutus"]]
AMPLE = 1 << 40


def contexts(n_samples, n_ctx, n_classes=None, seed=0):
    """Contexts (S, M, D), or (S, C, M, D), as wide as embeddings."""
    shape = (n_samples, n_ctx) if n_classes is None else (n_samples, n_classes, n_ctx)
    generator = torch.Generator().manual_seed(seed)
    return (0.05 * torch.randn(*shape, WIDTH, generator=generator)).requires_grad_()


def compare(encoder, tokens, ctx, names, position, **options):
    """Errors of value and gradient."""
    want = value_and_gradient(
        lambda c: reference.text_features(textbook_clip(**OPTIONS, **options), c, names, position),
        ctx.detach().double().requires_grad_(),
    )
    got = value_and_gradient(lambda c: encoder(c, tokens), ctx)
    assert got[0].dtype == torch.float32
    return [error(g, w) for g, w in zip(got, want, strict=True)]


@pytest.mark.parametrize("context_length", [77, 24])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize(("n_samples", "n_classes", "n_ctx"), [(1, 1, 1), (3, 5, 4), (2, 5, 7)])
def test_value_and_gradient(
    n_samples, n_classes, n_ctx, position, class_specific, context_length
):  # fmt: skip
    clip_model, names = small_clip(**OPTIONS, context_length=context_length), NAMES[-n_classes:]
    tokens = class_tokens(
        clip_model, names, n_ctx, position=position, class_specific=class_specific
    )  # fmt: skip
    ctx = contexts(n_samples, n_ctx, n_classes if class_specific else None)
    encoder = FrozenTextEncoder(clip_model, AMPLE)
    errors = compare(encoder, tokens, ctx, names, position, context_length=context_length)
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize("budget", [AMPLE, 1])
def test_texts_without_context(budget):
    clip_model = small_clip(**OPTIONS)
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    got = FrozenTextEncoder(clip_model, budget)(
        torch.zeros(1, 0, WIDTH), text_tokens(clip_model, texts)
    )
    want = reference.zero_shot(textbook_clip(**OPTIONS), NAMES, ["a photo of a {}."])
    assert got.shape == (1, 5, EMBED) and error(got[0], want) < TOLERANCE


def test_order_of_names_is_kept():
    clip_model, ctx = small_clip(**OPTIONS), contexts(2, 3)
    order = torch.randperm(len(MANY), generator=torch.Generator().manual_seed(0))
    encoder = FrozenTextEncoder(clip_model, AMPLE)
    features = encoder(ctx, class_tokens(clip_model, MANY, 3))
    shuffled = encoder(ctx, class_tokens(clip_model, [MANY[i] for i in order], 3))
    assert error(shuffled, features[:, order]) < TOLERANCE


# a few units in the last place (2^-11, 2^-8) after some ten roundings a layer
@pytest.mark.parametrize(
    ("precision", "value", "gradient"),
    [("fp16", 0.01, 0.03), ("bf16", 0.06, 0.2), ("amp", 0.06, 0.2)],
)
@pytest.mark.parametrize("budget", [AMPLE, 500_000])
def test_half_precision(precision, value, gradient, budget):
    clip_model = cast_clip(small_clip(**OPTIONS), precision)
    encoder = FrozenTextEncoder(clip_model, budget)
    tokens = class_tokens(clip_model, NAMES, 4)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
        errors = compare(encoder, tokens, contexts(3, 4), NAMES, "end")
    assert 1e-5 < errors[0] < value and 1e-5 < errors[1] < gradient


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_features_of_half_precision_have_unit_norm_in_float32(precision):
    """Normalised in the tower's own format they would miss it by 1e-4 and more."""
    towers = FrozenCLIP(small_clip(**OPTIONS), precision)
    text = towers.encode_text(contexts(2, 4), class_tokens(towers.clip, NAMES, 4))
    image = towers.encode_image(torch.randn(3, 3, 32, 32, generator=torch.manual_seed(0)))
    for features in (text, image):
        assert features.dtype == torch.float32
        assert (features.double().norm(dim=-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("budget", [1, 300_000, 3_000_000])
@pytest.mark.parametrize(("position", "class_specific"), [("end", False), ("middle", True)])
def test_chunks_change_nothing(position, class_specific, budget):
    clip_model = small_clip(**OPTIONS)
    options = {"position": position, "class_specific": class_specific}
    tokens = class_tokens(clip_model, MANY, 5, **options)
    ctx = contexts(4, 5, len(MANY) if class_specific else None)
    whole, chunked = FrozenTextEncoder(clip_model, AMPLE), FrozenTextEncoder(clip_model, budget)
    assert whole._chunk(4, tokens) == (4, tokens.n_tiles) != chunked._chunk(4, tokens)
    want = value_and_gradient(lambda c: whole(c, tokens), ctx)
    got = value_and_gradient(lambda c: chunked(c, tokens), ctx)
    assert max(error(g, w) for g, w in zip(got, want, strict=True)) < TOLERANCE
    with torch.no_grad():
        assert error(chunked(ctx, tokens), want[0]) < TOLERANCE


@pytest.mark.parametrize("with_graph", [True, False])
def test_heads_of_a_call_fit_the_grid_of_a_gpu(with_graph):
    encoder = FrozenTextEncoder(small_clip(**OPTIONS).to("meta"), 1 << 50)
    tokens = class_tokens(small_clip(**OPTIONS), MANY, 4)
    with torch.set_grad_enabled(with_graph):
        assert encoder._chunk(10**6, tokens) == (65535 // encoder.n_heads, tokens.n_tiles)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
@pytest.mark.parametrize(("budget", "class_specific"), [(AMPLE, False), (2_000_000, True)])
def test_compiling_changes_nothing(budget, class_specific):
    """The graphs; tests/trainers/test_vpt.py runs the code that the default backend makes."""
    clip_model = small_clip(**OPTIONS)
    tokens = class_tokens(clip_model, MANY, 5, class_specific=class_specific)
    ctx = contexts(4, 5, len(MANY) if class_specific else None)
    plain, compiled = FrozenTextEncoder(clip_model, AMPLE), FrozenTextEncoder(clip_model, budget)
    compiled.compile(backend="aot_eager")
    got, want = (value_and_gradient(lambda c, e=e: e(c, tokens), ctx) for e in (compiled, plain))
    assert max(error(g, w) for g, w in zip(got, want, strict=True)) < TOLERANCE
    with torch.no_grad():
        assert error(compiled(ctx, tokens), want[0]) < TOLERANCE


@pytest.mark.parametrize("with_graph", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("n_classes", "n_ctx", "n_samples", "budgets"),
    [(35, 4, 3, (2_000_000, 6_000_000)), (5, 16, 30, (7_000_000, 15_000_000))],
    ids=["classes", "contexts"],
)
def test_a_call_fits_the_budget(n_classes, n_ctx, n_samples, budgets, precision, with_graph):
    """The constants of the plan: chunks keep what they promise, and do not promise too little."""
    clip_model = cast_clip(small_clip(width=WIDTH, embed=EMBED, layers=6), precision)
    tokens = class_tokens(clip_model, MANY[:n_classes], n_ctx)
    ctx, peaks = contexts(n_samples, n_ctx), []
    for budget in (*budgets, AMPLE):
        encoder = FrozenTextEncoder(clip_model, budget)
        with torch.set_grad_enabled(with_graph), Live() as live:
            features = encoder(ctx, tokens)
            if with_graph:
                features.sum().backward()
        peaks.append(live.peak)
        chunked = encoder._chunk(n_samples, tokens) < (n_samples, tokens.n_tiles)
        assert live.peak < budget and (live.peak > 0.35 * budget or not chunked)
    assert peaks[0] < peaks[1] <= peaks[2]


def test_the_output_counts():
    """1,000 classes and 512 numbers of output take more than a narrow tower itself."""
    clip_model, names = small_clip(width=64, embed=512, layers=1), [f"x {i}" for i in range(1000)]
    tokens, ctx = class_tokens(clip_model, names, 2), torch.zeros(16, 2, 64)
    output = 16 * 1000 * 512 * 4
    encoder = FrozenTextEncoder(clip_model, 4 * output)
    with Live() as live:
        encoder(ctx.requires_grad_(), tokens).sum().backward()
    assert 2 * output < live.peak < 4 * output
    encoder.mem_budget = output  # cannot be kept: the chunks have a share that is worth while
    assert encoder._chunk(16, tokens)[1] > 20


def test_kept_for_the_backward():
    """Ten numbers of D per token and layer, and no inputs of linear layers."""
    clip_model = small_clip(**OPTIONS)
    tokens, ctx, kept = class_tokens(clip_model, MANY, 4), contexts(3, 4), {}
    weights = {p.untyped_storage().data_ptr() for p in clip_model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        FrozenTextEncoder(clip_model, AMPLE)(ctx, tokens)
    n_tokens = 3 * (tokens.n_tiles * tokens.tile + 5)
    assert sum(n for n, _ in kept.values()) < 11 * 4 * WIDTH * LAYERS * n_tokens


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the switch below
def test_work_is_that_of_the_tokens_that_matter():
    """Within 4 % of 24 D^2 operations per token and layer, each way; no weight gradients."""
    clip_model, n_layers = small_clip(width=512, embed=EMBED, layers=6), 6
    tokens = class_tokens(clip_model, MANY, 4)
    n_tokens = 3 * (sum(len(reference.clip.tokenize(f"{n}.")[0].nonzero()) - 1 for n in MANY) + 5)
    floor = 24 * 512**2 * n_layers * n_tokens
    ctx = (0.05 * torch.randn(3, 4, 512)).requires_grad_()
    with torch.backends.mkldnn.flags(enabled=False):  # products that are counted
        with FlopCounterMode(display=False) as forward:
            features = FrozenTextEncoder(clip_model, AMPLE)(ctx, tokens)
        with FlopCounterMode(display=False) as backward:
            features.sum().backward()
    assert forward.get_total_flops() < 1.04 * floor
    assert backward.get_total_flops() < 1.04 * floor


def test_frozen_weights_get_no_gradient_and_others_do():
    clip_model, ctx = small_clip(**OPTIONS), contexts(2, 4)
    tokens = class_tokens(clip_model, NAMES, 4)
    FrozenTextEncoder(clip_model, AMPLE)(ctx, tokens).sum().backward()
    assert all(p.grad is None for p in clip_model.parameters())
    twin = copy.deepcopy(clip_model)
    for model in (clip_model, twin):
        model.transformer.requires_grad_(True)
    FrozenTextEncoder(clip_model, AMPLE)(ctx, tokens)[..., 0].sum().backward()
    reference.text_features(twin, ctx, NAMES)[..., 0].sum().backward()
    for p, q in zip(
        clip_model.transformer.parameters(), twin.transformer.parameters(), strict=True
    ):
        assert (p.grad - q.grad).norm() <= 1e-4 * q.grad.norm()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the switch below
def test_matrix_products_agree():
    clip_model, ctx = small_clip(**OPTIONS), contexts(3, 4)
    tokens, encoder = class_tokens(clip_model, NAMES, 4), FrozenTextEncoder(clip_model, AMPLE)
    results = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled):
            results.append(value_and_gradient(lambda c: encoder(c, tokens), ctx))
    assert max(error(a, b) for a, b in zip(*results, strict=True)) < TOLERANCE


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("budget", [AMPLE, 2_000_000])
def test_the_host_never_waits_for_the_device(budget, class_specific):
    """On the meta device there are no values: whoever asks for one fails."""
    clip_model = small_clip(**OPTIONS).to("meta")
    tokens = class_tokens(small_clip(**OPTIONS), MANY[:14], 4, position="middle",
                          class_specific=class_specific).to("meta")  # fmt: skip
    ctx = (
        contexts(3, 4, len(MANY[:14]) if class_specific else None)
        .detach()
        .to("meta")
        .requires_grad_()
    )
    features = FrozenTextEncoder(clip_model, budget)(ctx, tokens)
    features.sum().backward()
    assert features.shape == (3, len(MANY[:14]), EMBED) and ctx.grad.shape == ctx.shape


def test_automatic_budget_is_a_power_of_two():
    budget = FrozenTextEncoder(small_clip(**OPTIONS)).resolved_budget
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 << 24 <= budget <= total / 2 and budget.bit_count() == 1


def test_the_budget_follows_the_device_and_can_be_fixed(monkeypatch):
    asked = []

    def budget_of(device):
        asked.append(device.type)
        return {"cpu": 1 << 40, "meta": 1}[device.type]

    monkeypatch.setattr(text, "automatic_budget", budget_of)
    clip_model = small_clip(**OPTIONS)
    encoder, tokens = FrozenTextEncoder(clip_model), class_tokens(clip_model, MANY, 4)
    assert asked == [] and encoder.mem_budget == 0
    for _ in range(2):  # asked once, so that all steps of a run have the same chunks
        assert encoder._chunk(3, tokens) == (3, tokens.n_tiles)
    encoder.to("meta")
    assert encoder.resolved_budget == 1 and encoder._chunk(3, tokens) == (1, 1)
    assert asked == ["cpu", "meta"]
    encoder.mem_budget = 1 << 40
    assert encoder.resolved_budget == 1 << 40 and encoder._chunk(3, tokens) == (3, tokens.n_tiles)


@pytest.mark.parametrize("budget", [AMPLE, 1])
@pytest.mark.parametrize(("depth", "n_ctx", "n_deep"), [(2, 1, 1), (3, 4, 4), (3, 5, 2)])
def test_deep_prompts(depth, n_ctx, n_deep, budget):
    """In front of layers 2 to J the first tokens of the context are replaced, the others stay."""
    clip_model, n_samples = small_clip(**OPTIONS), 3
    ctx = contexts(depth * n_samples, max(n_ctx, n_deep)).detach().unflatten(0, (depth, n_samples))
    every = ctx.clone().requires_grad_()
    encoder, tokens = FrozenTextEncoder(clip_model, budget), class_tokens(clip_model, NAMES, n_ctx)
    got = value_and_gradient(lambda e: encoder(e[0], tokens, e[1:, :, :n_deep]), every)
    textbook = textbook_clip(**OPTIONS)
    want = value_and_gradient(
        lambda e: reference.text_features(textbook, e[0], NAMES, deep=e[1:, :, :n_deep]),
        ctx.double().requires_grad_(),
    )
    assert max(error(g, w) for g, w in zip(got, want, strict=True)) < TOLERANCE


def test_deep_prompts_alone_may_be_learned():
    clip_model, learned = small_clip(**OPTIONS), contexts(1, 2)
    tokens = class_tokens(clip_model, MANY, 2)
    encoder = FrozenTextEncoder(clip_model, 1)  # in chunks, which are computed again
    with torch.enable_grad():
        encoder(torch.zeros(1, 2, WIDTH), tokens, learned[None]).sum().backward()
    assert encoder._chunk(1, tokens)[1] < tokens.n_tiles and learned.grad.abs().max() > 0


def test_deep_prompts_that_do_not_fit():
    clip_model, ctx = small_clip(**OPTIONS), contexts(2, 4).detach()
    encoder = FrozenTextEncoder(clip_model, AMPLE)
    deep = torch.zeros(1, 2, 4, WIDTH)
    for position in ("middle", "front"):
        with pytest.raises(ValueError, match="4 deep prompts replace context tokens"):
            encoder(ctx, class_tokens(clip_model, NAMES, 4, position=position), deep)
    tokens = class_tokens(clip_model, NAMES, 4)
    for wrong in (deep.expand(LAYERS, -1, -1, -1), deep.expand(-1, 2, -1, -1)[:, :1]):
        with pytest.raises(ValueError, match="do not fit 2 contexts and a tower of 3 layers"):
            encoder(ctx, tokens, wrong)


def test_features_as_the_projection_leaves_them():
    clip_model, ctx = small_clip(**OPTIONS), contexts(2, 3).detach()
    encoder, tokens = FrozenTextEncoder(clip_model, AMPLE), class_tokens(clip_model, NAMES, 3)
    raw = encoder(ctx, tokens, unit_norm=False)
    assert error(torch.nn.functional.normalize(raw, dim=-1), encoder(ctx, tokens)) < 1e-6
    length = raw.norm(dim=-1)
    assert (length.max() - length.min()) / length.mean() > 0.01
