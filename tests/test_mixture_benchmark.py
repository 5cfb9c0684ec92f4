"""The benchmark of the mixture: rows learn what single learners do, figures are what they say."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from benchmarks import _mixture_added as added_later
from benchmarks import _mixture_methods as methods
from benchmarks import _mixture_report, mixture
from benchmarks import _mixture_unlike as wide
from benchmarks._mixture_figures import figures
from benchmarks._mixture_groups import GROUPS, STAGES
from benchmarks._mixture_methods import TITLES, Found
from benchmarks._mixture_rows import TEMPLATES, Bed, Sgd, adam, cosine, sgd, sghmc, stein
from benchmarks._mixture_tasks import TEST_SEEDS, VALIDATION_SEEDS, draw, towers
from benchmarks._rows import read
from varprompt.config import PromptConfig
from varprompt.model import PromptedCLIP
from varprompt.objective import objective
from varprompt.uncertainty import nll

STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def task(folder):
    return draw("Digits", 901, 4, towers(), folder)


@pytest.fixture(scope="module")
def bed(task):
    return Bed.of(task, towers())


def test_tasks_are_drawn_anew_for_each_seed(task, folder):
    again, other = (draw("Digits", seed, 2, towers(), folder) for seed in (901, 902))
    assert again.names == task.names and other.names["base"] != task.names["base"]
    assert not set(task.names["base"]) & set(task.names["new"])
    assert task.train.labels.bincount().tolist() == [4] * 5
    for c in range(5):  # fewer shots are the first ones
        mine, few = (t.train.features[t.train.labels == c] for t in (task, again))
        assert torch.equal(few, mine[:2])
    rows = torch.cat([task.train.features, task.val.features, task.test["base"].features])
    assert len(rows.unique(dim=0)) == len(rows)
    assert not set(TEST_SEEDS) & set(VALIDATION_SEEDS) and len(TEST_SEEDS) == 15


def test_rows_are_the_shipped_mixture(bed, task):
    """Six MAPs as rows of one pass take the steps of POSTERIOR mixture with its options."""
    config = PromptConfig(
        posterior="mixture", templates=TEMPLATES, component="delta", residual="per_token",
        learn_context=False, objective="elbo", kl_weight=1.0, kl_reduction="elbo",
        prior_unit="token_rms", prior_std=methods.PRIOR, mem_budget=50_000_000,
    )  # fmt: skip
    model = PromptedCLIP(bed.towers.clip, task.names["base"], config)
    bound = model.objective_config(bed.n_images)
    shifts = model.prompt_learner.posterior.shifts

    def shipped():
        logits, kl = model.logits_of(bed.train.features)
        return objective(logits, bed.train.labels, kl, bound).loss

    adam([shifts], shipped, steps=STEPS)
    x = bed.templates.clone().requires_grad_()
    precision = torch.full((6,), (methods.PRIOR * bed.rms) ** -2)
    adam([x], lambda: bed.map_loss(x, bed.templates, precision).sum(), steps=STEPS)
    moved = (x - bed.templates).detach()
    assert moved.abs().max() > 0.02
    # Adam divides by the size of the gradient: a sum or a mean over rows are the same steps, but
    # for a few numbers whose gradient is next to nothing
    assert (shifts.detach() - moved).abs().mean() < 1e-5


def test_a_row_of_sgd_is_torchs_sgd(bed):
    recipe = Sgd(epochs=3, precision=7.0)
    rows = sgd(bed, bed.templates[:2], [3, 4], recipe)
    context, start = torch.nn.Parameter(bed.templates[1:2].clone()), bed.templates[1:2]
    optimizer = torch.optim.SGD([context], 1.0, momentum=0.9, weight_decay=recipe.decay)
    generator = torch.Generator().manual_seed(4)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.02 * cosine(epoch - 1, 3) if epoch else 1e-5
        index = torch.randperm(bed.n_images, generator=generator)  # 20 images: one batch
        loss = bed.nll(context, bed.train.features[index], bed.train.labels[index]).sum()
        optimizer.zero_grad()
        (loss + 7.0 * (context - start).square().sum() / (2 * bed.n_images)).backward()
        torch.nn.utils.clip_grad_norm_([context], 1.0)
        optimizer.step()
    torch.testing.assert_close(rows[1:], context.detach(), rtol=0, atol=1e-6)
    four = dataclasses.replace(recipe, epochs=4)
    ends = [
        sgd(bed, bed.templates[:1], [3], dataclasses.replace(four, averaged=averaged))
        for averaged in (False, True)
    ]
    assert not any(end.requires_grad for end in ends)
    assert not torch.allclose(*ends, atol=1e-5) and torch.allclose(*ends, atol=0.01)


class OfThePrior(Bed):
    """Without images: what is left is the prior."""

    def map_loss(self, contexts, start, precision):
        return (contexts - start).square().sum((1, 2)) * precision / (2 * self.n_images)


def test_sghmc_samples_what_it_says(bed):
    """Of the prior alone: snapshots of 256 numbers each have its standard deviation."""
    prior = OfThePrior(**{f.name: getattr(bed, f.name) for f in dataclasses.fields(bed)})
    precision = 70.0
    found = sghmc(
        prior, bed.templates[0], precision=precision, eta=2e-4, seed=0, cycles=30, steps=400
    )
    assert len(found) == 30 and found.std(0).min() > 0
    deviation = (found[3:] - bed.templates[0]).square().mean().sqrt()
    assert deviation * precision**0.5 == pytest.approx(1, abs=0.15)  # steps are not small


def test_particles_repel_each_other():
    at = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]])
    alone = torch.tensor([[[0.3, 0.4]]])
    direction = stein(at, torch.zeros_like(at))
    assert direction[0, 0, 0] > 0 > direction[1, 0, 0]  # a step goes against it: apart
    far = torch.cat([at[:1], at[:1] + 1e3, at[:1] - 1e3])
    pulled = stein(far, alone.expand(3, -1, -1))
    assert (pulled > 0).all()  # where they are far apart, each follows its own gradient


def test_kl_of_the_full_covariance(bed, task, monkeypatch):
    seen = {}

    def keep(bed, values, draw):
        torch.manual_seed(0)
        with torch.no_grad():
            for value in values:
                value.add_(0.05 * torch.randn_like(value))
            seen["values"], seen["kl"] = values, draw(1)[1]
            seen["draws"] = torch.cat([draw(1000)[0] for _ in range(4)]).flatten(1)

    monkeypatch.setattr(methods, "_variational", keep)
    methods.full(bed, task, 1)
    mean, logvar, below = seen["values"]
    root = below.tril(-1) + (logvar / 2).exp().diag()
    prior = methods.PRIOR * bed.rms
    q = MultivariateNormal(mean, scale_tril=root)
    p = MultivariateNormal(torch.zeros_like(mean), scale_tril=prior * torch.eye(len(mean)))
    torch.testing.assert_close(seen["kl"], kl_divergence(q, p), rtol=1e-4, atol=1e-3)
    spread = seen["draws"] - bed.templates[0].flatten() - mean
    covariance = root @ root.T
    error = (spread.T @ spread / len(spread) - covariance).square().mean().sqrt()
    assert error < 0.05 * covariance.diagonal().mean()


def test_figures_are_those_of_the_predictions(bed, task):
    found = figures(bed, task, Found(bed.templates))
    log_prob = Found(bed.templates).log_prob(bed, task.test["new"], "new")
    own = sum(bed.logits(t[None], task.test["new"].features, "new")[0].softmax(-1)
              for t in bed.templates) / 6  # fmt: skip
    torch.testing.assert_close(log_prob.exp(), own)
    labels = task.test["new"].labels
    right = (own.argmax(-1) == labels).double().mean().item()
    assert found["new/accuracy"] == pytest.approx(100 * right)
    assert found["new/nll"] == pytest.approx(nll(log_prob, labels))
    assert found["new/best/nll"] <= found["new/nll"] and found["new/best/nll"] <= found["new/t/nll"]
    assert found["all/new"] <= found["new/accuracy"]
    every = bed.logits(bed.templates, task.test["new"].features, "all").softmax(-1).mean(0)
    right = (every.argmax(-1) == labels + 5).double().mean().item()
    assert found["all/new"] == pytest.approx(100 * right)


def test_weights_and_merging(bed, task):
    weights = torch.tensor([0.5, 0.5, 0, 0, 0, 0]).log()
    got = Found(bed.templates, log_weights=weights).log_prob(bed, task.val, "base")
    torch.testing.assert_close(got, Found(bed.templates[:2]).log_prob(bed, task.val, "base"))
    merged = Found(bed.templates, merged=True).log_prob(bed, task.val, "base")
    logits = bed.logits(bed.templates, task.val.features).mean(0)
    torch.testing.assert_close(merged, logits.log_softmax(-1))


def test_every_method_has_a_title_and_a_stage(bed, task, monkeypatch):
    """Each group gives what is in the table, after next to no steps."""
    for module in (methods, added_later, wide):
        monkeypatch.setattr(module, "adam", lambda values, loss: adam(values, loss, steps=1))
    monkeypatch.setattr(methods, "Sgd", lambda **o: Sgd(**{**o, "epochs": 2}))
    monkeypatch.setattr(methods, "sghmc", lambda *a, **o: sghmc(*a, **o, steps=2))
    assert sorted(itertools.chain(*STAGES)) == sorted(GROUPS)
    found = {}
    for group in GROUPS.values():
        found |= group(bed, task, 1)
    assert found.keys() == TITLES.keys() | added_later.ADDED_TITLES.keys() | set(methods.EACH)
    for name, one in found.items():
        log_prob = one.log_prob(bed, task.val, "base")
        assert log_prob.exp().sum(-1).sub(1).abs().max() < 1e-4, name
    assert found["mixture_evidence"].log_weights.exp().sum() == pytest.approx(1)


def test_a_second_call_goes_on(folder, tmp_path, capsys):
    words = ["--datasets", "Digits", "--seeds", "1", "--shots", "1", "--data", str(folder),
             "--output", str(tmp_path / "r.json")]  # fmt: skip
    assert mixture.main([*words, "--groups", "zero_shot"]) == 0
    rows = read(tmp_path / "r.json", mixture.KEY)
    assert {row["method"] for row in rows} == {"zero_shot", "zero_shot_6"}
    assert {(row["dataset"], row["seed"], row["shots"]) for row in rows} == {("Digits", 1, 1)}
    assert "Digits: zero_shot" in capsys.readouterr().err
    assert mixture.main([*words, "--groups", "zero_shot"]) == 0
    assert capsys.readouterr().err == "" and read(tmp_path / "r.json", mixture.KEY) == rows
    assert mixture.main([*words, "--groups", "none"]) == 2
    assert "no groups ['none']; choose from zero_shot" in capsys.readouterr().err


def rows_of(values):
    """A table of two sets, three seeds and methods with given H."""
    return [
        {"dataset": d, "seed": s, "shots": 16, "method": m, "rows": 1,
         **{key: h + s + 10 * (d == "b") for key in
            ("base/accuracy", "new/accuracy", "all/base", "all/new", "base/ece", "new/ece",
             "new/t/ece", "base/best/nll", "new/best/nll", "base/aurc", "new/aurc")}}
        for d in "ab" for s in (1, 2, 3) for m, h in values.items()
    ]  # fmt: skip


def test_tables_are_paired_and_leave_out_what_is_incomplete(tmp_path, capsys):
    values = dict.fromkeys(methods.EACH, 50.0) | {"map": 50.0, "mixture": 52.0, "coop_50": 51.0}
    values["map_3"] = 51.5
    rows = rows_of(values)
    runs = _mixture_report.Runs(rows[:-1], 16)
    assert runs.seeds == [1, 2]  # the last row of seed 3 is missing
    runs = _mixture_report.Runs(rows, 16)
    assert (runs.sets, runs.seeds, runs.best_single()) == (["a", "b"], [1, 2, 3], "map_3")
    by_seed, by_set = runs.differences("mixture", "map", "H")
    assert by_seed == pytest.approx([2] * 3) and by_set == pytest.approx([2] * 2)
    text = _mixture_report.differences(runs, "mixture", "H")
    assert "| CoOp, 50 epochs | +1.000 | 0.000 | 0.000 | 2/2 |" in text
    assert "| best single template in hindsight | +0.500 |" in text
    _mixture_report.report(rows, tmp_path / "f.png")
    shown = capsys.readouterr().out
    assert "16 shots: 2 sets x 3 seeds" in shown and (tmp_path / "f.png").stat().st_size > 10_000
    assert math.isclose(runs.mean("map", "H"), 57.0)
