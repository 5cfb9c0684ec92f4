"""What a training costs: the command, its memory rule, the measured rows."""

import csv
import sys

import pytest
import yaml

from benchmarks import cost as benchmark
from benchmarks._setup import prompted_clip, random_clip
from varprompt.commands import cost
from varprompt.commands.cost import CLASSES, TRAINERS, Tower, work_of
from varprompt.common.console import run_tool
from varprompt.settings.recipes import ROOT, default_config, recipes
from varprompt.towers.image import PromptedImageEncoder


@pytest.fixture(scope="module")
def tower():
    return Tower("ViT-B/16", "fp16")


def run(*words):
    return run_tool("varprompt.commands.cost", list(words))


@pytest.mark.parametrize("dataset", CLASSES)
def test_trainings_are_the_official_ones(dataset):
    work, recipe = work_of(dataset, "VPT"), recipes()["vpt"][dataset]
    assert (work.samples, work.batch) == (recipe["L"], 1)
    assert work.classes == -(-CLASSES[dataset] // 2)
    assert work.steps == recipe["epochs"] * work.classes * 16
    coop = work_of(dataset, "CoOp")
    epochs = 50 if dataset == "imagenet" else 200
    assert (coop.samples, coop.steps) == (1, epochs * (work.classes * 16 // 32))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_batches_and_epochs_are_those_of_the_configs(trainer):
    name = default_config(trainer, "dtd", "base2new", "16")
    config = yaml.safe_load((ROOT / f"configs/trainers/{trainer}/{name}.yaml").read_text())
    recipe, work = TRAINERS[trainer], work_of("dtd", trainer)
    assert recipe.batch == work.batch == config["DATALOADER"]["TRAIN_X"]["BATCH_SIZE"]
    assert recipe.epochs == config["OPTIM"]["MAX_EPOCH"]
    node = config["TRAINER"].popitem()[1]
    assert recipe.n_visual == node.get("N_CTX_VISION", node["N_CTX"] if "MaPLe" in trainer else 0)
    assert recipe.draws == ("VPT" in trainer)
    assert work.samples == (40 if trainer == "VPT" else node.get("L", 10) if recipe.draws else 1)


def test_fewer_images_than_a_batch_are_one_batch():
    work = work_of("eurosat", "KgCoOp")
    assert (work.batch, work.steps) == (80, 100)
    assert work_of("caltech101", "KgCoOp").steps == 100 * (800 // 128)


def test_prompted_images_take_memory(tower, capsys):
    assert tower.images(work_of("dtd", "VPT")) == 0
    image, four = (tower.images(work_of("dtd", t)) for t in ("MaPLe", "PromptSRC"))
    assert 0 < image < four < 1.02 * image  # two more tokens of 199
    one = PromptedImageEncoder(tower.clip, lambda: image // 4)
    assert one._chunk(199, 2, backward=True) == 1 and image % 4 == 0
    assert run("--dataset", "dtd", "--trainer", "VPT_MaPLe") == 0
    assert f"images with prompts: {image / 1e9:.2f} GB" in capsys.readouterr().out


def test_data_sets_are_those_of_the_recipes():
    assert set(CLASSES) == set(recipes()["datasets"])


def test_a_tower_takes_its_weights_and_no_memory(tower):
    assert tower.weights == pytest.approx(149.6e6 * 2, rel=0.01)  # 149.6 million parameters
    assert all(p.is_meta for p in tower.clip.parameters())


def test_memory_grows_with_samples_and_pieces_with_less_memory(tower):
    tokens = tower.tokens(work_of("imagenet", "VPT"))
    whole = [tower.whole(tokens, n) for n in (1, 5, 10, 20)]
    assert [b / a for a, b in zip(whole[1:], whole[2:], strict=False)] == pytest.approx(
        [2, 2], rel=0.01
    )
    assert tower.pieces(tokens, 10, whole[2]) == 1 < tower.pieces(tokens, 10, whole[2] - 1)
    pieces = [tower.pieces(tokens, 10, whole[2] // n) for n in (1, 2, 4, 8)]
    assert pieces == sorted(pieces) and pieces[-1] >= 8


def test_command(capsys, monkeypatch, tmp_path):
    row = dict.fromkeys(benchmark.FIELDS, "1") | {
        "dataset": "imagenet", "trainer": "VPT", "L": 10, "device": "a machine", "s_step": "36.0",
    }  # fmt: skip
    benchmark.add(tmp_path / "cost.csv", row)
    monkeypatch.setattr(cost, "MEASURED", tmp_path / "cost.csv")
    assert run("--dataset", "imagenet", "--trainer", "VPT", "--gpu-memory", "80") == 0
    said = capsys.readouterr().out
    assert "500 base classes, L = 10, batch 1, 80,000 steps" in said
    assert "80 GB: fits, in one piece" in said
    assert "a machine, 1 thread(s): 36.00 s a step, 800.0 h in all" in said
    assert run("--gpu-memory", "4") == 0 and "4 GB: fits, in " in capsys.readouterr().out
    assert run("--gpu-memory", "0.2") == 1 and "does not fit" in capsys.readouterr().out
    assert run("--dataset", "dtd") == 0 and "time: not measured" in capsys.readouterr().out


def test_what_is_wrong_is_said_at_once(capsys):
    assert run("--dataset", "dtdd", "--trainer", "vpt", "--gpu-memory", "0") == 2
    said = capsys.readouterr().err
    assert "did you mean 'dtd'?" in said and "--trainer is 'vpt'" in said
    assert said.count("\n") == 3


@pytest.mark.parametrize("trainers", [["VPT", "CoCoOp"], ["VPT_MaPLe", "PromptSRC"], ["KgCoOp"]])
def test_a_row_is_measured_and_replaces_the_one_before(trainers, tmp_path, monkeypatch, capsys):
    file = tmp_path / "new.csv"
    words = f"cost.py --datasets eurosat --backbone tiny --output {file} --repeats 1 --trainers"
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*words.split(), *trainers[::-1]])
        benchmark.main()
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["trainer"] for row in rows] == trainers and set(TRAINERS) > {"VPT"}
    assert all(float(row["s_step"]) > 0 and float(row["ms_image"]) > 0 for row in rows)
    assert all(row["classes"] == "5" for row in rows)
    for more in (["--limit", "0"], ["--missing"]):  # what takes too long is left out
        monkeypatch.setattr(sys, "argv", [*words.split(), *trainers, *more])
        capsys.readouterr()
        benchmark.main()
        said = capsys.readouterr().out
        assert ("left out" in said) == ("--limit" in more) and " s " not in said
        assert list(csv.DictReader(file.read_text().splitlines())) == rows


def test_images_are_timed_once_and_added(tmp_path, monkeypatch):
    """A step of 80 images on the tiny tower: their time is in the row, not in the step."""
    machine = benchmark.Measured(
        benchmark.parser().parse_args(["--backbone", "tiny", "--repeats", "1"])
    )
    monkeypatch.setattr(machine, "image_s", lambda model, count: 1000.0 * count)
    row = machine.row(work_of("eurosat", "KgCoOp"))
    assert float(row["s_step"]) == pytest.approx(80_000, abs=60)
    assert row["ms_image"] == "1000000.0"
    assert float(machine.row(work_of("eurosat", "MaPLe"))["s_step"]) < 60


def test_names_of_imagenet_that_stand_for_two_classes_are_no_error():
    names = cost.names_like("imagenet", 500)
    assert len({name.lower() for name in names}) < 500
    model = prompted_clip(random_clip("tiny"), names, "CoOp", 1)
    assert model.tokens.n_classes == 500
