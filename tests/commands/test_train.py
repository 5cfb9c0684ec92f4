"""The command line: what bad input gets, base to new, finished, interrupted and repeated runs."""

# ruff: noqa: F811 - imported fixtures

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock
from forked import run_forked
from helpers import CLASSES, N_IMAGES, ROOT, command, make_pictures, own_cache, pictures, results  # noqa: F401
from helpers import run_train as run
from torch.optim.lr_scheduler import CosineAnnealingLR

import train
from trainers.base import PromptTrainer
from varprompt.common import files
from varprompt.layouts import name_there
from varprompt.run.interrupt import EXIT_RESUMABLE
from varprompt.towers.load import load_clip
from varprompt.towers.openai_clip import tokenize

N_TEST = len(CLASSES) * N_IMAGES["test"]


# what bad input gets


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A copy of the data set and files that are not what they are called."""
    root = make_pictures(tmp_path_factory.mktemp("broken"))
    for name in ("corrupt", "long", "gone"):
        shutil.copytree(root / "pictures", root / name)
    (root / "corrupt/train/sun/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 99)
    (root / "corrupt/test/wheel/2.png").write_bytes(b"")
    for part in ("train", "val", "test"):
        (root / "long" / part / "sun").rename(root / "long" / part / ("sun " * 30).strip())
    shutil.rmtree(root / "gone/test/sun")
    (root / "gone/test/sun").mkdir()
    (root / "text.pt").write_text("hello")
    torch.save({"fc": torch.ones(1)}, root / "other.pt")
    (root / "file").write_text("")
    (root / "typo.yaml").write_text("OPTIM:\n  LRR: 3\n  LR: fast\n")
    (root / "broken.yaml").write_text("A: [1")
    return root


KEEP = object()
# flags before the options, options, what the error says; {} is the folder of `broken`
BAD = {
    "typo in a flag": (["--trainr", "VPT"], {}, "did you mean --trainer instead of --trainr?"),
    "flag cut short": (["--out=x"], {}, "did you mean --output-dir instead of --out?"),
    "epoch in words": (["--load-epoch", "last"], {}, "--load-epoch: invalid int value: 'last'"),
    "seed in words": (["--seed", "one"], {}, "argument --seed: invalid int value: 'one'"),
    "seed too large": (["--seed", "4294967296"], {}, "it must be at most 4294967295"),
    "unknown trainer": (["--trainer", "VTP"], {}, "did you mean 'VPT'?"),
    "unknown data set": ([], {"DATASET.NAME": "Foldr"}, "did you mean 'Folder'?"),
    "unknown backbone": (
        [], {"MODEL.BACKBONE.NAME": "vit_b16"}, "is unknown; choose from embedded, embedded_vit, ",
    ),
    "nearest backbone": ([], {"MODEL.BACKBONE.NAME": "vit_b16"}, "did you mean 'ViT-B/16'?"),
    "unknown key": ([], {"TRAINER.VPT.LL": 3}, "did you mean TRAINER.VPT.L?"),
    "mistyped value": ([], {"OPTIM.LR": "fast"}, "OPTIM.LR is 'fast'; a number is expected"),
    "bad values": ([], {"TRAINER.VPT.POSTERIOR": "gauss", "OPTIM.LR": -1}, "mean 'gaussian'?"),
    "file missing": (["--config-file", "{}/tpyo.yaml"], {}, r"did you mean {}/typo.yaml?"),
    "file with unknown keys": (["--config-file", "{}/typo.yaml"], {}, "OPTIM.LRR is not a config"),
    "file that is no YAML": (["--config-file", "{}/broken.yaml"], {}, "is not valid YAML"),
    "first of two wrong sources": (
        ["--config-file", "{}/typo.yaml"], {"TRAINER.VPT.LL": 3}, "OPTIM.LRR is not a config",
    ),
    "second of two wrong sources": (
        ["--config-file", "{}/typo.yaml"], {"TRAINER.VPT.LL": 3}, "did you mean TRAINER.VPT.L?",
    ),
    "no data folder": (["--root", "{}/none"], {}, "none/pictures does not exist"),
    "corrupt image": ([], {"DATASET.PATH": "corrupt"}, "1.png: not a readable image"),
    "corrupt image, workers": (
        [], {"DATASET.PATH": "corrupt", "DATALOADER.NUM_WORKERS": 1}, "1.png: not a readable image",
    ),
    "corrupt test image": (
        ["--trainer", "ZeroshotCLIP"], {"DATASET.PATH": "corrupt"}, "2.png: not a readable image",
    ),
    "long class name": ([], {"DATASET.PATH": "long"}, "1 prompt(s) do not fit the 24 tokens"),
    "long context": (
        [], {"TRAINER.VPT.CTX_INIT": "", "TRAINER.VPT.N_CTX": 30}, "5 prompt(s) do not fit",
    ),
    "words of several tokens": (
        [], {"TRAINER.VPT.CTX_INIT": "itap of", "TRAINER.VPT.N_CTX": 2}, "give N_CTX 3",
    ),
    "unknown transform": ([], {"INPUT.INTERPOLATION": "cubic"}, "INPUT.INTERPOLATION"),
    "image size": ([], {"INPUT.SIZE": (224, 224)}, "takes (32, 32)"),
    "image size in one number": ([], {"INPUT.SIZE": 32}, "INPUT.SIZE is '32'; a list "),
    "weights missing": ([], {"MODEL.BACKBONE.PATH": "{}/none.pt"}, "none.pt does not exist"),
    "weights that are text": ([], {"MODEL.BACKBONE.PATH": "{}/text.pt"}, "text.pt is damaged"),
    "weights of no CLIP": ([], {"MODEL.BACKBONE.PATH": "{}/other.pt"}, "is not a CLIP of OpenAI's"),
    "start values missing": ([], {"MODEL.INIT_WEIGHTS": "{}/none.pt"}, "none.pt does not exist"),
    "nothing to test": (["--eval-only"], {}, "--eval-only needs --model-dir"),
    "model without test": (["--model-dir", "{}"], {}, "need --eval-only"),
    "no model there": (
        ["--eval-only", "--model-dir", "{}/none"], {}, "there is no trained model in {}/none",
    ),
    "nothing to resume": (["--resume", "{}/none"], {}, "there is no resume.pth.tar in {}/none"),
    "output is a file": (["--output-dir", "{}/file"], {}, "nothing can be written to the output"),
    "output nowhere": (["--output-dir", "/proc/none"], {}, "nothing can be written to the output"),
    "no output": ([], {"OUTPUT_DIR": ""}, "OUTPUT_DIR is empty; give --output-dir FOLDER"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, broken, tmp_path, capsys):
    flags, options, message = BAD[name]
    fill = lambda x: x.replace("{}", str(broken)) if isinstance(x, str) else x  # noqa: E731
    options = {k.replace(".", "__"): fill(v) for k, v in options.items()}
    arguments = command(broken, tmp_path / "out", OPTIM__MAX_EPOCH=1, **options)
    split = arguments.index("DATASET.PATH")
    arguments[split:split] = map(fill, flags)
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert err.startswith("error: ") or "\nerror: " in err
    assert fill(message) in err and "Traceback" not in err
    assert not (tmp_path / "out/results.json").exists()


def test_a_class_without_test_images_is_said(broken, tmp_path, capsys):
    """Of own images; the protocol's data sets are damaged then."""
    options = {"DATASET__PATH": "gone"}
    code, out, _ = run(command(broken, tmp_path / "out", trainer="ZeroshotCLIP", **options), capsys)
    assert code == 0 and "1 classes without test images" in out
    assert len(results(tmp_path / "out")["per_class"]) == len(CLASSES) - 1


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (["TRAINER.VPT.L"], "'TRAINER.VPT.L' has no value"),
        (["TRAINER.VPT.L", "3", "--eval-only"], "--eval-only stand(s) behind the first KEY VALUE"),
        (["TRAINER.VPT.L", "--seed", "3"], "--seed stand(s) behind the first KEY VALUE pair"),
    ],
)
def test_bad_ends_of_the_line(tail, message, pictures, tmp_path, capsys):
    code, _, err = run(command(pictures, tmp_path / "out") + tail, capsys)
    assert code == 2 and message in err
    assert not (tmp_path / "out").exists()


def test_options_of_another_trainer(pictures, tmp_path, capsys):
    options = {"OPTIM__MAX_EPOCH": 0, "TRAINER__COOP__N_CTX": 8, "TRAINER__COCOOP__PREC": "fp16"}
    code, out, _ = run(command(pictures, tmp_path / "out", **options), capsys)
    assert code == 0 and "TRAINER.COOP.N_CTX has no effect on VPT" in out
    assert "TRAINER.VPT" not in re.findall(r"\S+(?= has no effect)", out)


def test_nothing_given(capsys):
    code, _, err = run([], capsys)
    assert code == 2 and "TRAINER.NAME (--trainer) is ''" in err and "DATASET.NAME" in err


FLAGS = [
    flag for action in train.parser()._actions for flag in action.option_strings if "--" in flag
]


@pytest.mark.parametrize("flag", FLAGS)
def test_typo_in_every_flag(flag, capsys):
    wrong = flag[:-2] + flag[-1] + flag[-2]
    code, _, err = run([wrong, "x"], capsys)
    if wrong != flag:
        assert code == 2 and f"did you mean {flag} instead of {wrong}?" in err


def test_layout_of_a_missing_data_set(tmp_path, capsys):
    arguments = ["--root", tmp_path, "--output-dir", tmp_path / "out", "--trainer", "VPT"]
    arguments += ["--backbone", "embedded"]
    arguments += ["--dataset-config-file", ROOT / "configs/datasets/oxford_pets.yaml"]
    code, _, err = run(arguments, capsys)
    assert code == 2
    for part in ("oxford_pets does not exist", "Expected", "images/", "split_zhou_OxfordPets.json"):
        assert part in err


# base to new


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Data root with the handwritten digits, made before any seed is set."""
    from varprompt.embedded import make_dataset

    root = tmp_path_factory.mktemp("digits")
    make_dataset("Digits", root / "digits")
    return root


def digit_command(root, output, trainer, subset, *flags):
    shots = {"DATASET.NUM_SHOTS": 4, "DATASET.SUBSAMPLE_CLASSES": subset, "OPTIM.MAX_EPOCH": 2}
    return [
        "--root", root, "--output-dir", output, "--trainer", trainer, "--seed", 1, *flags,
        "--dataset-config-file", ROOT / "configs/datasets/digits.yaml",
        "--config-file", ROOT / f"configs/trainers/{trainer}/embedded.yaml",
        *(x for pair in shots.items() for x in pair), "TEST.PER_CLASS_RESULT", True,
    ]  # fmt: skip


KEYS = {
    "accuracy", "error_rate", "macro_f1", "perclass_accuracy", "nll", "ece", "n_total",
    "n_correct", "per_class", "split", "trainer", "dataset", "subsample_classes", "shots", "seed",
    "backbone", "weights_sha256", "checkpoint_epoch", "checkpoint_sha256", "config", "date",
    "versions", "git_commit", "bad_steps", "identity", "resources", "memory", "selected_on",
    "ece_if_calibrated", "accuracy_mc_error", "reliability", "risk_coverage", "uncertainty",
    "predictions",
}  # fmt: skip


def names(found):
    return [row["name"] for row in found["per_class"].values()]


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp"])
def test_base_to_new(trainer, digits, tmp_path, capsys):
    base, new, again = (tmp_path / name for name in ("base", "new", "again"))
    code, out, _ = run(digit_command(digits, base, trainer, "base"), capsys)
    assert code == 0
    trained = results(base)
    assert trained.keys() == KEYS
    assert (trained["checkpoint_epoch"], trained["subsample_classes"]) == (2, "base")
    assert names(trained) == ["zero", "one", "two", "three", "four"]
    assert f"* accuracy: {trained['accuracy']:.1f}%" in out
    assert f"* macro_f1: {trained['macro_f1']:.1f}%" in (base / "log.txt").read_text()
    assert trained["error_rate"] == pytest.approx(100 - trained["accuracy"])
    mean = sum(c["accuracy"] for c in trained["per_class"].values()) / 5
    assert trained["perclass_accuracy"] == pytest.approx(mean)

    test = ["--eval-only", "--model-dir", base, "--load-epoch", 2]
    assert run(digit_command(digits, new, trainer, "new", *test), capsys)[0] == 0
    tested = results(new)
    assert tested.keys() == KEYS
    assert names(tested) == ["five", "six", "seven", "eight", "nine"]
    assert tested["checkpoint_epoch"] == 2 and len(tested["checkpoint_sha256"]) == 64
    assert tested["accuracy"] > 25

    # the figures of a checkpoint are a function of it: tested again on base, without the epoch
    assert run(digit_command(digits, again, trainer, "base", *test[:3]), capsys)[0] == 0
    for key in ("accuracy", "macro_f1", "nll", "ece", "per_class"):
        assert results(again)[key] == trained[key]


# models of others


def others_file(folder, state):
    """A file as CoOp's code writes it: half precision, class embeddings, a pickled scheduler."""
    clip = load_clip("embedded")
    ids = tokenize([f"{name.replace('_', ' ')}." for name in sorted(CLASSES)], 24)
    embedded = clip.token_embedding(ids).half()
    tensors = {name_there(k): v.half() for k, v in state.items()}
    tensors |= {"token_prefix": embedded[:, :1], "token_suffix": embedded[:, 1:-4]}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    scheduler = {"successor": CosineAnnealingLR(optimizer, 3), "last_epoch": 3, "cons_lr": 1e-5}
    content = {"state_dict": tensors, "epoch": 3, "scheduler": scheduler, "val_result": None}
    (folder / "prompt_learner").mkdir(parents=True)
    torch.save(content, folder / "prompt_learner/model.pth.tar-3")


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp", "CoOp", "CoCoOp"])
def test_models_in_coops_layout(trainer, pictures, tmp_path, capsys):
    """They are tested to the same figures, but for their rounding to half precision."""
    words = {"TRAINER__COOP__CTX_INIT": "a photo of a"}
    run(command(pictures, tmp_path / "ours", trainer=trainer, **words), capsys)
    state = files.read(tmp_path / "ours/prompt_learner/model.pth.tar-3")["state_dict"]
    others_file(tmp_path / "theirs", state)
    test = ["--eval-only", "--model-dir", tmp_path / "theirs", "--load-epoch", 3]
    code, out, err = run(
        command(pictures, tmp_path / "test", *test, trainer=trainer, **words), capsys
    )
    assert code == 0, err
    assert results(tmp_path / "test")["nll"] == pytest.approx(
        results(tmp_path / "ours")["nll"], abs=1e-3
    )
    other = {"VPT": "VPT_CoCoOp", "CoOp": "VPT"}.get(trainer, "CoOp")
    code, _, err = run(command(pictures, tmp_path / "no", *test, trainer=other), capsys)
    assert code == 2 and "does not fit this trainer" in err and "nothing was loaded" in err


class Command:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_models_that_would_run_something(pictures, tmp_path, capsys):
    file = tmp_path / "model/prompt_learner/model.pth.tar-1"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": {}, "scheduler": Command(tmp_path / "ran")}, file)
    test = ["--eval-only", "--model-dir", tmp_path / "model"]
    code, _, err = run(command(pictures, tmp_path / "out", *test), capsys)
    assert code == 2 and f"{file} is damaged or holds objects" in err
    assert "(posix.system), which are never unpickled" in err
    assert not (tmp_path / "ran").exists()


# finished runs


def test_a_finished_run_is_recognised(pictures, tmp_path, capsys):
    arguments = command(pictures, tmp_path, OPTIM__MAX_EPOCH=1)
    assert run(arguments, capsys)[0] == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    free = ["TRAIN.PRINT_FREQ", "1", "DATALOADER.NUM_WORKERS", "1"]  # change no figure
    code, out, _ = run(arguments + free, capsys)
    assert code == 0 and out.startswith("Already done: accuracy ")
    code, _, err = run(arguments + ["TRAINER.VPT.L", "5"], capsys)
    assert code == 2
    assert "results of another configuration (TRAINER.VPT.L: 3 -> 5): give another" in err
    assert {p: p.read_bytes() for p in before} == before
    (tmp_path / "results.json").write_text("{")
    assert run(arguments, capsys)[0] == 0
    assert results(tmp_path)["nll"] == json.loads(before[tmp_path / "results.json"])["nll"]


def test_an_evaluation_follows_its_model(pictures, tmp_path, capsys):
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    run(command(pictures, first, OPTIM__MAX_EPOCH=1), capsys)
    run(command(pictures, second, OPTIM__MAX_EPOCH=1, OPTIM__LR=1.0, OPTIM__WARMUP_EPOCH=0), capsys)
    found = []
    for model in (first, first, second):
        run(command(pictures, out, "--eval-only", "--model-dir", model), capsys)
        found.append((results(out)["checkpoint_sha256"], results(out)["date"]))
    assert found[0] == found[1] and found[2][0] != found[0][0]


def test_two_runs_in_one_folder(pictures, tmp_path, capsys):
    with FileLock(tmp_path / ".lock"):
        code, _, err = run(command(pictures, tmp_path), capsys)
    assert code == 2 and f"another run is writing to {tmp_path}" in err
    assert not (tmp_path / "log.txt").exists()


def test_another_configuration_of_an_unfinished_run(pictures, tmp_path, capsys, monkeypatch):
    stop_at(monkeypatch, 7)
    assert run(command(pictures, tmp_path), capsys)[0] == EXIT_RESUMABLE
    monkeypatch.undo()
    code, _, err = run(command(pictures, tmp_path, TRAINER__VPT__L=5), capsys)
    assert code == 2 and "unfinished run with another configuration (TRAINER.VPT.L: 3 -> 5)" in err


# seeds


def test_zero_is_a_seed(pictures, tmp_path, capsys):
    found = []
    for i, seed in enumerate((0, 0, 1)):
        output = tmp_path / str(i)
        _, out, _ = run(command(pictures, output, seed=seed, OPTIM__MAX_EPOCH=1), capsys)
        assert f"Setting fixed seed: {seed}" in out
        state = files.read(output / "prompt_learner/model.pth.tar-1")["state_dict"]
        assert results(output)["seed"] == seed
        found.append(torch.cat([v.flatten() for v in state.values()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_no_seed(pictures, tmp_path, capsys):
    found = []
    for i in range(2):
        _, out, _ = run(command(pictures, tmp_path / str(i), seed=None, OPTIM__MAX_EPOCH=1), capsys)
        assert "Setting fixed seed" not in out
        state = files.read(tmp_path / str(i) / "prompt_learner/model.pth.tar-1")
        found.append(torch.cat([v.flatten() for v in state["state_dict"].values()]))
    assert not torch.equal(*found)


# interrupted runs


def stop_at(monkeypatch, step, how=lambda: os.kill(os.getpid(), signal.SIGTERM)):
    """Call `how` in the middle of the training step with this number, from 1."""
    count, forward_backward = [0], PromptTrainer.forward_backward

    def stopping(self, batch):
        count[0] += 1
        if count[0] == step:
            how()
        return forward_backward(self, batch)

    monkeypatch.setattr(PromptTrainer, "forward_backward", stopping)


def raise_error():
    raise RuntimeError("simulated")


def outcome(folder, epoch=3):
    """What a run leaves behind, to be compared bit for bit."""
    state = files.read(folder / f"prompt_learner/model.pth.tar-{epoch}")
    momentum = [s["momentum_buffer"] for s in state["optimizer"]["state"].values()]
    passing = ("config", "date", "resources", "memory")
    figures = {k: v for k, v in results(folder).items() if k not in passing}
    return [*state["state_dict"].values(), *momentum], figures


CONFIGURATIONS = {
    "VPT": ("VPT", {}),
    "VPT_CoCoOp": ("VPT_CoCoOp", {"TRAINER__VPT__SAMPLER": "antithetic"}),
    "VPT-cached-views": ("VPT", {"TRAIN__FEATURE_CACHE": 2, "OPTIM__NAME": "sgd"}),
    "CoCoOp": ("CoCoOp", {}),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_interrupted_runs_end_as_if_they_had_not_been(
    name, pictures, tmp_path, capsys, monkeypatch
):
    """Epochs have 3 steps: stops within, at the start and at the end of one, and a crash."""
    trainer, options = CONFIGURATIONS[name]
    assert run(command(pictures, tmp_path / "whole", trainer=trainer, **options), capsys)[0] == 0
    tensors, figures = outcome(tmp_path / "whole")
    arguments = command(pictures, tmp_path / "run", trainer=trainer, **options)
    for step in (2, 2, 1):  # steps 2, 4 (first of epoch 2) and 5
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            code, out, err = run(arguments, capsys)
        assert code == EXIT_RESUMABLE and "the same command goes on" in out + err
        assert not (tmp_path / "run/results.json").exists()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="simulated"):
        stop_at(patch, 3, raise_error)  # in epoch 3, after its first steps
        train.main(arguments)
    code, out, _ = run(arguments, capsys)
    assert code == 0 and "Previous epoch: 2, batches of the next: 0" in out
    got, got_figures = outcome(tmp_path / "run")
    assert got_figures == figures
    assert all(torch.equal(a, b) for a, b in zip(got, tensors, strict=True))


def wait_for(pattern, file, process, seconds=100):
    deadline = time.monotonic() + seconds
    while not (file.is_file() and re.search(pattern, file.read_text())):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def test_processes_and_their_exit_codes(pictures, tmp_path, capsys):
    """SIGTERM from outside, the rest of the run in another process, and a mistake."""
    options = {"OPTIM__MAX_EPOCH": 15, "OPTIM__LR": 0.001, "TRAIN__PRINT_FREQ": 1}
    arguments = command(pictures, tmp_path / "run", **options)
    program = [sys.executable, ROOT / "train.py"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if os.environ.get("DASSL_ROOT"):
        environment["PYTHONPATH"] = os.environ["DASSL_ROOT"]
    process = subprocess.Popen(
        [*program, *arguments], env=environment, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(r"epoch \[[2-9]/15\]", tmp_path / "run/log.txt", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_RESUMABLE, err
    assert b"Traceback" not in err
    assert run(arguments, capsys)[0] == 0
    assert run(command(pictures, tmp_path / "whole", **options), capsys)[0] == 0
    got, want = outcome(tmp_path / "run", 15), outcome(tmp_path / "whole", 15)
    assert all(torch.equal(a, b) for a, b in zip(got[0], want[0], strict=True))
    assert got[1] == want[1]
    done = run_forked(train.main, [*arguments, "X", "1"], cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: X is not a configuration key\n"


def test_full_disk(pictures, tmp_path, capsys, monkeypatch):
    """The error is one line; what had been saved stays, and the run goes on from it later."""
    arguments = command(pictures, tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, 5, lambda: patch.setattr(os, "fsync", full))
        code, _, err = run(arguments, capsys)
    assert code == 2 and err.startswith("error: ") and "No space left on device" in err
    code, out, _ = run(arguments, capsys)
    assert code == 0 and "Previous epoch: 1, batches of the next: 0" in out


def full(handle):
    raise OSError(28, "No space left on device")


def test_build_only(pictures, tmp_path, capsys):
    code, out, _ = run(command(pictures, tmp_path, "--no-train"), capsys)
    assert code == 0 and "Learned parameters" in out and "epoch [" not in out
    assert not (tmp_path / "results.json").exists()
