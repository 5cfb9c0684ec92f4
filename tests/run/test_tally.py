"""What a test counts, batch by batch."""

import math

import pytest
import reference
import torch

from varprompt.run import tally as counted
from varprompt.run.tally import Tally
from varprompt.uncertainty import decompose, summary


def batch(n, n_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    log_prob = (3 * torch.randn(n, n_classes, generator=generator)).log_softmax(-1)
    return log_prob, torch.randint(n_classes, (n,), generator=generator)


def test_summary_over_batches():
    log_prob, labels = batch(101, 7)
    tally = Tally()
    for part in zip(log_prob[None].split(13, 1), labels.split(13), strict=True):
        tally.update(*part)
    names = [f"class {i}" for i in range(7)]
    found = tally.summary(names)
    hits = log_prob.argmax(-1) == labels
    assert found["accuracy"] == pytest.approx(100 * hits.float().mean().item())
    assert found["nll"] == pytest.approx(torch.nn.functional.nll_loss(log_prob, labels).item())
    want = reference.calibration_error(log_prob.max(-1)[0].exp().tolist(), hits.tolist())
    assert found["ece"] == pytest.approx(100 * want)
    assert (found["n_total"], found["n_correct"]) == (101, int(hits.sum()))
    for label, name in enumerate(names):
        mine = hits[labels == label]
        assert found["per_class"][str(label)]["name"] == name
        assert found["per_class"][str(label)]["total"] == len(mine)
        assert found["per_class"][str(label)]["accuracy"] == pytest.approx(
            100 * mine.float().mean().item()
        )
    matrix = torch.zeros(7, 7, dtype=torch.long)
    for label, row in found["per_class"].items():
        for predicted, count in row["predicted"].items():
            matrix[int(label), int(predicted)] = count
    pairs = 7 * labels + log_prob.argmax(-1)
    assert matrix.equal(pairs.bincount(minlength=49).view(7, 7))


def test_reliability_adds_up_to_accuracy_and_ece():
    log_prob, labels = batch(203, 5, seed=3)
    tally = Tally()
    tally.update(log_prob[None], labels)
    found = tally.summary(list("abcde"))
    points = found["reliability"]
    assert [p["low"] for p in points] == sorted({p["low"] for p in points}) and len(points) > 5
    assert all(p["low"] < p["confidence"] <= p["high"] for p in points)
    assert sum(p["count"] for p in points) == 203
    hits = sum(p["count"] * p["accuracy"] for p in points)
    assert hits / 203 == pytest.approx(found["accuracy"])
    gaps = sum(p["count"] * abs(p["accuracy"] - p["confidence"]) for p in points)
    assert gaps / 203 == pytest.approx(found["ece"])


def test_monte_carlo_error_is_the_jackknifes():
    """Against leaving out each sample in turn; nothing to leave out is no error."""
    parts = [batch(31, 4, seed) for seed in range(5)]
    samples, labels = torch.stack([log_prob for log_prob, _ in parts]), parts[0][1]
    tally = Tally()
    for part in zip(samples.split(8, 1), labels.split(8), strict=True):
        averaged = tally.update(*part)
    assert torch.allclose(averaged.exp(), samples[:, 24:].exp().mean(0))
    rest = [[s for s in range(5) if s != out] for out in range(5)]
    accuracies = [
        100 * (samples[some].exp().mean(0).argmax(-1) == labels).double().mean() for some in rest
    ]
    mean = sum(accuracies) / 5
    want = math.sqrt(4 / 5 * sum((a - mean) ** 2 for a in accuracies))
    assert want > 0
    assert tally.summary(list("abcd"))["accuracy_mc_error"] == pytest.approx(want)
    alone = Tally()
    alone.update(samples[:1], labels)
    assert alone.summary(list("abcd"))["accuracy_mc_error"] is None


def test_of_very_many_images_and_classes_no_distribution_is_kept(monkeypatch):
    monkeypatch.setattr(counted, "_MOST_KEPT", 31 * 4 - 1)
    log_prob, labels = batch(31, 4)
    tally, bare = Tally(keep=True), Tally()
    for each in (tally, bare):
        for part in zip(log_prob[None].split(8, 1), labels.split(8), strict=True):
            each.update(*part)
    assert tally.uncertainty() == {} and not tally.keep
    assert tally.summary(list("abcd")) == bare.summary(list("abcd"))


@pytest.mark.parametrize("most", [2**28, 0])
def test_all_figures_of_what_was_kept(most, monkeypatch):
    """Those of `summary`; of too many samples only their average is kept, and no error of draws."""
    monkeypatch.setattr(counted, "_MOST_KEPT", most or 31 * 4)
    parts = [batch(31, 4, seed) for seed in range(3)]
    samples, labels = torch.stack([log_prob for log_prob, _ in parts]), parts[0][1]
    tally = Tally(keep=True)
    for part in zip(samples.split(8, 1), labels.split(8), strict=True):
        tally.update(*part)
    assert torch.equal(tally.labels, labels) and len(tally.samples) == (3 if most else 1)
    found, want = tally.uncertainty(), summary(samples, labels)
    kept = {n: v for n, v in want.items() if most or not n.endswith("_mc_error")}
    whole = {"aleatoric", "epistemic", "accuracy", "nll", "ece_10", "aurc", "entropy"}
    for name in kept if most else whole:
        assert found["uncertainty"][name] == pytest.approx(want[name], abs=1e-5), name
    assert found["uncertainty"]["n_samples"] == 3
    wants = decompose(samples)
    for name, values in vars(tally.parts).items():
        assert torch.allclose(values, getattr(wants, name)), name
    curve = found["risk_coverage"]
    assert curve["coverage"] == [5.0 * step for step in range(1, 21)]
    log_prob = samples.logsumexp(0) - math.log(3)
    order = log_prob.max(1)[0].argsort(descending=True)
    wrong = (log_prob.argmax(1) != labels)[order].double()
    sizes = [math.ceil(31 * step / 20) for step in range(1, 21)]
    assert curve["risk"] == pytest.approx([100 * wrong[:n].mean().item() for n in sizes])


def test_components_that_are_no_draws_have_no_error_of_draws():
    samples, labels = torch.stack([batch(31, 4, seed)[0] for seed in range(3)]), batch(31, 4)[1]
    drawn, fixed = Tally(keep=True), Tally(keep=True, drawn=False)
    for tally in (drawn, fixed):
        tally.update(samples, labels)
    found = [tally.summary(list("abcd")) | tally.uncertainty() for tally in (drawn, fixed)]
    errors = [key for key in found[0]["uncertainty"] if key.endswith("_mc_error")]
    assert errors and found[0].pop("accuracy_mc_error") > 0
    assert found[1].pop("accuracy_mc_error") is None
    for key in errors:
        del found[0]["uncertainty"][key]
    assert found[0] == found[1]


def test_classes_without_images_are_left_out():
    tally = Tally()
    tally.update(torch.zeros(1, 2, 3).log_softmax(-1), torch.tensor([0, 2]))
    found = tally.summary(["a", "b", "c"])["per_class"]
    assert [(label, row["name"]) for label, row in found.items()] == [("0", "a"), ("2", "c")]


def test_classes_of_one_name_are_two():
    tally = Tally()
    tally.update(torch.tensor([[[0.9, 0.1], [0.9, 0.1]]]).log(), torch.tensor([0, 1]))
    found = tally.summary(["hot dog", "hot dog"])["per_class"]
    assert [row["accuracy"] for row in found.values()] == [100, 0]
