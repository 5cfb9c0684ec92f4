"""The line about the highest H."""

from varprompt.report.best import ABOUT, highest
from varprompt.report.layout import Method
from varprompt.report.runs import Run


def runs_of(config, dataset, values, seeds=(1, 2)):
    method = Method("VPT", config, shots=16)
    return [
        Run(method, dataset, dataset, part, seed, {"accuracy": accuracy + seed}, "file")
        for part, accuracy in zip(("base", "new"), values, strict=True) for seed in seeds
    ]  # fmt: skip


def test_the_highest_mean_over_data_sets_is_named_and_explained():
    found = [
        *runs_of("embedded", "chalk", (90, 50)), *runs_of("embedded", "digits", (50, 50)),
        *runs_of("embedded_mixture", "chalk", (60, 60)),
        *runs_of("embedded_mixture", "digits", (70, 70)),
    ]  # fmt: skip
    text = highest(found)
    assert text.startswith("Highest H: VPT embedded_mixture, 66.50 ±6.35. ")
    assert text.endswith(ABOUT["VPT embedded_mixture"])
    # a mean of fewer data sets is not compared with a whole one
    found += runs_of("best", "chalk", (99, 99))
    assert highest(found) == text
    assert highest(runs_of("embedded", "chalk", (90, 50))).startswith("Highest H: VPT, 65.9")


def test_nothing_is_said_where_a_half_is_missing():
    assert highest([run for run in runs_of("x", "chalk", (1, 2)) if run.part == "base"]) == ""
    assert highest([]) == ""
