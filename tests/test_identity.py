"""A run is known by content: by images, class names and weights, never by path, name or size."""

# ruff: noqa: F811 - imported fixtures

import json
import os
import re
import shutil
import stat
import subprocess

import pytest
import torch
from helpers import CLASSES, command, make_pictures, own_cache, pictures, results  # noqa: F401
from helpers import run_train as run
from PIL import Image

from trainers.base import PromptTrainer
from varprompt.common import files
from varprompt.images import content
from varprompt.run.evaluate import Evaluator
from varprompt.run.interrupt import EXIT_RESUMABLE
from varprompt.towers.load import CLIP_SOURCES, load_clip
from varprompt.towers.weights import load_file

SHORT = {"OPTIM__MAX_EPOCH": 1}


@pytest.fixture
def root(pictures, tmp_path):
    """A data root of one's own."""
    return shutil.copytree(pictures, tmp_path / "root")


def repaint(path, color="red", keep_time=True):
    """Another image under the same name, of the same size in bytes and time of change."""
    before = path.stat()
    Image.new("RGB", (35, 33), color).save(path)
    with open(path, "ab") as file:
        file.write(bytes(max(0, before.st_size - path.stat().st_size)))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size


def unfinished(arguments, capsys):
    """Interrupt a run in its second step."""
    original, count = PromptTrainer.forward_backward, []

    def stopping(self, batch):
        count.append(1)
        if len(count) == 2:
            os.kill(os.getpid(), 15)
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "forward_backward", stopping)
        assert run(arguments, capsys)[0] == EXIT_RESUMABLE


# finished runs


def test_moved_data_are_the_same(root, tmp_path, capsys):
    assert run(command(root, tmp_path / "out", **SHORT), capsys)[0] == 0
    before = (tmp_path / "out/results.json").read_bytes()
    root = root.rename(tmp_path / "elsewhere")
    code, out, _ = run(command(root, tmp_path / "out", **SHORT), capsys)
    assert code == 0 and out.startswith("Already done: accuracy ")
    copy = shutil.copytree(root, tmp_path / "copy")
    options = SHORT | {"DATASET__PATH": copy / "pictures"}
    code, out, _ = run(command(copy, tmp_path / "out", **options), capsys)
    assert code == 0 and out.startswith("Already done: accuracy ")
    assert (tmp_path / "out/results.json").read_bytes() == before


def test_other_images_under_the_same_names(root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out", **SHORT)
    run(arguments, capsys)
    before = results(tmp_path / "out")
    other = shutil.copytree(root, tmp_path / "other")
    for path in (other / "pictures").rglob("*.png"):
        repaint(path)
    code, _, err = run(command(other, tmp_path / "out", **SHORT), capsys)
    assert code == 2
    assert "holds the results of another run" in err and "training images" in err
    assert results(tmp_path / "out") == before
    zero = command(root, tmp_path / "zero", trainer="ZeroshotCLIP")
    run(zero, capsys)
    zero[zero.index("--root") + 1] = str(other)
    code, out, _ = run(zero, capsys)
    assert code == 0 and "test images have changed since" in out and "tested anew" in out


def test_a_replaced_test_image_is_tested(root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out", **SHORT)
    run(arguments, capsys)
    before = results(tmp_path / "out")
    repaint(root / "pictures/test/sun/1.png")
    code, out, _ = run(arguments, capsys)
    assert code == 0 and "The test images have changed since" in out
    assert "epoch [" not in out  # nothing is trained again
    after = results(tmp_path / "out")
    assert after["nll"] != before["nll"]
    assert after["identity"]["test_images"] != before["identity"]["test_images"]
    assert after["identity"]["train_images"] == before["identity"]["train_images"]
    assert "Already done" in run(arguments, capsys)[1]


def test_a_training_image_replaced_meanwhile(root, tmp_path, capsys, monkeypatch):
    """The result is of the image that the training began with."""
    original = PromptTrainer.after_epoch

    def replacing(self):
        repaint(root / "pictures/train/sun/1.png")
        original(self)

    monkeypatch.setattr(PromptTrainer, "after_epoch", replacing)
    arguments = command(root, tmp_path / "out", **SHORT)
    assert run(arguments, capsys)[0] == 0
    code, _, err = run(arguments, capsys)
    assert code == 2 and "results of another run, the training images differ" in err


def test_a_test_image_replaced_meanwhile(root, tmp_path, capsys, monkeypatch):
    original = Evaluator.features

    def replacing(self, loader):
        features = original(self, loader)
        repaint(root / "pictures/test/sun/1.png")
        return features

    arguments = command(root, tmp_path / "out", trainer="ZeroshotCLIP")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "features", replacing)
        assert run(arguments, capsys)[0] == 0
    before = results(tmp_path / "out")
    assert "test images have changed since" in run(arguments, capsys)[1]
    assert results(tmp_path / "out")["nll"] != before["nll"]


def test_another_order_of_the_test_images(root, tmp_path, capsys):
    """Renamed images are the same as long as their order is."""
    arguments = command(root, tmp_path / "out", trainer="ZeroshotCLIP")
    run(arguments, capsys)
    folder = root / "pictures/test/sun"
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"photo-{path.name}")
    assert "Already done" in run(arguments, capsys)[1]
    repaint(folder / "photo-1.png")
    target = (folder / "photo-1.png").rename(tmp_path / "aside.png")
    (folder / "photo-1.png").symlink_to(target)
    assert "tested anew" in run(arguments, capsys)[1]
    assert "Already done" in run(arguments, capsys)[1]
    repaint(target, "blue")  # the link and its name stay
    assert "tested anew" in run(arguments, capsys)[1]


def test_replaced_weights(root, tmp_path, capsys):
    state = load_clip("embedded").state_dict()
    file = tmp_path / "clip.pt"
    torch.save(state, file)
    options = SHORT | {"MODEL__BACKBONE__PATH": file}
    options["MODEL__BACKBONE__ACTIVATION"] = "quick_gelu"
    arguments = command(root, tmp_path / "out", **options)
    code, _, err = run(arguments, capsys)
    assert code == 0, err
    moved = shutil.copy(file, tmp_path / "same.pt")
    same = command(root, tmp_path / "out", **options | {"MODEL__BACKBONE__PATH": moved})
    assert "Already done" in run(same, capsys)[1]
    state["text_projection"] = state["text_projection"] * 1.01
    torch.save(state, file)
    code, _, err = run(arguments, capsys)
    assert code == 2 and "another run" in err and "MODEL.BACKBONE.PATH" in err


def test_replaced_start_values(root, tmp_path, capsys):
    for name, rate in (("one", 0.02), ("two", 0.05)):
        run(command(root, tmp_path / name, OPTIM__LR=rate, **SHORT), capsys)
    start = tmp_path / "start.pth"
    model = "prompt_learner/model.pth.tar-1"
    shutil.copy(tmp_path / "one" / model, start)
    arguments = command(root, tmp_path / "out", MODEL__INIT_WEIGHTS=start, **SHORT)
    assert run(arguments, capsys)[0] == 0
    assert "Already done" in run(arguments, capsys)[1]
    shutil.copy(tmp_path / "two" / model, start)
    code, _, err = run(arguments, capsys)
    assert code == 2 and "the start values in MODEL.INIT_WEIGHTS" in err


def test_a_test_is_no_training(root, tmp_path, capsys):
    """Nor the reverse: each does its work in the other's folder."""
    run(command(root, tmp_path / "model", **SHORT), capsys)
    folder = tmp_path / "out"
    test = command(root, folder, "--eval-only", "--model-dir", tmp_path / "model", **SHORT)
    assert run(test, capsys)[0] == 0
    assert results(folder)["identity"]["mode"] == "test"
    assert "Already done" in run(test, capsys)[1]
    training = command(root, folder, **SHORT)
    code, out, _ = run(training, capsys)
    assert code == 0 and "is the result of a test (--eval-only), which this is not" in out
    assert (folder / "prompt_learner/model.pth.tar-1").is_file()
    assert results(folder)["identity"]["mode"] == "train"
    assert "Already done" in run(training, capsys)[1]
    code, out, _ = run(test, capsys)
    assert code == 0 and "is the result of a training, which this is not" in out


def test_swapped_class_names_of_a_finished_run(root, tmp_path, capsys):
    split = split_file(root)
    arguments = command(root, tmp_path / "out", DATASET__PATH=split, **SHORT)
    code, _, err = run(arguments, capsys)
    assert code == 0, err
    swap(split, "sun", "x")
    code, _, err = run(arguments, capsys)
    assert code == 2 and "class names" in err and "'sun' -> 'x'" in err


@pytest.mark.parametrize(
    "accuracy", ["NaN", "true", "Infinity", "-5", "101", '"90"', "null", "1" + 400 * "0"]
)
def test_damaged_results_are_measured_again(accuracy, root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out", trainer="ZeroshotCLIP")
    run(arguments, capsys)
    file = tmp_path / "out/results.json"
    before = results(tmp_path / "out")["accuracy"]
    text = re.sub(r'"accuracy": [\d.]+', f'"accuracy": {accuracy}', file.read_text(), count=1)
    file.write_text(text)
    code, out, err = run(arguments, capsys)
    assert code == 0 and f"{file} is damaged (its accuracy is" in out and "Traceback" not in err
    assert results(tmp_path / "out")["accuracy"] == before


@pytest.mark.parametrize(
    "change",
    [
        {"identity": None}, {"identity": []},
        {"identity": {"mode": "both"}}, {"identity": {"mode": "test", "test_images": None}},
        {"identity": {"mode": "test", "class_names": "sun"}},
    ],
)  # fmt: skip
def test_results_that_do_not_say_of_what_are_measured_again(change, root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out", trainer="ZeroshotCLIP")
    run(arguments, capsys)
    before = results(tmp_path / "out")
    (tmp_path / "out/results.json").write_text(json.dumps(before | change))
    code, out, err = run(arguments, capsys)
    assert code == 0 and "results.json is damaged (it " in out, err
    assert results(tmp_path / "out")["identity"] == before["identity"]


@pytest.mark.parametrize("config", [None, ["TRAINER"]])
def test_results_without_a_configuration_may_be_anybodys(config, root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out", trainer="ZeroshotCLIP")
    file = tmp_path / "out/results.json"
    file.parent.mkdir()
    file.write_text(before := json.dumps({"accuracy": 81.2, "config": config}))
    code, _, err = run(arguments, capsys)
    assert code == 2 and "results of another configuration (it records none)" in err
    assert file.read_text() == before


def test_results_of_version_0_1_0(root, tmp_path, capsys):
    """What they have is compared, and one line says what could not be."""
    for name, flags in (("out", ()), ("test", ("--eval-only", "--model-dir", tmp_path / "out"))):
        arguments = command(root, tmp_path / name, *flags, **SHORT)
        run(arguments, capsys)
        old = results(tmp_path / name)
        for key in ("identity", "resources", "selected_on"):
            del old[key]
        rows = old["per_class"].values()
        old["per_class"] = {
            row["name"]: {"accuracy": row["accuracy"], "total": row["total"]} for row in rows
        }
        (tmp_path / name / "results.json").write_text(json.dumps(old))
        code, out, _ = run(arguments, capsys)
        assert code == 0 and out.startswith("Already done")
        (line,) = out.splitlines()[1:]
        assert "is of an earlier version" in line and "test images could not be compared" in line
    old["checkpoint_sha256"] = "0" * 64
    (tmp_path / "test/results.json").write_text(json.dumps(old))
    assert "The values of the tested model have changed" in run(arguments, capsys)[1]
    training = command(root, tmp_path / "old", **SHORT)
    (tmp_path / "old").mkdir()
    shutil.copy(tmp_path / "test/results.json", tmp_path / "old")  # a test, seen by no model there
    del old["checkpoint_sha256"]
    assert "Already done" not in run(training, capsys)[1]
    assert (tmp_path / "old/prompt_learner/model.pth.tar-1").is_file()


@pytest.fixture
def read_only(tmp_path):
    """Makes a folder one that cannot be written to, also by root."""
    mounted = []

    def make(folder):
        bind = ["mount", "--bind", str(folder), str(folder)]
        again = ["mount", "-o", "remount,ro,bind", str(folder)]
        for order in (bind, again):
            if subprocess.run(order, capture_output=True, check=False).returncode:
                if os.geteuid() == 0:
                    pytest.skip("nothing can be mounted here, and root may write everywhere")
                for path in (*folder.rglob("*"), folder):
                    path.chmod(path.stat().st_mode & ~0o222)
                return
            mounted.append(folder)

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=False)
    for path in tmp_path.rglob("*"):
        if path.is_dir():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_a_finished_run_on_a_read_only_disk(root, tmp_path, capsys, read_only):
    arguments = command(root, tmp_path / "out", **SHORT)
    run(arguments, capsys)
    read_only(tmp_path / "out")
    code, out, err = run(arguments, capsys)
    assert code == 0 and out.startswith("Already done") and not err
    code, _, err = run([*arguments, "TRAINER.VPT.L", 5], capsys)
    assert code == 2 and "another configuration" in err


def test_a_second_start_reads_no_image(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(content, "_TICK", -(10**9))  # files just written count as old
    arguments = command(root, tmp_path / "out", **SHORT)
    run(arguments, capsys)
    monkeypatch.setattr(content, "_read", lambda path, kind: pytest.fail(f"{path} is read"))
    assert "Already done" in run(arguments, capsys)[1]


# unfinished runs


def split_file(root):
    """A split JSON of the pictures."""
    lists = {part: [] for part in ("train", "val", "test")}
    for part in lists:
        for label, name in enumerate(sorted(CLASSES)):
            for path in sorted((root / "pictures" / part / name).iterdir()):
                lists[part].append([f"{part}/{name}/{path.name}", label, name])
    file = root / "pictures/split.json"
    file.write_text(json.dumps(lists))
    return file


def swap(file, one, other):
    """Exchange two class names."""
    content = json.loads(file.read_text())
    names = {one: other, other: one}
    for rows in content.values():
        for row in rows:
            row[2] = names.get(row[2], row[2])
    file.write_text(json.dumps(content))


def test_a_replaced_training_image_is_named(root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out")
    unfinished(arguments, capsys)
    repaint(root / "pictures/train/sun/1.png")
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert "the training images are not those of the unfinished run" in err
    assert "pictures/train/sun/1.png has another content" in err


def test_swapped_class_names_are_named(root, tmp_path, capsys):
    split = split_file(root)
    arguments = command(root, tmp_path / "out", DATASET__PATH=split)
    unfinished(arguments, capsys)
    swap(split, "sun", "wheel")
    code, _, err = run(arguments, capsys)
    assert code == 2 and "the class names are not those of the unfinished run" in err
    assert "'sun' -> 'wheel'" in err


def test_a_replaced_validation_image_matters_where_it_chooses(root, tmp_path, capsys):
    for choice, code in (("last_step", 0), ("best_val", 2)):
        folder = tmp_path / choice
        arguments = command(root, folder, TEST__FINAL_MODEL=choice)
        unfinished(arguments, capsys)
        repaint(root / "pictures/val/sun/0.png", {"last_step": "red", "best_val": "blue"}[choice])
        found, _, err = run(arguments, capsys)
        assert found == code, err
        assert ("the validation images are not those" in err) == bool(code)


def test_states_of_version_0_1_0(root, tmp_path, capsys):
    """They tell names of images only: those are compared, and a line says so."""
    from trainers.identity import identify

    arguments = command(root, tmp_path / "out")
    run(command(root, tmp_path / "whole"), capsys)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "trainers.saved.identify", lambda *a, **k: seen.append(identify(*a, **k)) or seen[-1]
        )
        unfinished(arguments, capsys)
    old_names = seen[0].images["train_images"].names_digest
    for file in (tmp_path / "out/prompt_learner").glob("resume*"):
        state = files.read(file)
        del state["identity"], state["resources"]
        files.write(state | {"images": old_names}, file)
    extra = root / "pictures/train/sun/9.png"
    shutil.copy(root / "pictures/train/sun/1.png", extra)
    code, _, err = run(arguments, capsys)
    assert code == 2 and "training images are not those of the unfinished run" in err
    extra.unlink()
    code, out, err = run(arguments, capsys)
    assert code == 0, err
    assert "is of an earlier version: the content of images is not compared" in out
    models = [
        files.read(tmp_path / name / "prompt_learner/model.pth.tar-3") for name in ("whole", "out")
    ]
    assert all(
        torch.equal(models[0]["state_dict"][k], v) for k, v in models[1]["state_dict"].items()
    )


# what else is recorded


def test_threads_and_budget_are_used_again(root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out")
    unfinished(arguments, capsys)
    file = tmp_path / "out/prompt_learner/resume.pth.tar"
    state = files.read(file)
    before = torch.get_num_threads()
    assert state["resources"]["threads"] == before and state["resources"]["mem_budget"] > 0
    state["resources"] |= {"threads": before + 1, "mem_budget": 123_456_789}
    files.write(state, file)
    try:
        code, out, _ = run(arguments, capsys)
    finally:
        torch.set_num_threads(before)
    assert code == 0 and f"{before + 1} threads as in the run's beginning" in out
    wanted = {"threads": before + 1, "mem_budget": 123_456_789, "device": "cpu"}
    found = results(tmp_path / "out")
    assert found["resources"] == wanted and found["memory"]["peak_host_bytes"] > 0


def test_resources_that_somebody_made_are_ignored(root, tmp_path, capsys):
    arguments = command(root, tmp_path / "out")
    unfinished(arguments, capsys)
    file = tmp_path / "out/prompt_learner/resume.pth.tar"
    state = files.read(file)
    state["resources"] |= {"threads": 10**9, "mem_budget": "all"}
    files.write(state, file)
    assert run(arguments, capsys)[0] == 0


def test_best_val_needs_validation_images(root, tmp_path, capsys):
    shutil.rmtree(root / "pictures/val")
    options = SHORT | {"TEST__FINAL_MODEL": "best_val"}
    code, _, err = run(command(root, tmp_path / "out", **options), capsys)
    assert code == 2 and "TEST.FINAL_MODEL best_val" in err and "Folder has none here" in err
    assert not (tmp_path / "out/results.json").exists()


def test_best_val_on_the_test_images_is_said(root, tmp_path, capsys):
    split = split_file(root)
    content = json.loads(split.read_text())
    content["val"] = content["test"]
    options = SHORT | {"TEST__FINAL_MODEL": "best_val", "DATASET__PATH": split}
    for name, selected in (("test", "test"), ("val", "val")):
        if name == "test":
            split.write_text(json.dumps(content))
        else:
            split_file(root)
        code, out, err = run(command(root, tmp_path / name, **options), capsys)
        if code == 2 and name == "test":  # such a split may be refused altogether
            assert "val" in err and "test" in err
            continue
        assert code == 0, err
        assert results(tmp_path / name)["selected_on"] == selected
        assert ("ATTENTION: the validation images are the test images" in out) == (name == "test")


def test_best_val_on_copies_of_the_test_images_is_said(root, tmp_path, capsys):
    val, test = root / "pictures/val", root / "pictures/test"
    shutil.rmtree(val)
    for path in test.rglob("1.png"):
        (val / path.parent.name).mkdir(parents=True)
        shutil.copy(path, val / path.parent.name / "other-name.png")
    options = SHORT | {"TEST__FINAL_MODEL": "best_val"}
    code, out, err = run(command(root, tmp_path / "out", **options), capsys)
    assert code == 0, err
    assert "ATTENTION: the validation images are the test images" in out
    assert results(tmp_path / "out")["selected_on"] == "test"


def test_other_peoples_files_stay(root, tmp_path, capsys):
    notes, folder = tmp_path / "out/.notes.tmp", tmp_path / "out/.foo.tmp"
    folder.mkdir(parents=True)
    notes.write_text("mine")
    assert run(command(root, tmp_path / "out", **SHORT), capsys)[0] == 0
    assert notes.read_text() == "mine" and folder.is_dir()


def test_weights_replaced_where_the_name_of_the_clip_says(root, tmp_path, capsys, monkeypatch):
    """As hf:FOLDER and open_clip:FOLDER do, which have no MODEL.BACKBONE.PATH."""
    monkeypatch.setitem(
        CLIP_SOURCES, "mine", lambda name, path, activation: load_file(name, "quick_gelu")
    )
    state, file = load_clip("embedded").state_dict(), tmp_path / "clip.pt"
    torch.save(state, file)
    arguments = command(root, tmp_path / "out", MODEL__BACKBONE__NAME=f"mine:{file}", **SHORT)
    code, _, err = run(arguments, capsys)
    assert code == 0, err
    assert "Already done" in run(arguments, capsys)[1]
    state["text_projection"] = state["text_projection"] * 1.01
    torch.save(state, file)
    code, _, err = run(arguments, capsys)
    assert code == 2 and "another run" in err
