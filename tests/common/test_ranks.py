"""One run on several processes: the same numbers, one writer, and an end when one is lost.

The processes are forked from this one, in place of torchrun's, which would import everything anew.
"""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import reference
import torch
from helpers import command, images, make_pictures, prompted, small_clip
from safetensors.torch import save_file

import train
from benchmarks._rows import PASSING
from varprompt.common import files
from varprompt.common.ranks import ALONE, joined, share
from varprompt.config import PromptConfig
from varprompt.objective import objective
from varprompt.towers.spread import SpreadTextEncoder, grid


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("data"))


class Processes:
    """Forked processes of one run; `work()` returns the exit code of each."""

    def __init__(self, size, work, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.pids = [self._start(n, size, port, work, log) for n in range(size)]

    @staticmethod
    def _start(number, size, port, work, log):
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            torch.set_num_threads(1)
            os.environ |= {
                "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
            }  # fmt: skip
            with open(f"{log}.{number}", "w") as file:
                with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                    code = work() or 0
        except SystemExit as leaving:
            code = leaving.code
        finally:
            os._exit(code)

    def wait(self):
        """The exit codes, minus the signal of those that were killed."""
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]


def run_on(size, log, arguments):
    """Exit codes of train.py on `size` processes."""
    return Processes(size, lambda: train.main(arguments), log).wait()


def state(folder):
    return files.read(folder / "prompt_learner/resume.pth.tar")


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return {k: v for k, v in content.items() if k not in (*PASSING, "config", "checkpoint_sha256")}


CONFIGS = {
    "VPT": PromptConfig(n_samples=3, posterior="gaussian", kl_weight=0.1, precision="fp32"),
    "VPT_CoCoOp": PromptConfig(
        n_samples=2, posterior="gaussian", conditional=True, kl_weight=0.1, precision="fp32"
    ),
    "CoOp": PromptConfig(ctx_init="", n_ctx=3, class_specific=True, precision="fp32"),
    "CoOp in the middle": PromptConfig(position="middle", precision="fp32"),
    "CoCoOp": PromptConfig(posterior="meta_net", conditional=True, precision="fp32"),
    "words of the class": PromptConfig(
        posterior="mixture",
        residual="per_token",
        component="delta",
        learn_context=False,
        templates=("a photo of a {}.", "a {} in the art."),
        kl_weight=0.1,
        class_words=0.2,
    ),
}
MANY = [f"{word} number {n}" for n in range(9) for word in ("dog", "a long river boat", "x")]


def learn(file):
    """What each kind of learner is after 30 steps on 5 images; the first process writes it."""
    with joined(use_cuda=False) as ranks:
        learned = {}
        for name, config in CONFIGS.items():
            model = prompted(config, MANY)
            if ranks.size > 1:
                model.towers.encode_text = SpreadTextEncoder(model.towers.encode_text, ranks)
            parameters = list(model.prompt_learner.parameters())
            optimizer = torch.optim.SGD(parameters, 0.002, momentum=0.9)
            noise = torch.Generator().manual_seed(3)
            for step in range(30):
                features = ranks.rows(model.towers.encode_image, images(5, seed=step))
                logits, kl = model.logits_of(features, generator=noise)
                optimizer.zero_grad()
                terms = objective(logits, torch.arange(5), kl, model.objective_config(13))
                terms.loss.backward()
                optimizer.step()
            learned[name] = [p.detach().clone() for p in parameters]
        if ranks.first:
            torch.save(learned, file)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    for size in (1, 2, 4):
        file = folder / f"{size}.pt"
        processes = Processes(size, lambda file=file: learn(file), folder / f"log{size}")
        assert processes.wait() == [0] * size, (folder / f"log{size}.0").read_text()
    return {size: torch.load(folder / f"{size}.pt") for size in (1, 2, 4)}


@pytest.mark.parametrize("trainer", CONFIGS)
def test_parameters_after_30_steps_do_not_depend_on_the_number_of_ranks(trainer, learned):
    """5 images: 4 processes do not divide them, 2 have 3 and 2."""
    alone = learned[1][trainer]
    untrained = list(prompted(CONFIGS[trainer], MANY).prompt_learner.parameters())
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(alone, untrained, strict=True))
    for size in (2, 4):
        for a, b in zip(alone, learned[size][trainer], strict=True):
            assert (a - b).abs().max() < 1e-5


VISUAL = {  # coupled and independent prompts in both towers, regularisers, averages
    "VPT": {},
    "MaPLe": {"TRAINER__MAPLE__PREC": "fp32", "TRAINER__MAPLE__PROMPT_DEPTH": 2},
    "VPT_PromptSRC": {
        f"TRAINER__VPT_PROMPTSRC__{key}": value
        for key, value in (
            ("PREC", "fp32"),
            ("L", 2),
            ("PROMPT_DEPTH_TEXT", 2),
            ("PROMPT_DEPTH_VISION", 2),
        )  # fmt: skip
    },
}


@pytest.mark.parametrize("trainer", VISUAL)
def test_a_run_does_not_depend_on_the_number_of_ranks(trainer, pictures, tmp_path):
    """20 test images in batches of 7: each process encodes whole batches."""
    options = {"OPTIM__MAX_EPOCH": 2, "TEST__CACHE_SIZE_GB": 0, "OPTIM__LR": 0.002}
    if trainer != "VPT":
        clip = reference.random_clip(patch=8, context_length=40).state_dict()
        save_file({k: v.contiguous() for k, v in clip.items()}, tmp_path / "vit.safetensors")
        options["MODEL__BACKBONE__PATH"] = tmp_path / "vit.safetensors"
        options["MODEL__BACKBONE__ACTIVATION"] = "quick_gelu"
    found, learned = [], []
    for size in (1, 2):
        folder = tmp_path / str(size)
        arguments = command(pictures, folder, trainer=trainer, **options, **VISUAL[trainer])
        log = tmp_path / f"log{size}"
        assert run_on(size, log, arguments) == [0] * size, Path(f"{log}.0").read_text()[-2000:]
        found.append(results(folder))
        learned.append(state(folder)["state_dict"])
    for name, value in learned[0].items():
        assert (learned[1][name] - value).abs().max() < 1e-5, name
    assert found[0].pop("nll") == pytest.approx(found[1].pop("nll"), abs=1e-5)
    assert found[0]["per_class"] == found[1]["per_class"]
    assert found[0]["identity"] == found[1]["identity"]


def test_only_the_first_writes_and_prints(pictures, tmp_path):
    run_on(1, tmp_path / "one", command(pictures, tmp_path / "alone", OPTIM__MAX_EPOCH=1))
    run_on(2, tmp_path / "two", command(pictures, tmp_path / "both", OPTIM__MAX_EPOCH=1))
    listed = [
        sorted(str(p.relative_to(tmp_path / name)).split(".out.")[0] for p in
               (tmp_path / name).rglob("*") if "events.out" not in p.name)
        for name in ("alone", "both")
    ]  # fmt: skip
    assert listed[0] == listed[1]
    assert len(list((tmp_path / "both/tensorboard").iterdir())) == 1
    assert (tmp_path / "two.1").read_text() == ""
    log = (tmp_path / "both/log.txt").read_text()
    assert log.count("epoch [1/1] batch [2/3]") == log.count("* accuracy") == 1


def test_a_run_goes_on_with_another_number_of_ranks(pictures, tmp_path):
    def stopped_in_epoch_2():
        """A signal comes to one process only, in the middle of an epoch."""
        from trainers.base import PromptTrainer

        take = PromptTrainer.forward_backward

        def forward_backward(self, batch):
            if (self.epoch, self.batch_idx) == (1, 1) and self.ranks.number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return take(self, batch)

        PromptTrainer.forward_backward = forward_backward
        return train.main(arguments)

    whole = command(pictures, tmp_path / "whole")
    assert run_on(1, tmp_path / "log-whole", whole) == [0]
    arguments = command(pictures, tmp_path / "parts")
    assert Processes(2, stopped_in_epoch_2, tmp_path / "log-parts").wait() == [75, 75]
    assert (state(tmp_path / "parts")["epoch"], state(tmp_path / "parts")["batch"]) == (1, 2)
    assert run_on(3, tmp_path / "log-rest", arguments) == [0, 0, 0]
    expected, got = (state(tmp_path / name)["state_dict"] for name in ("whole", "parts"))
    assert all((got[name] - expected[name]).abs().max() < 1e-5 for name in expected)


def test_a_lost_process_ends_the_others_and_leaves_the_state(pictures, tmp_path):
    arguments = command(pictures, tmp_path / "run", OPTIM__MAX_EPOCH=1000)
    processes = Processes(2, lambda: train.main(arguments), tmp_path / "log")
    end = time.monotonic() + 60
    while not (tmp_path / "run/prompt_learner/resume.pth.tar").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(processes.pids[1], signal.SIGKILL)
    assert processes.wait() == [2, -9]
    said = (tmp_path / "log.0").read_text()
    assert "error: another process of this run has ended or cannot be reached" in said
    assert "Traceback" not in said
    assert state(tmp_path / "run")["epoch"] >= 1


def test_shares_cover_everything_once():
    for total in range(0, 23):
        for size in range(1, 6):
            for unit in (1, 4):
                parts = [share(total, number, size, unit) for number in range(size)]
                rows = [row for part in parts for row in range(total)[part]]
                assert rows == list(range(total))
                assert all(part.start % unit == 0 or part.start == total for part in parts)


def test_grids_share_the_work():
    tokens = prompted(PromptConfig()).tokens
    assert grid(10, 100, tokens, 4) == (2, 2)  # 5 x 50 is less than 3 x 100, and than 10 x 25
    assert grid(8, 100, tokens, 4) == (4, 1) and grid(1, 100, tokens, 4) == (1, 4)


def test_one_process_alone_exchanges_nothing(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined(False) as alone:
        assert alone is ALONE and alone.first
    rows = torch.randn(3, 5)
    assert alone.rows(lambda x: 2 * x, rows).equal(2 * rows)
    assert alone.all_of("x") == ["x"] and alone.any(True) and not alone.any(False)
    assert alone.add(rows) is rows and alone.of_first(lambda: 3) == 3


def test_budget_is_divided_among_the_processes_of_a_machine():
    model = prompted(PromptConfig(), clip=small_clip())
    encoder = model.towers.encode_text
    budget = encoder.resolved_budget
    SpreadTextEncoder(encoder, type(ALONE)(0, 4, 4))
    assert encoder.resolved_budget == budget // 4


def test_benchmark(monkeypatch, capsys, tmp_path):
    from benchmarks import ranks as benchmark

    file = tmp_path / "ranks.json"
    options = f"--backbone tiny --classes 5 -L 2 --repeats 1 --json {file}"
    monkeypatch.setattr("sys.argv", ["ranks.py", *options.split()])
    threads = torch.get_num_threads()
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(threads)
    assert "2 processes: 0." in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert report["ranks"].keys() == {"1", "2"} and report["options"]["classes"] == 5
    assert all(row["processor_seconds"]["p50"] > 0 for row in report["ranks"].values())
    assert report["ranks"]["1"]["seconds"]["times"] == 1


def test_threads_have_let_go_of_all_tensors_before_the_group_ends(tmp_path, monkeypatch):
    """With torch 2.6 the end of the group waited for a thread that waited for Python's lock."""
    import torch.distributed as dist

    seen, exchange, end = [], dist.all_reduce, dist.destroy_process_group
    monkeypatch.setattr(dist, "all_reduce", lambda *a, **k: seen.append(1) or exchange(*a, **k))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: seen.append("end") or end())

    def work():
        with joined(use_cuda=False) as ranks:
            ranks.add(torch.ones(3))
        return 0 if seen == [1] * 9 + ["end"] else 1

    assert Processes(2, work, tmp_path / "log").wait() == [0, 0]
