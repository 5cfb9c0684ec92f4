"""Which runs are found, and what they are called."""

from pathlib import Path

import pytest
from outputs import BASE, NEW, says

from varprompt.report.runs import find_runs

ROOT = Path(__file__).resolve().parents[2]


LAYOUTS = [
    # path, end of training, (trainer, config, variant, shots, source, dataset, part, seed)
    (
        "base2new/train_base/dtd/shots_16/VPT/embedded/seed1",
        "Finish training",
        ("VPT", "embedded", "", 16, "dtd", "dtd", "base", 1),
    ),
    (
        "base2new/test_new/dtd/shots_4/CoCoOp/x/seed12",
        "",
        ("CoCoOp", "x", "", 4, "dtd", "dtd", "new", 12),
    ),
    (
        "base2new/train_base/dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1",
        "Finished training",
        ("MaPLe", "vit_b16_c2_ep5_batch4_2ctx", "", 16, "dtd", "dtd", "base", 1),
    ),
    (
        "base2new/train_base/dtd/mcmc_40_epochs_10/shots_16/VPT/c/seed3",
        "Finish training",
        ("VPT", "c", "mcmc_40_epochs_10", 16, "dtd", "dtd", "base", 3),
    ),
    (
        "base2new/test_new/dtd/shots_16_ctx_4_arch_rn50/VPT/c/seed3",
        "",
        ("VPT", "c", "ctx_4_arch_rn50", 16, "dtd", "dtd", "new", 3),
    ),
    (
        "imagenet/CoCoOp/x_16shots/seed2",
        "Finish training",
        ("CoCoOp", "x", "", 16, "imagenet", "imagenet", "all", 2),
    ),
    (
        "imagenet/mcmc_10_epochs_10/VPT/x_16shots/seed2",
        "Finish training",
        ("VPT", "x", "mcmc_10_epochs_10", 16, "imagenet", "imagenet", "all", 2),
    ),
    (
        "evaluation/CoCoOp/x_16shots/imagenet_a/seed2",
        "",
        ("CoCoOp", "x", "", 16, "imagenet", "imagenet_a", "all", 2),
    ),
    (
        "evaluation/CoOp/rn50_ep50_16shots/nctx16_cscFalse_ctpend/dtd/seed1",
        "",
        ("CoOp", "rn50", "nctx16_cscFalse_ctpend", 16, "imagenet", "dtd", "all", 1),
    ),
    (
        "dtd/CoOp/rn50_8shots/nctx16_cscFalse_ctpend/seed1",
        "Finish training",
        ("CoOp", "rn50", "nctx16_cscFalse_ctpend", 8, "dtd", "dtd", "all", 1),
    ),
    ("ZeroshotCLIP/vit_b16/dtd", "", ("ZeroshotCLIP", "vit_b16", "", 0, "", "dtd", "all", None)),
    (
        "ZeroshotCLIP2/rn50/dtd/new",
        "",
        ("ZeroshotCLIP2", "rn50", "", 0, "", "dtd", "new", None),
    ),
]


@pytest.mark.parametrize("path, end, expected", LAYOUTS, ids=[path for path, *_ in LAYOUTS])
def test_every_layout_is_understood(output, path, end, expected):
    output.log(path, 45.5, end)
    for root in (output.root, output.root / path.split("/")[0]):
        found = find_runs(root)
        assert found.problems == []
        (run,) = found.runs
        m = run.method
        got = (m.trainer, m.config, m.variant, m.shots, run.source, run.dataset, run.part, run.seed)
        assert got == expected
        assert (run.metrics, run.exact) == ({"accuracy": 45.5}, False)


def test_full_precision_is_preferred(output):
    output.json(f"{BASE.format('dtd')}/VPT/c/seed1", 45.5678, ece=7.25)
    (run,) = find_runs(output.root).runs
    assert run.metrics == {"accuracy": 45.5678, "macro_f1": 45.5678, "nll": 1.0, "ece": 7.25}
    assert run.exact and run.file.endswith("results.json")


def test_training_log_needs_the_end_of_training(output):
    path = f"{BASE.format('dtd')}/VPT/c/seed1"
    output.log(path, 45.5)
    assert "unfinished" in find_runs(output.root).problems[0]
    output.log(path, 46.5, "Finish training", "log.txt-2026-11-01-10-00-00")
    assert find_runs(output.root).runs[0].metrics == {"accuracy": 46.5}


@pytest.mark.parametrize(
    "field, value",
    [("trainer", "CoOp"), ("seed", 2), ("subsample_classes", "new"), ("shots", 4)],
)
def test_results_that_contradict_their_path_are_left_out(output, field, value):
    output.json(f"{BASE.format('dtd')}/VPT/c/seed1", 45.0, **{field: value})
    found = find_runs(output.root)
    assert found.runs == [] and f"{field} is {value!r}" in found.problems[0]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"accuracy": null}', '{"error": 3.0}'])
def test_damaged_results_are_named(output, text):
    path = f"{BASE.format('dtd')}/VPT/c/seed1"
    output.json(path, 45.0)
    (output.root / path / "results.json").write_text(text)
    found = find_runs(output.root)
    assert found.runs == [] and "results.json: left out" in found.problems[0]


def test_strange_places_and_second_copies_are_named(output):
    output.log("scratch", 45.0)
    output.log(f"{NEW.format('dtd')}/VPT/c/seed1", 45.0)
    output.log(f"copy/{NEW.format('dtd')}/VPT/c/seed1", 46.0)
    found = find_runs(output.root)
    assert len(found.runs) == 1
    assert sum("same run as" in text for text in found.problems) == 1
    assert sum("says nothing about" in text for text in found.problems) == 1


def test_results_outside_of_the_layout_say_what_they_are(output):
    output.json("digits", 50.0, **says())
    output.json("again", 60.0, **says(seed=2))
    output.json("faster", 70.0, **says(lr=0.1))
    output.json("textures", 40.0, **says("DescribableTextures"))
    output.json("pets", 42.0, **says("OxfordPets"))
    output.json("mine", 43.0, **says("Folder", path="data/mine"))
    output.json("zero", 30.0, **says(trainer="ZeroshotCLIP", checkpoint_sha256=""))
    runs = {Path(run.file).parent.name: run for run in find_runs(output.root).runs}
    names = ("digits", "digits", "digits", "dtd", "oxford_pets", "mine", "digits")
    order = ("digits", "again", "faster", "textures", "pets", "mine", "zero")
    assert [runs[folder].dataset for folder in order] == list(names)
    same = runs["digits"]
    assert (same.method.trainer, same.method.shots, same.source, same.part, same.seed) == (
        "VPT", 1, "digits", "all", 1,
    )  # fmt: skip
    assert same.method == runs["again"].method == runs["textures"].method == runs["mine"].method
    assert same.method != runs["faster"].method
    assert (runs["zero"].seed, runs["zero"].source, runs["zero"].method.shots) == (None, "", 0)
    table = output.tables()["fewshot"]
    means = {r.method: r.cells[1].mean for r in table.rows if r.section == "digits"}
    assert sorted(mean for mean in means.values() if mean) == [55.0, 70.0], means


def test_test_elsewhere_of_a_checkpoint_is_not_called_trained_there(output):
    output.json("transfer", 50.0, **says(checkpoint_sha256="ab"))
    assert "on what it was trained" in find_runs(output.root).problems[0]
    (output.root / "transfer/prompt_learner").mkdir()  # the best of its own models was tested
    assert len(find_runs(output.root).runs) == 1


@pytest.mark.parametrize(
    "text, why", [("{", "not readable"), ("[1]", "not readable"), ('{"trainer": "VPT"}', "says 's")]
)
def test_results_outside_of_the_layout_that_do_not_say_it(output, text, why):
    output.json("digits", 50.0)
    (output.root / "digits/results.json").write_text(text)
    found = find_runs(output.root)
    assert found.runs == [] and why in found.problems[0]
