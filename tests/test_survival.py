"""Runs that are stopped, starved, disturbed or fed with rubbish: nothing is lost or wrong."""

import contextlib
import errno
import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from forked import run_forked

import datasets  # noqa: F401 - registers the data sets
import train
import trainers.baselines  # noqa: F401 - registers the trainers
from benchmarks import survival
from trainers.base import PromptTrainer
from trainers.progress import StepLog
from varprompt import prompt
from varprompt.common import files
from varprompt.config import PromptConfig
from varprompt.embedded.sets import make_dataset
from varprompt.errors import VarPromptError
from varprompt.images.loaders import SeededItems, seeded_loader
from varprompt.model import PromptedCLIP
from varprompt.posteriors import LOGVAR_BOUNDS, GaussianPosterior, bounded, gaussian
from varprompt.run.folder import OWN_FILES, kept_seed, lock_run_folder
from varprompt.run.interrupt import EXIT_RESUMABLE
from varprompt.run.store import SavedState
from varprompt.towers.load import PRECISIONS, load_clip

ROOT = Path(__file__).resolve().parent.parent
EPOCHS, BATCHES = 2, 4  # of the runs here
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, 3.12
RESUME, BEFORE = "resume.pth.tar", "resume-before.pth.tar"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with data set and feature cache."""
    folder = tmp_path_factory.mktemp("survival")
    (folder / "data").mkdir()
    make_dataset("Digits", folder / "data/digits")
    return folder


@pytest.fixture(autouse=True)
def process(data, monkeypatch):
    """The tests of this file share data set and feature cache."""
    monkeypatch.setenv("VARPROMPT_CACHE", str(data / "cache"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")


def arguments(data, folder, *pairs, trainer="VPT", seed=1):
    """A run of EPOCHS x BATCHES steps with random augmentation, in `folder`."""
    options = {
        "DATASET.NUM_SHOTS": 2, "DATALOADER.TRAIN_X.BATCH_SIZE": 5, "OPTIM.MAX_EPOCH": EPOCHS,
        "TRAIN.PRINT_FREQ": 1,
    }  # fmt: skip
    options |= dict(zip(pairs[::2], pairs[1::2], strict=True))
    argv = survival.command(data, trainer, seed, "digits", *sum(options.items(), ()))
    argv[argv.index("--output-dir") + 1] = str(folder)
    return argv


def run(data, folder, *pairs, **which):
    """Train in this process; returns the exit code."""
    try:
        return train.main(arguments(data, folder, *pairs, **which))
    except SystemExit as leaving:
        return leaving.code


@pytest.fixture(scope="module")
def undisturbed(data):
    """Trainer name -> folder of a finished run with seed 1."""
    folders = {}

    def get(trainer="VPT"):
        if trainer not in folders:
            folders[trainer] = data / f"undisturbed-{trainer}"
            os.environ["VARPROMPT_CACHE"] = str(data / "cache")
            assert run(data, folders[trainer], trainer=trainer) == 0
        return folders[trainer]

    return get


def model(folder):
    found = files.read(folder / f"prompt_learner/model.pth.tar-{EPOCHS}")
    return {k: v for k, v in found.items() if k != "config"}


def equal(one, other):
    """Bit for bit, through dicts and lists."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def same_end(one, other):
    """Whether two runs ended with the same parameters, states and results."""
    results = [survival.results(f, "config", "checkpoint_sha256") for f in (one, other)]
    return equal(model(one), model(other)) and results[0] == results[1]


@contextlib.contextmanager
def after_step(epoch, batch, action):
    """Do something in the run of this process when a step is done (both from 0)."""
    original = PromptTrainer._after_step

    def patched(self, done):
        if (self.epoch, self.batch_idx) == (epoch, batch):
            action(self)
        original(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "_after_step", patched)
        yield


def terminate(trainer=None):
    signal.raise_signal(signal.SIGTERM)


def batch_lines(folder):
    text = (folder / "log.txt").read_text()
    return re.findall(r"^epoch \[(\d)/\d\] batch \[(\d)/\d\].* lr (\S+)", text, re.MULTILINE)


# -- kills ---------------------------------------------------------------------------------------


def test_kill_test_and_soak(tmp_path):
    """A short form of benchmarks/survival.py, with the Dassl that these tests run on."""
    options = ["--kills", "2", "--runs", "2", "--output", tmp_path / "report.json"]
    done = run_forked(survival.main, options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    kills, soak = report["kill_test"], report["soak"]
    assert kills["kills"] >= 2 and kills["identical"] == kills["cases"] > 0
    assert soak == {"runs": 2, "ended": 2, "own_result": 2, "same_as_alone": 2}


class Killed(BaseException):
    """Stands for the moment of a SIGKILL."""


MOMENTS = [("fsync", 1), ("chmod", 1), ("replace", 1), ("replace", 2), ("unlink", 0)]


@pytest.mark.parametrize("call, nth", MOMENTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_state_is_whole_at_every_instant(tmp_path, monkeypatch, call, nth, when):
    path, kept = tmp_path / RESUME, tmp_path / BEFORE
    for number in (1, 2):
        files.write({"number": number}, path, kept)
    original, calls = getattr(os, call), []

    def killed(*args, **options):
        calls.append(call)
        if len(calls) == nth and when == "before":
            raise Killed
        result = original(*args, **options)
        if len(calls) == nth:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process cleans nothing up
        with pytest.raises(Killed) if nth else contextlib.nullcontext():
            files.write({"number": 3}, path, kept)
    newest = path if path.exists() else kept
    assert files.read(newest)["number"] in (2, 3)
    assert {p.name for p in tmp_path.iterdir()} >= {BEFORE} | ({RESUME} if path.exists() else set())
    files.remove_unfinished(tmp_path, OWN_FILES)
    assert {p.name for p in tmp_path.iterdir()} <= {RESUME, BEFORE}
    files.write({"number": 4}, path, kept)  # and it goes on
    assert (files.read(path)["number"], kept.is_file()) == (4, True)


def test_unfinished_files_are_removed_by_the_next_run_only(tmp_path):
    folder = tmp_path / "run"
    (folder / "prompt_learner").mkdir(parents=True)
    mine = [
        folder / ".results.json.abc_1234.tmp",
        folder / f"prompt_learner/.{RESUME}.x2345678.tmp",
    ]
    others = [folder / "notes.tmp", folder / "other/.results.json.abc_1234.tmp"]
    others += [folder / ".notes.tmp", folder / ".notes.abc_1234.tmp", folder / ".foo.tmp/x"]
    others += [folder / ".results.json.tmp", folder / ".results.json.a_folder.tmp/x"]
    for file in mine + others:
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    with lock_run_folder(folder):
        assert [f.exists() for f in mine + others] == [False, False] + [True] * len(others)


# -- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trainer, epoch, batch",
    [("VPT", 0, 0), ("VPT", 0, 3), ("VPT", 1, 1), ("VPT", 1, 3), ("VPT_CoCoOp", 0, 2)],
)
def test_interrupted_anywhere(data, tmp_path, undisturbed, trainer, epoch, batch):
    """Also the log reads as one: every step is in it once, in order, and one result."""
    with after_step(epoch, batch, terminate):
        assert run(data, tmp_path / "run", trainer=trainer) == EXIT_RESUMABLE
    assert not (tmp_path / "run/results.json").exists()
    assert run(data, tmp_path / "run", trainer=trainer) == 0
    assert same_end(tmp_path / "run", undisturbed(trainer))
    lines = batch_lines(tmp_path / "run")
    assert [line[:2] for line in lines] == [(e, b) for e in "12" for b in "1234"]
    assert lines == batch_lines(undisturbed(trainer))
    first, second = ({line[2] for line in lines[n : n + BATCHES]} for n in (0, BATCHES))
    assert first == {"1.0000e-05"} != second and len(second) == 1  # the rate that was used
    log = (tmp_path / "run/log.txt").read_text()
    counts = [log.count(text) for text in ("=> result", "will resume training", "Started again")]
    assert counts == [1, 1, 1]
    assert run(data, tmp_path / "run", trainer=trainer) == 0  # already done
    assert (tmp_path / "run/log.txt").read_text() == log


@pytest.mark.parametrize("steps", [1, 3])
def test_states_between_epochs(data, tmp_path, undisturbed, steps):
    saved = []
    original = PromptTrainer.save_resume_state

    def save(self, epoch, batch):
        saved.append((epoch, batch))
        original(self, epoch, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "save_resume_state", save)
        assert run(data, tmp_path / "run", "TRAIN.CHECKPOINT_STEPS", steps) == 0
    within = [divmod(n, BATCHES) for n in range(steps, EPOCHS * BATCHES, steps) if n % BATCHES]
    assert saved == sorted(within + [(e, 0) for e in range(1, EPOCHS + 1)])
    assert same_end(tmp_path / "run", undisturbed())


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_damaged_state(data, tmp_path, undisturbed, capsys, damage):
    folder = tmp_path / "run/prompt_learner"
    with after_step(1, 1, terminate):
        assert run(data, tmp_path / "run", "TRAIN.CHECKPOINT_STEPS", 1) == EXIT_RESUMABLE
    state = (folder / RESUME).read_bytes()
    content = {"truncated": state[:-999], "empty": b"", "foreign": None}[damage]
    if content is None:
        files.write({"state_dict": {}}, folder / RESUME)
    else:
        (folder / RESUME).write_bytes(content)
    with after_step(1, 1, terminate):  # writes over the damaged one, must keep the good one
        assert run(data, tmp_path / "run") == EXIT_RESUMABLE
    assert f"{RESUME}" in (text := capsys.readouterr().out) and "trying the one before" in text
    assert run(data, tmp_path / "run") == 0
    assert same_end(tmp_path / "run", undisturbed())


def test_good_state_takes_the_place_of_a_damaged_one(data, tmp_path, capsys):
    folder = tmp_path / "run/prompt_learner"
    with after_step(1, 1, terminate):
        assert run(data, tmp_path / "run", "TRAIN.CHECKPOINT_STEPS", 1) == EXIT_RESUMABLE
    before = (folder / BEFORE).read_bytes()
    (folder / RESUME).write_bytes(b"rubbish")
    with after_step(1, 0, lambda trainer: pytest.fail("not from its state")):
        after = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                PromptTrainer, "before_epoch",
                lambda self: (after.append((folder / RESUME).read_bytes()), terminate()),
            )  # fmt: skip
            assert run(data, tmp_path / "run") == EXIT_RESUMABLE
    assert after == [b"rubbish"] and (folder / BEFORE).read_bytes() == before
    with after_step(1, 1, terminate):  # the next state takes the place of the damaged one
        assert run(data, tmp_path / "run") == EXIT_RESUMABLE
    assert files.read(folder / RESUME)["batch"] == 2
    assert (folder / BEFORE).read_bytes() == before

    for name in (RESUME, BEFORE):
        (folder / name).write_bytes(b"rubbish")
    assert run(data, tmp_path / "run") == train.EXIT_BAD_INPUT
    assert "no readable state" in capsys.readouterr().err


def test_own_state_goes_before_that_of_resume(data, tmp_path, undisturbed, capsys):
    with after_step(0, 0, terminate):
        assert run(data, tmp_path / "first") == EXIT_RESUMABLE
    with after_step(1, 0, terminate):
        assert run(data, tmp_path / "run", "RESUME", tmp_path / "first") == EXIT_RESUMABLE
    assert f"Found checkpoint at {tmp_path / 'first'}" in capsys.readouterr().out
    assert run(data, tmp_path / "run", "RESUME", tmp_path / "first") == 0
    assert f"Found checkpoint at {tmp_path / 'run'}" in capsys.readouterr().out
    assert same_end(tmp_path / "run", undisturbed())
    assert files.read(tmp_path / f"first/prompt_learner/{RESUME}")["batch"] == 1


def test_a_test_between_epochs_is_no_result(data, tmp_path):
    options = ("TEST.FINAL_MODEL", "best_val", "TEST.SPLIT", "val", "OPTIM.NAME", "adam")
    options += ("OPTIM.LR", 0.001, "TRAIN.FEATURE_CACHE", 2)
    with after_step(1, 1, terminate):
        assert run(data, tmp_path / "run", *options) == EXIT_RESUMABLE
    assert not (tmp_path / "run/results.json").exists()
    assert run(data, tmp_path / "run", *options) == 0
    assert run(data, tmp_path / "whole", *options) == 0
    assert same_end(tmp_path / "run", tmp_path / "whole")
    assert survival.results(tmp_path / "run")["split"] == "val"


def test_other_training_images_are_refused(data, tmp_path, capsys):
    own = tmp_path / "own"
    (own / "data").mkdir(parents=True)
    shutil.copytree(data / "data/digits", own / "data/digits")
    with after_step(0, 1, terminate):
        assert run(own, tmp_path / "run") == EXIT_RESUMABLE
    shutil.move(own / "data", own / "moved")  # the same images elsewhere are the same
    with after_step(0, 2, terminate):
        argv = arguments(own, tmp_path / "run")
        argv[argv.index("--root") + 1] = str(own / "moved")
        with pytest.raises(SystemExit):
            train.main(argv)
    file = own / "moved/digits/split_zhou_Digits.json"
    split = json.loads(file.read_text())
    split["train"].reverse()
    file.write_text(json.dumps(split))
    capsys.readouterr()
    assert train.main(argv) == train.EXIT_BAD_INPUT
    assert "training images are not those" in capsys.readouterr().err


def test_run_without_seed_can_be_resumed(data, tmp_path):
    assert run(data, tmp_path / "whole", seed=-1) == 0
    (tmp_path / "run").mkdir()
    seed = kept_seed(tmp_path / "whole")
    (tmp_path / "run/.seed").write_text(str(seed))
    with after_step(0, 1, terminate):
        assert run(data, tmp_path / "run", seed=-1) == EXIT_RESUMABLE
    assert run(data, tmp_path / "run", seed=-1) == 0
    assert same_end(tmp_path / "run", tmp_path / "whole")
    assert run(data, tmp_path / "other", seed=-1) == 0
    assert kept_seed(tmp_path / "other") != seed  # one in 2^31 that it is
    assert not equal(model(tmp_path / "other")["state_dict"], model(tmp_path / "run")["state_dict"])


# -- a full disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 3, 4, 6])
def test_disk_is_full(data, tmp_path, undisturbed, monkeypatch, capsys, nth):
    """The n-th file of a run's folder cannot be written; without a cache it would do."""
    folder, synced = tmp_path / "run", []
    with after_step(0, 1, terminate):
        assert run(data, folder) == EXIT_RESUMABLE

    def full(descriptor):
        file = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.extend([file] if file.startswith(str(folder)) else [])
        if len(synced) == nth and synced[-1] == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run(data, folder) == train.EXIT_BAD_INPUT
    assert "No space left on device" in capsys.readouterr().err
    assert not list(folder.rglob("*.tmp"))
    assert run(data, folder) == 0
    assert same_end(folder, undisturbed())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if not done or done.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run([umount, folder], check=True)


def test_small_disk(data, small_disk, undisturbed, capsys):
    """Whatever is left of the disk, the states stay whole, and the run goes on with more."""
    folder, ballast = small_disk / "run", small_disk / "ballast"
    with after_step(0, 1, terminate):
        assert run(data, folder) == EXIT_RESUMABLE
    for room in range(0, 60, 20):  # KiB
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(0, free - room * 1024)))
        assert run(data, folder, "TRAIN.CHECKPOINT_STEPS", 1) == train.EXIT_BAD_INPUT, room
        assert "No space left on device" in capsys.readouterr().err
        ballast.unlink()
        assert not list(folder.rglob("*.tmp"))
        states = [folder / "prompt_learner" / name for name in (RESUME, BEFORE)]
        assert all(files.read(file)["seed"] == 1 for file in states if file.exists())
        assert states[0].exists()
    assert run(data, folder) == 0
    assert same_end(folder, undisturbed())


# -- repeatability -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(data, tmp_path, undisturbed, monkeypatch, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})  # no more workers than these
    assert run(data, tmp_path / "run", "DATALOADER.NUM_WORKERS", workers) == 0
    assert same_end(tmp_path / "run", undisturbed())


class Noisy(torch.utils.data.Dataset):
    """Items drawn from all three generators that transforms use."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        import random

        return {"x": torch.tensor([index, random.random(), np.random.rand(), torch.rand(1).item()])}


def test_items_depend_on_seed_and_epoch_alone():
    def batches(workers, epoch, first=0, seed=0):
        plain = torch.utils.data.DataLoader(Noisy(), 3, num_workers=workers)
        loader = seeded_loader(plain, 3, seed)
        loader.batch_sampler.epoch, loader.batch_sampler.first_batch = epoch, first
        return torch.stack([batch["x"] for batch in loader])

    base = batches(0, 1)
    for workers in (1, 2):
        assert torch.equal(batches(workers, 1), base)
    assert torch.equal(batches(0, 1, first=1), base[1:])
    drawn = base[:, :, 1:].flatten(0, 1)
    for other in (batches(0, 2), batches(0, 1, seed=1)):
        assert not torch.equal(other[:, :, 0], base[:, :, 0])
        assert not set(other[:, :, 1:].flatten().tolist()) & set(drawn.flatten().tolist())
    assert len(set(drawn.flatten().tolist())) == drawn.numel()  # no two items alike


def test_item_leaves_all_generators_alone():
    import random

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    first = SeededItems(Noisy())[3, 123]["x"]
    assert states() == before
    assert torch.equal(first, SeededItems(Noisy())[3, 123]["x"])


def test_zero_is_a_seed(data, tmp_path, capsys):
    for name in ("one", "two"):
        assert run(data, tmp_path / name, seed=0) == 0
    assert "Setting fixed seed: 0" in capsys.readouterr().out
    assert survival.results(tmp_path / "one")["seed"] == 0
    assert same_end(tmp_path / "one", tmp_path / "two")
    assert not (tmp_path / "one/.seed").exists()


def test_deterministic(data, tmp_path, undisturbed, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    torch.backends.cudnn.benchmark = True
    assert run(data, tmp_path / "run", "TRAIN.DETERMINISTIC", True) == 0
    assert torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn
    assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert equal(model(tmp_path / "run"), model(undisturbed()))  # a CPU has no other algorithms


def test_accuracy_is_a_function_of_the_checkpoint(data, tmp_path, undisturbed):
    """Whatever the seed of the process and the batch size at test."""
    outcomes = []
    for number, size in enumerate((500, 77)):
        argv = arguments(data, tmp_path / str(number), "DATALOADER.TEST.BATCH_SIZE", size)
        argv[argv.index("--seed") + 1] = str(number)
        argv[:0] = ["--eval-only", "--model-dir", str(undisturbed())]
        assert train.main(argv) == 0
        found = survival.results(tmp_path / str(number))
        outcomes.append((found["accuracy"], found["n_correct"], round(found["nll"], 5)))
    assert outcomes[0] == outcomes[1]


# -- numbers that are not finite -----------------------------------------------------------------


@contextlib.contextmanager
def poisoned(epoch, batch):
    """One image of a step is not a number."""
    original = PromptTrainer.forward_backward

    def patched(self, content):
        if (self.epoch, self.batch_idx) == (epoch, batch):
            content["img"][1, 0, 0, 0] = math.nan
        return original(self, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "forward_backward", patched)
        yield


@pytest.mark.parametrize("trainer", survival.TRAINERS)
def test_bad_step_is_named_and_can_be_repeated(data, tmp_path, capsys, trainer):
    folder = tmp_path / "run"
    with poisoned(1, 2):
        assert run(data, folder, trainer=trainer) == train.EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "loss nan" in error and "epoch [2/2] batch [3/4], step 6" in error
    assert "TRAIN.MAX_BAD_STEPS" in error and "OPTIM.LR" in error
    assert not (folder / "results.json").exists()

    bundle = files.read(folder / "bad-step-6.pth.tar")
    assert all(path in error for path in bundle["impath"]) and len(bundle["impath"]) == 5
    assert all(Path(path).is_file() for path in bundle["impath"])
    assert bundle["img"].shape == (5, 3, 32, 32) and bundle["img"][1].isnan().any()
    name = re.search(r"largest parameter: (\S+), magnitude (\S+)", error)
    learned = bundle["state_dict"][name.group(1)]
    assert float(name.group(2)) == pytest.approx(learned.abs().max().item(), rel=1e-2)
    assert all(v.isfinite().all() for v in bundle["state_dict"].values())

    cfg = train.setup_cfg(train.parser().parse_args(arguments(data, folder, trainer=trainer)))
    set_random_seed(1)
    again = build_trainer(cfg)
    again.restore(SavedState(bundle, folder / "prompt_learner/x"))
    again.epoch, again.batch_idx, again.num_batches = bundle["epoch"], bundle["batch"], BATCHES
    with pytest.raises(VarPromptError, match="loss nan"):
        again.forward_backward(dict(bundle))
    assert equal(again.model.prompt_learner.state_dict(), bundle["state_dict"])


def test_bad_step_is_left_out(data, tmp_path, capsys):
    """Nothing of it remains: neither in the parameters nor in the momentum nor in the averages."""
    folder, states = tmp_path / "run", []
    original = PromptTrainer.update

    def update(self, *args):
        before = self.state(0)
        original(self, *args)
        if (self.epoch, self.batch_idx) == (0, 1):
            states.append((before, self.state(0)))

    options = ("TRAIN.MAX_BAD_STEPS", 1, "TRAIN.CHECKPOINT_STEPS", 1)
    with pytest.MonkeyPatch.context() as patch, poisoned(0, 1), after_step(0, 2, terminate):
        patch.setattr(PromptTrainer, "update", update)
        assert run(data, folder, *options) == EXIT_RESUMABLE
    before, after = states[0]
    assert (before.pop("bad_steps"), after.pop("bad_steps")) == (0, 1)
    assert equal(*[{k: s[k] for k in ("state_dict", "optimizer")} for s in (before, after)])
    assert "Step left out, 1 of at most 1: loss nan" in capsys.readouterr().out
    with poisoned(1, 0):  # the count goes on in the resumed run
        assert run(data, folder, *options) == train.EXIT_BAD_INPUT
    assert "step 4" in capsys.readouterr().err
    assert run(data, folder) == 0
    assert survival.results(folder)["bad_steps"] == 1
    lines = re.findall(r"^epoch .*", (folder / "log.txt").read_text(), re.MULTILINE)
    assert len(lines) == EPOCHS * BATCHES and "nan" not in "".join(lines)


def test_divergence_stops_the_run(data, tmp_path, capsys):
    """No trick: a rate and a prior that make the parameters overflow."""
    options = ("OPTIM.LR", 1000, "OPTIM.WARMUP_EPOCH", -1, "TRAIN.CLIP_GRAD_NORM", 0.0)
    options += ("TRAINER.VPT.PRIOR_STD", 0.001, "TRAINER.VPT.KL_REDUCTION", "sum")
    assert run(data, tmp_path / "run", *options, "TRAIN.MAX_BAD_STEPS", 2) == train.EXIT_BAD_INPUT
    out, err = capsys.readouterr()
    assert re.search(r"largest parameter: posterior.mu, magnitude \S+e\+\d\d", err)
    assert [f"{n} of at most 2" in out for n in (1, 2)] == [True, True]
    assert len(list((tmp_path / "run").glob("bad-step-*"))) == 3
    states = (tmp_path / "run").rglob("resume*.pth.tar")
    assert all(v.isfinite().all() for s in states
               for v in files.read(s)["state_dict"].values())  # fmt: skip


@pytest.fixture
def trainer(data, tmp_path):
    cfg = train.setup_cfg(train.parser().parse_args(arguments(data, tmp_path / "run")))
    with contextlib.redirect_stdout(None):
        return build_trainer(cfg)


def one_step(trainer):
    trainer.set_model_mode("train")
    return trainer.forward_backward(next(iter(trainer.train_loader_x)))


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_overflow_of_the_scaler_is_no_bad_step(trainer, clip):
    trainer.take_step.clip_norm = clip or math.inf
    trainer.take_step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)
    trainer.model.prompt_learner.posterior.mu.register_hook(lambda gradient: gradient * 1e9)
    before = {k: v.clone() for k, v in trainer.model.prompt_learner.state_dict().items()}
    assert one_step(trainer)["loss"].isfinite()
    assert equal(trainer.model.prompt_learner.state_dict(), before)
    assert trainer.bad_steps == 0 and trainer.take_step.scaler.get_scale() == 2.0**126
    trainer.take_step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one_step(trainer)
    assert not equal(trainer.model.prompt_learner.state_dict(), before)


def test_gradient_that_no_scale_helps_is_a_bad_step(trainer):
    trainer.take_step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    trainer.model.prompt_learner.posterior.mu.register_hook(lambda gradient: gradient * math.inf)
    one_step(trainer)
    assert trainer.bad_steps == 0
    with pytest.raises(VarPromptError, match="norm of the gradient (nan|inf)"):
        one_step(trainer)
    assert trainer.bad_steps == 1


def test_images_that_cannot_be_tested(data, tmp_path, capsys):
    """Probabilities that are not finite are no result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PromptTrainer, "encode_image",
            lambda self, images: self.towers.encode_image(images) * math.nan,
        )  # fmt: skip
        argv = [*arguments(data, tmp_path / "run", "TEST.CACHE_SIZE_GB", 0, "OPTIM.MAX_EPOCH", 0)]
        assert train.main(argv) == train.EXIT_BAD_INPUT
    assert "test images are not finite in precision fp32" in capsys.readouterr().err
    assert not (tmp_path / "run/results.json").exists()


def test_averages_leave_out_what_is_not_finite(capsys):
    log = StepLog(3, 1, "epoch [1/1]", lambda *_: None, 0, 0)
    for batch, value in enumerate((2.0, math.nan, 4.0)):
        log.step(batch, {"loss": torch.tensor(value), "acc": torch.tensor(1.0)}, 0.1)
    assert "loss 4.0000 (3.0000)" in capsys.readouterr().out.splitlines()[-1]


def test_log_variances_are_bounded_smoothly():
    low, high = LOGVAR_BOUNDS
    usual = torch.linspace(-12, 4, 10_001, requires_grad=True)
    assert (bounded(usual) - usual).abs().max() < 1e-6
    (slope,) = torch.autograd.grad(bounded(usual).sum(), usual)
    assert (slope - 1).abs().max() < 1e-6

    wide = torch.linspace(-50, 40, 9_002, dtype=torch.float64, requires_grad=True)
    values = bounded(wide)
    assert low <= values.min() < values.max() <= high and (values.diff() >= 0).all()
    (slope,) = torch.autograd.grad(values.sum(), wide)
    assert ((0 <= slope) & (slope <= 1)).all()
    assert slope.diff().abs().max() < 0.01  # a bend, no corner
    assert torch.autograd.gradcheck(bounded, wide[::200].detach().requires_grad_())

    far = torch.tensor([-math.inf, -1e30, 1e30, math.inf, math.nan])
    assert bounded(far).tolist()[:4] == [low, low, high, high] and bounded(far)[4].isnan()


@pytest.mark.parametrize("value", [-1e4, 1e4])
@pytest.mark.parametrize("feature_width", [0, 7])
def test_no_log_variance_leads_to_an_overflow(value, feature_width):
    posterior = GaussianPosterior(1, 6, feature_width, value)
    learner = prompt.PromptLearner(torch.zeros(4, 6), posterior, prior_std=0.1)
    sample = learner(3, torch.ones(2, 7))
    sample.kl.sum().backward()
    assert sample.contexts.isfinite().all() and sample.kl.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_sampling_and_kl_are_float32(precision, conditional, monkeypatch):
    """Under every precision, and in a half-precision region."""
    seen, original = [], gaussian.reparam_kl

    def recorded(mu, logvar, context, *args, **options):
        contexts, kl = original(mu, logvar, context, *args, **options)
        seen.extend([mu, logvar, context, contexts, kl])
        return contexts, kl

    monkeypatch.setattr(gaussian, "reparam_kl", recorded)
    config = PromptConfig(precision, posterior="gaussian", conditional=conditional, n_samples=2)
    clip = PromptedCLIP(load_clip("embedded"), ["zero", "one", "seven"], config)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    half_outside = precision in ("fp32", "amp")  # the others have half-precision towers
    with torch.autocast("cpu", torch.bfloat16, enabled=half_outside):
        logits, kl = clip.logits(images)
    assert logits.isfinite().all() and kl.dtype == torch.float32
    assert len(seen) == 5 and {tensor.dtype for tensor in seen} == {torch.float32}
    assert all(p.dtype == torch.float32 for p in clip.prompt_learner.parameters())


# -- two at once ---------------------------------------------------------------------------------


def test_second_run_says_who_holds_the_folder(data, tmp_path, capsys):
    folder = tmp_path / "run"
    refused = []
    with after_step(0, 1, lambda _: refused.append(other_run(data, folder))):
        assert run(data, folder) == 0
    ((code, error),) = refused
    assert code == train.EXIT_BAD_INPUT
    holder = rf"process {os.getpid()} on \S+, since \d{{4}}-"
    assert re.search(rf"another run .*{folder}.*{holder}", error)
    assert not list(folder.glob(".holder"))


def other_run(data, folder):
    with contextlib.redirect_stderr(sys.stdout), pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr(sys.stdout, "write", lambda text: lines.append(text) or len(text))
        return run(data, folder), "".join(lines)


def test_holder_that_was_killed_holds_nothing(tmp_path):
    with lock_run_folder(tmp_path):
        note = (tmp_path / ".holder").read_text()
    (tmp_path / ".holder").write_text(note)
    with lock_run_folder(tmp_path):
        pass
    assert not (tmp_path / ".holder").exists()


# -- logs ----------------------------------------------------------------------------------------


def test_logging_stays_on(data, tmp_path, caplog):
    assert run(data, tmp_path / "run", "OPTIM.MAX_EPOCH", 1) == 0
    assert logging.root.manager.disable == 0
    logging.getLogger("somebody").warning("heard")
    assert "heard" in caplog.text


def test_console_stays_a_console(tmp_path):
    code = (
        "import sys; from varprompt.run.log import tee_stdout\n"
        f"with tee_stdout({str(tmp_path / 'log.txt')!r}):\n"
        "    print(sys.stdout.isatty(), sys.stdout.fileno())\n"
    )
    leader, follower = os.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=follower, cwd=ROOT, check=False)
    os.close(follower)
    assert done.returncode == 0 and os.read(leader, 100) == b"True 1\r\n"
    os.close(leader)
    assert (tmp_path / "log.txt").read_text() == "True 1\n"


# -- signals to real processes -------------------------------------------------------------------


def signalled_run(argv, console):
    """train.py in a process group of its own."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of its workers, as by default
    with open(console, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    warnings.simplefilter("default")
    sys.exit(train.main(argv))


@pytest.fixture(scope="module")
def forks():
    """Processes start from one that has imported everything, but has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    return context


class Started:
    """A run in a process, and what it has printed."""

    def __init__(self, forks, argv, console):
        self.console = console
        console.unlink(missing_ok=True)
        self.process = forks.Process(target=signalled_run, args=(argv, console))
        self.process.start()

    def printed(self):
        return self.console.read_text() if self.console.exists() else ""

    def wait_for(self, text):
        end = time.monotonic() + 60
        while text not in self.printed() and self.process.is_alive():
            assert time.monotonic() < end, self.printed()
            time.sleep(0.001)

    def ended(self):
        self.process.join(60)
        assert self.process.exitcode is not None, self.printed()
        return self.process.exitcode


TRAINING, TESTING, BUILDING = "batch [2/4]", "Evaluate on the", "Loading dataset"


@pytest.mark.parametrize(
    "moment, number, group, times, workers",
    [
        pytest.param(TRAINING, signal.SIGTERM, False, 1, 1, id="terminated with a worker"),
        pytest.param(TRAINING, signal.SIGINT, True, 1, 1, id="Ctrl-C reaches the worker, too"),
        pytest.param(TRAINING, signal.SIGINT, True, 3, 1, id="Ctrl-C again and again"),
        pytest.param(TESTING, signal.SIGTERM, False, 1, 1, id="terminated in the test"),
        pytest.param(BUILDING, signal.SIGINT, True, 1, 0, id="Ctrl-C before training"),
    ],
)
def test_signals(data, tmp_path, undisturbed, forks, moment, number, group, times, workers):
    options = ("DATALOADER.NUM_WORKERS", workers, "DATALOADER.TEST.BATCH_SIZE", 3)
    argv = arguments(data, tmp_path / "run", *options, "TEST.CACHE_SIZE_GB", 0)
    started = Started(forks, argv, tmp_path / "console.txt")
    started.wait_for(moment)
    for _ in range(times):
        (os.killpg if group else os.kill)(started.process.pid, number)
    assert started.ended() == EXIT_RESUMABLE, started.printed()
    # torch remarks on it if a signal comes while it starts a worker
    assert "Traceback" not in started.printed().split("Exception ignored")[0]
    assert "the same command goes on" in started.printed()
    assert not (tmp_path / "run/results.json").exists()
    options = ("DATALOADER.NUM_WORKERS", 0)
    assert run(data, tmp_path / "run", "DATALOADER.TEST.BATCH_SIZE", 3) == 0
    assert equal(model(tmp_path / "run")["state_dict"], model(undisturbed())["state_dict"])
    assert (tmp_path / "run/results.json").exists()


def test_killed_with_workers_and_started_again_at_once(data, tmp_path, undisturbed, forks):
    """Its workers live on for seconds, but hold neither the lock nor a file of the run."""
    options = ("DATALOADER.NUM_WORKERS", 1, "TRAIN.CHECKPOINT_STEPS", 1)
    started = Started(forks, arguments(data, tmp_path / "run", *options), tmp_path / "console.txt")
    started.wait_for(TRAINING)
    os.kill(started.process.pid, signal.SIGKILL)
    assert started.ended() == -signal.SIGKILL
    assert run(data, tmp_path / "run") == 0
    assert same_end(tmp_path / "run", undisturbed())
