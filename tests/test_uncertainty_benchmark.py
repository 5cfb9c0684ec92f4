"""The benchmark of uncertainty: its statistics, its file, and that it measures what is shipped."""

import math
import random

import pytest
import torch
from scipy import stats

from benchmarks import _embedded_runs as runs
from benchmarks import _uncertainty_report, uncertainty
from benchmarks._uncertainty_stats import Table, holm, p_value, rank_agreement
from varprompt.config import PromptConfig
from varprompt.errors import ConfigError
from varprompt.model import PromptedCLIP, zero_shot
from varprompt.objective import sample_log_prob
from varprompt.towers.load import load_clip

NAMES = ["sun", "yin yang", "king"]


def features(n):
    return torch.nn.functional.normalize(
        torch.randn(n, 128, generator=torch.Generator().manual_seed(3)), dim=-1
    )


def model(names=NAMES, **options):
    torch.manual_seed(0)
    return PromptedCLIP(
        load_clip("embedded"), names, PromptConfig(precision="fp32", n_samples_test=3, **options)
    )


@pytest.mark.parametrize("conditional", [False, True])
def test_logits_are_those_that_the_predictor_averages(conditional, monkeypatch):
    monkeypatch.setattr(runs, "BATCH", 4)  # in two batches: the noise is one for all images
    learned = model(posterior="gaussian", conditional=conditional)
    logits = runs.logits_of(learned, features(5))
    expected = learned.predictor().samples(features(5))
    assert logits.shape == (3, 5, 3)
    assert torch.allclose(sample_log_prob(logits), expected, atol=1e-5)


def test_a_prompt_learner_before_its_first_step_is_zero_shot():
    untrained = model(ctx_init="a photo of a")
    expected = zero_shot(untrained.towers, NAMES, ["a photo of a {}."])(features(5))
    assert torch.allclose(untrained.predictor()(features(5)), expected, atol=1e-5)


def test_other_classes_get_the_same_prompts():
    learned, others = model(), ["crown", "cat"]
    with torch.no_grad():
        learned.prompt_learner.ctx.add_(0.1)
    expected = model([*NAMES, *others])
    expected.prompt_learner.load_state_dict(learned.prompt_learner.state_dict())
    found = runs.logits_of(runs.with_classes(learned, others), features(5))
    assert torch.allclose(found, runs.logits_of(expected, features(5))[..., 3:], atol=1e-4)


def test_p_values_are_those_of_the_t_test_and_of_holm():
    generator = random.Random(5)
    values = [generator.gauss(0.4, 1) for _ in range(7)]
    assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert (p_value([0.3]), p_value([0.0, 0.0]), p_value([1.0, 1.0])) == (None, 1.0, 0.0)
    assert holm([0.01, None, 0.04, 0.03, 0.5]) == pytest.approx([0.04, None, 0.09, 0.09, 0.5])
    assert rank_agreement([1, 2, 3], [30, 20, 10]) == -1


SAMPLED = ("vpt", "mixture")


def row(dataset, seed, method):
    """Made-up figures: the accuracy is 50 + seed for all methods but CoOp's, which have 3 more."""
    accuracy = 50.0 + seed + 3 * method.startswith("coop") + 0.1 * runs.SETS.index(dataset)
    found = {"dataset": dataset, "seed": seed, "method": method}
    for calibrator in _uncertainty_report.CALIBRATED:
        for part in ("base", "new", "few"):
            found[f"{part}/{calibrator}/accuracy"] = accuracy
            found[f"{part}/{calibrator}/ece"] = hash_free(dataset, seed, method)
            found[f"{part}/{calibrator}/nll"] = 1 + hash_free(method, dataset)
        found[f"base/{calibrator}/n_samples"] = 2 if method.startswith(SAMPLED) else 1
        for name in ("entropy", "mutual_information"):
            found[f"ood/{calibrator}/ood_{name}_auroc"] = accuracy
    return found


def hash_free(*parts):
    return 10 * random.Random(str(parts)).random()


ROWS = [row(d, s, m) for s in (1, 2, 3) for d in runs.SETS for m in runs.METHODS][:-1]


def test_only_complete_seeds_count_and_differences_are_paired():
    table = Table(ROWS)
    assert table.seeds == [1, 2] and table.left_out == len(runs.SETS) * len(runs.METHODS) - 1
    assert table.mean(("map", "none"), "base/accuracy") == pytest.approx(51.5 + 0.35)
    assert table.mean(("map", "none"), "base/aurc") is None
    known = {m: table.mean((m, "none"), "ood/ood_mutual_information_auroc") for m in table.methods}
    assert [m for m in known if known[m]] == [m for m in runs.METHODS if m.startswith(SAMPLED)]
    found = table.difference(("coop_50", "none"), ("map", "none"), "H")
    assert found.mean == pytest.approx(3) and found.n_sets_up == 8
    ece = table.difference(("coop_50", "none"), ("map", "none"), "base/ece")
    by_seed = [
        sum(hash_free(d, s, "coop_50") - hash_free(d, s, "map") for d in runs.SETS) / 8
        for s in (1, 2)
    ]
    low, high = stats.ttest_1samp(by_seed, 0).confidence_interval()
    assert (ece.mean - ece.over_seeds, ece.mean + ece.over_seeds) == pytest.approx((low, high))
    by_set = [
        sum(hash_free(d, s, "coop_50") - hash_free(d, s, "map") for s in (1, 2)) / 2
        for d in runs.SETS
    ]
    assert ece.p == pytest.approx(stats.ttest_1samp(by_set, 0).pvalue), "two seeds are no unit"


def test_without_a_complete_seed_the_slowest_methods_are_left_out(capsys, tmp_path):
    for number in (1, 2):
        table = Table([r for r in ROWS if r["method"] not in runs.SLOW[-number:]])
        assert table.seeds == [1, 2, 3]
        assert set(runs.METHODS) - set(table.methods) == set(runs.SLOW[-number:])
    some = [r for r in ROWS if (r["dataset"], r["method"]) != ("zoom", "map")]
    cut = Table([r for r in some if r["method"] not in runs.SLOW])
    assert cut.seeds == [1, 2, 3] and cut.sets == [d for d in runs.SETS if d != "zoom"]
    assert Table([r for r in ROWS if r["dataset"] == "digits"]).sets == ["digits"]
    _uncertainty_report.report(ROWS[:5], tmp_path / "rows.png")
    assert "there is no set yet" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "rows.json"
    assert uncertainty.read(path) == []
    rows = [ROWS[0], {**ROWS[5], "base/none/piece": 1.25}]
    uncertainty.write(path, rows, {"environment": {}})
    assert uncertainty.read(path) == rows
    assert [len(line) > 50 for line in path.read_text().split("\n")].count(True) == 2
    path.write_text('{"rows": 3}')
    with pytest.raises(ConfigError, match=r"rows\.json is not a file of this benchmark"):
        uncertainty.read(path)
    assert uncertainty.main(["--report", "--output", str(path)]) == 2


def test_the_report_has_tables_means_and_a_figure(tmp_path, capsys):
    path = tmp_path / "rows.json"
    uncertainty.write(path, ROWS, {})
    assert uncertainty.main(["--report", "--output", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"Seeds 1, 2; sets {', '.join(runs.SETS)}; 87 runs beside these are left" in printed
    start = "| CoOp, 50 epochs minus zero-shot |"
    line = next(x for x in printed.split("\n") if x.startswith(start))
    assert line.split(" | ")[1] == "**+3.0 ±0.0 (±0.0)**"
    means = (tmp_path / "rows.csv").read_text().split("\n")
    assert means[1].split(",")[:2] == ["H", "51.85"]
    assert (tmp_path / "rows.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_are_kept_to_five_digits():
    assert [uncertainty.rounded(x) for x in (None, 12.345678, 1e-7 / 3)] == [
        None, 12.346, 3.3333e-08,
    ]  # fmt: skip
    assert math.isfinite(uncertainty.rounded(99.9999999))
