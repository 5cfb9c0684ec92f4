"""Which model is loaded, and from which state a run goes on."""

import shutil

import pytest
import torch
from helpers import CLASSES, build, command

from varprompt.common import files
from varprompt.errors import CheckpointError, ConfigError, DataError
from varprompt.run.store import file_sha256, model_file


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """The folder of a whole VPT run of 3 epochs with a model after each."""
    output = tmp_path_factory.mktemp("finished")
    build(command(pictures, output, TRAIN__CHECKPOINT_FREQ=1)).train()
    return output


def learned(trainer):
    return {k: v.clone() for k, v in trainer.model.prompt_learner.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_layout_is_dassls(finished):
    folder = finished / "prompt_learner"
    names = {p.name for p in folder.iterdir()} - {"resume.pth.tar", "resume-before.pth.tar"}
    assert names == {"checkpoint", *(f"model.pth.tar-{n}" for n in (1, 2, 3))}
    assert (folder / "checkpoint").read_text() == "model.pth.tar-3\n"
    found = torch.load(folder / "model.pth.tar-2", weights_only=True)
    assert {"state_dict", "epoch", "optimizer", "scheduler", "val_result"} <= found.keys()
    assert (found["epoch"], found["val_result"], found["trainer"]) == (2, None, "VPT")
    assert found["classnames"] == sorted(CLASSES)
    assert found["state_dict"].keys() == {"ctx", "posterior.mu", "posterior.logvar"}


def test_which_model(finished, tmp_path):
    folder = tmp_path / "prompt_learner"
    shutil.copytree(finished / "prompt_learner", folder)
    assert model_file(tmp_path).name == "model.pth.tar-3"
    assert model_file(tmp_path, 1).name == "model.pth.tar-1"
    shutil.copy(folder / "model.pth.tar-2", folder / "model.pth.tar-10")
    shutil.copy(folder / "model.pth.tar-2", folder / "model.pth.tar-latest")
    assert model_file(tmp_path).name == "model.pth.tar-10"
    shutil.copy(folder / "model.pth.tar-2", folder / "model-best.pth.tar")
    assert model_file(tmp_path).name == "model-best.pth.tar"
    with pytest.raises(
        CheckpointError, match=r"no model of epoch 7 .*epochs there: \[1, 2, 3, 10\]"
    ):
        model_file(tmp_path, 7)
    with pytest.raises(CheckpointError, match="no trained model .*epochs there: none"):
        model_file(tmp_path / "elsewhere")


def test_loading_for_a_test(finished, pictures, tmp_path):
    trainer = build(command(pictures, tmp_path))
    fresh = learned(trainer)
    trainer.load_model("")
    assert same(learned(trainer), fresh) and trainer.checkpoint_sha256 == ""
    trainer.load_model(finished, 2)
    file = finished / "prompt_learner/model.pth.tar-2"
    assert same(learned(trainer), files.read(file)["state_dict"])
    assert trainer.loaded_epoch == 2 and trainer.checkpoint_sha256 == file_sha256(file)


def test_start_from_learned_values(finished, pictures, tmp_path):
    file = finished / "prompt_learner/model.pth.tar-3"
    trainer = build(command(pictures, tmp_path, MODEL__INIT_WEIGHTS=file))
    assert same(learned(trainer), files.read(file)["state_dict"])
    assert not trainer.optim.state_dict()["state"]


OTHERS = {
    "another trainer": ("VPT_CoCoOp", {}, "written by VPT.* lacks posterior.mean.0.weight"),
    "another posterior": (
        "VPT",
        {"TRAINER__VPT__POSTERIOR": "delta"},
        "posterior.logvar .* in excess",
    ),
    "another length": (
        "VPT",
        {"TRAINER__VPT__CTX_INIT": "a photo", "TRAINER__VPT__N_CTX": 2},
        r"ctx \(4, .* where \(2,",
    ),
    "another residual": ("VPT", {"TRAINER__VPT__RESIDUAL": "per_token"}, "posterior.mu"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_others_are_refused(name, finished, pictures, tmp_path):
    trainer_name, options, message = OTHERS[name]
    trainer = build(command(pictures, tmp_path, trainer=trainer_name, **options))
    fresh = learned(trainer)
    with pytest.raises(CheckpointError, match=message):
        trainer.load_model(finished)
    assert same(learned(trainer), fresh)


def test_models_of_another_clip_or_position(finished, pictures, tmp_path):
    output = tmp_path / "coop"
    build(command(pictures, output, trainer="CoOp", OPTIM__MAX_EPOCH=1)).train()
    options = {"TRAINER__COOP__CLASS_TOKEN_POSITION": "front"}
    front = build(command(pictures, tmp_path / "front", trainer="CoOp", **options))
    with pytest.raises(CheckpointError, match=r"another TRAINER\.COOP\.CLASS_TOKEN_POSITION: end"):
        front.load_model(output)
    words = build(command(pictures, tmp_path / "words", TRAINER__VPT__CLASS_WORDS=0.2))
    with pytest.raises(CheckpointError, match=r"another TRAINER\.VPT\.CLASS_WORDS: 0\.0 -> 0\.2"):
        words.load_model(finished)
    vpt = build(command(pictures, tmp_path / "vpt"))
    vpt.weights_sha256 = "0" * 64
    with pytest.raises(CheckpointError, match="in front of another CLIP .*instead of 000000000000"):
        vpt.load_model(finished)


@pytest.fixture
def unfinished(finished, pictures, tmp_path):
    """A run that ended after 2 of 3 epochs, and its command line."""
    output = tmp_path / "run"
    arguments = command(pictures, output)
    trainer = build(arguments)
    after = trainer.after_epoch

    def stop_after_two():
        after()
        if trainer.epoch == 1:
            raise SystemExit(75)

    trainer.after_epoch = stop_after_two
    with pytest.raises(SystemExit):
        trainer.train()
    return output / "prompt_learner", arguments


def test_goes_on_from_the_newest_readable_state(unfinished, finished, capsys):
    folder, arguments = unfinished
    want = files.read(finished / "prompt_learner/model.pth.tar-3")["state_dict"]
    with open(folder / "resume.pth.tar", "r+b") as file:
        file.truncate(1000)
    trainer = build(arguments)
    trainer.train()
    assert same(learned(trainer), want)
    printed = capsys.readouterr().out
    assert "is damaged" in printed and "trying the one before" in printed
    assert "Previous epoch: 1," in printed


def test_state_of_another_kind_of_device(unfinished, finished, capsys):
    """What a GPU saves besides, or other than, a CPU: its generator and the scaler."""
    folder, arguments = unfinished
    state = files.read(folder / "resume.pth.tar")
    state["noise"] = torch.zeros(16, dtype=torch.uint8)
    files.write(state, folder / "resume.pth.tar")
    trainer = build(arguments)
    trainer.take_step.scaler = torch.amp.GradScaler("cpu")  # for which the state has no factor
    trainer.resume_model_if_exist("")
    assert "another kind of device: the noise is drawn anew" in capsys.readouterr().out
    trainer = build(arguments)
    trainer.train()  # at the start of an epoch the noise has a seed of its own anyway
    want = files.read(finished / "prompt_learner/model.pth.tar-3")["state_dict"]
    assert same(learned(trainer), want)


def test_no_readable_state(unfinished):
    folder, arguments = unfinished
    for file in folder.glob("resume*"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no readable state in .* move the folder away"):
        build(arguments).train()


def test_another_configuration(unfinished, pictures):
    folder, _ = unfinished
    trainer = build(command(pictures, folder.parent, OPTIM__LR=0.01))
    with pytest.raises(ConfigError, match=r"another configuration \(OPTIM\.LR: 0\.02 -> 0\.01\)"):
        trainer.train()


def test_other_images(unfinished, pictures, tmp_path):
    folder, arguments = unfinished
    shutil.copytree(pictures, tmp_path / "data")
    extra = tmp_path / "data/pictures/train/sun"
    shutil.copy(extra / "0.png", extra / "9.png")
    arguments[arguments.index("--root") + 1] = str(tmp_path / "data")
    with pytest.raises(DataError, match="training images are not those of the unfinished run"):
        build(arguments).train()


def test_resume_from_another_folder(unfinished, finished, pictures, tmp_path):
    folder, _ = unfinished
    trainer = build(command(pictures, tmp_path / "new", "--resume", folder.parent))
    trainer.train()
    want = files.read(finished / "prompt_learner/model.pth.tar-3")["state_dict"]
    assert same(learned(trainer), want)
    with pytest.raises(CheckpointError, match=r"no resume\.pth\.tar in .*none/prompt_learner"):
        build(command(pictures, tmp_path / "x", "--resume", tmp_path / "none")).train()


def test_best_model_on_validation_images(pictures, tmp_path):
    trainer = build(command(pictures, tmp_path, TEST__FINAL_MODEL="best_val"))
    trainer.train()
    best = files.read(tmp_path / "prompt_learner/model-best.pth.tar")
    assert best["val_result"] == trainer.best_result >= 20
    assert same(learned(trainer), best["state_dict"])
    assert trainer.loaded_epoch == best["epoch"]
