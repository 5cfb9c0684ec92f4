"""The rows that were added to the benchmark of the mixture later."""

import json
import math

import pytest
import torch

from benchmarks import _mixture_added as added
from benchmarks import _mixture_report, mixture_prior
from benchmarks import _mixture_unlike as wide
from benchmarks._mixture_groups import GROUPS
from benchmarks._mixture_methods import Found
from benchmarks._mixture_rows import TEMPLATES, Bed, adam
from benchmarks._mixture_tasks import draw, towers
from varprompt.config import PromptConfig
from varprompt.embedded.sets import SETS
from varprompt.errors import ConfigError
from varprompt.model import PromptedCLIP
from varprompt.posteriors import MixturePosterior
from varprompt.towers.tokens import embed_words

STEPS = 3


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return draw("Digits", 901, 4, towers(), tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def bed(task):
    return Bed.of(task, towers())


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    for module in (added, wide):
        monkeypatch.setattr(module, "adam", lambda values, loss: adam(values, loss, steps=STEPS))


def test_templates_of_unlike_shape_are_those_of_the_shipped_mixture(bed, task):
    config = PromptConfig(
        posterior="mixture", templates=wide.UNLIKE, component="delta", residual="per_token",
        learn_context=False, prior_unit="token_rms", prior_std=2.0,
    )  # fmt: skip
    model = PromptedCLIP(bed.towers.clip, task.names["new"], config)
    found = wide.unlike(bed, task, 1)["zero_shot_24"]
    images = task.test["new"]
    expected = model.predictor()(images.features)
    torch.testing.assert_close(found.log_prob(bed, images, "new"), expected, rtol=0, atol=1e-4)
    assert len({own.templates.shape[1:] for own in found.beds}) > 3
    assert found.beds[0].rms == model.prompt_learner.prior_std / 2


def test_a_prior_holds_each_template_back(bed, task):
    found = wide.unlike(bed, task, 1)
    beds = found["mixture_24"].beds
    for own, held, free in zip(
        beds, found["mixture_24"].contexts, found["coops_24"].contexts, strict=True
    ):
        far = [(x - own.templates).square().sum() for x in (held, free)]
        assert 0 < far[0] <= far[1] * 1.01
    alone = beds[0].templates.clone().requires_grad_()
    precision = wide.precision_of(beds[0])
    adam([alone], lambda: beds[0].map_loss(alone, beds[0].templates, precision).sum(), steps=STEPS)
    # rows of one pass do not know of each other
    assert (alone.detach() - found["mixture_24"].contexts[0]).abs().mean() < 1e-5


def test_one_shift_for_all(bed, task):
    found = wide.shared(bed, task, 1)["shared_24"]
    moved = torch.cat([
        (x - own.templates).flatten(0, 1)
        for own, x in zip(found.beds, found.contexts, strict=True)
    ])  # fmt: skip
    assert (moved - moved[0]).abs().max() < 1e-6 < moved.abs().max()


def test_the_prior_of_a_class_is_moved_to_its_words(bed, task, monkeypatch):
    monkeypatch.setattr(added, "CLASS_SHARE", 0.0)
    found = added.class_prior(bed, task, 1)["mixture_class"]
    plain = Found(added.maps(bed)).log_prob(bed, task.val, "base")
    torch.testing.assert_close(found.log_prob(bed, task.val, "base"), plain, rtol=0, atol=1e-3)
    monkeypatch.setattr(added, "CLASS_SHARE", 1.0)
    found = added.class_prior(bed, task, 1)["mixture_class"]
    begins = added.class_prior(bed, task, 1)["zero_shot_class"]
    tokens = begins.tokens["new"]
    embedded = tokens.embed(begins.contexts)[:, :, 2]  # (Z, Y, D) of the third template
    context = embedded[(tokens.owner == 3) & (tokens.slots >= 0)]
    words = embed_words(bed.towers.clip, task.names["new"][3]).mean(0)
    torch.testing.assert_close(context.mean(0), words)
    assert found.log_prob(bed, task.val, "base").exp().sum(-1).sub(1).abs().max() < 1e-4


def test_words_of_a_class_are_those_of_the_shipped_option(bed, task):
    config = PromptConfig(
        posterior="mixture", templates=TEMPLATES, component="delta", residual="per_token",
        learn_context=False, class_words=added.CLASS_SHARE,
    )  # fmt: skip
    found = added.class_prior(bed, task, 1)
    for part in ("base", "new"):
        model = PromptedCLIP(bed.towers.clip, task.names[part], config)
        images = task.test[part]
        for learned, name in ((False, "zero_shot_class"), (True, "mixture_class")):
            if learned:
                centres = added.CLASS_SHARE * bed.templates.mean(1, keepdim=True)
                contexts = found[name].contexts + centres
                model.prompt_learner.posterior.shifts.data.copy_(contexts - bed.templates)
            expected = model.predictor()(images.features)
            got = found[name].log_prob(bed, images, part)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def without_network(values, loss):
    """The first stage only: of the second one there are several tensors."""
    if len(values) == 1:
        adam(values, loss, steps=STEPS)


@pytest.mark.parametrize("name", ["mixture_image", "mixture_image_each"])
def test_prompts_of_an_image_start_at_the_mixture_and_part(name, bed, task, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(added, "adam", without_network)
        found = added.of_image(bed, task, 1)[name]
    plain = Found(added.maps(bed)).log_prob(bed, task.val, "base")
    torch.testing.assert_close(found.log_prob(bed, task.val, "base"), plain, rtol=0, atol=1e-4)
    found = added.of_image(bed, task, 1)[name]
    shift = found.shift(task.val.features).detach()  # (1 or G, B, 1, D)
    assert (shift[:, 0] - shift[:, 1]).abs().max() > 1e-4
    assert len(shift) == (len(TEMPLATES) if name.endswith("each") else 1)
    image, contexts = task.val.features[3:4], found.contexts + shift[:, 3]
    text = bed.towers.encode_text(contexts, bed.tokens["base"])  # (G, C, E)
    expected = bed.towers.scale * image @ text.transpose(1, 2)
    got = found.logits(bed, task.val.features, "base")[:, 3:4]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name, free",
    [("coops_image", True), ("coops_class_image", True), ("mixture_class_image", False)],
)
def test_prompts_of_an_image_from_elsewhere(name, free, bed, task, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(added, "adam", without_network)
        found = added.of_image_more(bed, task, 1)[name]
    own = added.class_prior(bed, task, 1)
    below = {"coops_image": Found(added.maps(bed, math.inf)), "coops_class_image":
             own["coops_class"], "mixture_class_image": own["mixture_class"]}[name]  # fmt: skip
    expected = below.log_prob(bed, task.test["new"], "new")
    torch.testing.assert_close(
        found.log_prob(bed, task.test["new"], "new"), expected, rtol=0, atol=1e-4
    )
    pulled = added.of_image_more(bed, task, 1)[name].shift(task.val.features)
    monkeypatch.setattr(added, "precision_of", lambda bed: 0.0)
    loose = added.of_image_more(bed, task, 1)[name].shift(task.val.features)
    # whether the network of the image has a prior
    assert bool((pulled - loose).abs().max() < 1e-6) == free


def test_one_shift_for_all_components_is_the_shipped_familys(bed, task):
    found = added.of_image(bed, task, 1)["mixture_image"]
    features = task.val.features[:5]
    posterior = MixturePosterior(
        1, bed.templates.shape[-1], features.shape[1], component="delta",
        anchors=bed.templates - bed.templates[0],
    )  # fmt: skip
    posterior.of_image.load_state_dict(found.shift.net.state_dict())
    posterior.shifts.data.copy_(found.contexts - bed.templates)
    expected = bed.templates[:, None] + posterior.deviation(features)
    torch.testing.assert_close(found.contexts[:, None] + found.shift(features), expected)


def test_the_prior_of_a_set_is_learned_without_it():
    torch.manual_seed(0)
    sets = ("Digits", "Chalk", "Zoom")
    found = {
        (name, prior): [torch.randn(len(TEMPLATES), n) - 2 - abs(prior - 4) for n in (30, 7)]
        for name in sets for prior in mixture_prior.PRIORS
    }  # fmt: skip
    learned = mixture_prior.learned_without("Chalk", found)
    assert learned["prior_std"] == 4.0 and sum(learned["weights"]) == pytest.approx(1, abs=1e-3)
    for prior in mixture_prior.PRIORS:
        found["Chalk", prior] = [torch.randn(len(TEMPLATES), 5) + 3 * prior]
    assert mixture_prior.learned_without("Chalk", found) == learned
    assert mixture_prior.learned_without("Zoom", found)["prior_std"] == 8.0


def test_weights_are_those_of_the_largest_likelihood():
    torch.manual_seed(1)
    parts = [torch.randn(2, 40), torch.randn(2, 9) + torch.tensor([[1.0], [0.0]])]
    best = mixture_prior.best_weights(parts)
    grid = torch.linspace(0.001, 0.999, 999)
    scores = [mixture_prior.likelihood(parts, torch.tensor([w, 1 - w])) for w in grid.tolist()]
    expected = grid[max(range(999), key=scores.__getitem__)].item()
    assert best[0].item() == pytest.approx(expected, abs=0.01)


def test_what_was_learned_is_read(bed, task, monkeypatch, tmp_path):
    shipped = {name: added.learned_prior(name) for name in SETS}
    for prior in shipped.values():
        assert prior["prior_std"] in mixture_prior.PRIORS
        assert sum(prior["weights"]) == pytest.approx(1, abs=1e-3)
    file = tmp_path / "prior.json"
    weights = [1.0, 0, 0, 0, 0, 0]
    file.write_text(json.dumps({"without": {"Digits": {"prior_std": 1.0, "weights": weights}}}))
    monkeypatch.setattr(added, "PRIOR_FILE", file)
    found = added.hierarchical(bed, task, 1)["mixture_hierarchical"]
    first = Found(added.maps(bed, 1.0)[:1]).log_prob(bed, task.val, "base")
    torch.testing.assert_close(found.log_prob(bed, task.val, "base"), first, rtol=0, atol=1e-4)
    monkeypatch.setattr(added, "PRIOR_FILE", tmp_path / "none.json")
    with pytest.raises(ConfigError, match="run `python benchmarks/mixture_prior.py`"):
        GROUPS["hierarchical"](bed, task, 1)


KEYS = ("base/accuracy", "new/accuracy", "all/base", "all/new", "new/best/nll", "new/ece",
        "new/aurc")  # fmt: skip


def test_added_rows_have_a_table_of_their_own():
    values = {"mixture": 50.0, "coops_templates": 51.0, "coops_class": 52.5, "mixture_24": 52.0,
              "mixture_image": 49.0}  # fmt: skip
    rows = [
        {"dataset": d, "seed": s, "shots": 16, "method": m, "rows": 1,
         **dict.fromkeys(KEYS, h + s)}
        for d in "ab" for s in (1, 2, 3) for m, h in values.items()
        if m != "mixture_image" or s < 3
    ]  # fmt: skip
    text = _mixture_report.added(rows, 16)
    lines = text.splitlines()
    assert len(lines) == 5 and "| method | seeds | base |" in lines[0]
    assert "| mixture: 24 templates of unlike shape | 3 | 54.00 |" in lines[2]
    assert "| +2.00 ± 0.00, 2/2 | +1.00 ± 0.00, 2/2 | -0.50 ± 0.00, 0/2 | - | - |" in lines[2]
    assert "from the moved templates, averaged | 3 | 54.50 |" in lines[3]
    assert "| +2.50 ± 0.00, 2/2 | +1.50 ± 0.00, 2/2 | - | - | - |" in lines[3]
    assert "| mixture, shifted by the image, all components alike | 2 | 50.50 |" in lines[4]
    assert _mixture_report.added(rows, 4) == ""
    few = [row for row in rows if row["method"] != "mixture" or row["dataset"] == "a"]
    assert "| - | +1.00 ± 0.00, 2/2 | -0.50" in _mixture_report.added(few, 16)  # not in every set
    assert _mixture_report.added([r for r in rows if r["method"] == "mixture"], 16) == ""
