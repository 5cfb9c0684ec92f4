"""Tools, meters, metrics, optimizers, the log file."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    check_isfile,
    listdir_nohidden,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    read_image,
    read_json,
    save_checkpoint,
    set_random_seed,
    tolist_if_not,
    write_json,
)
from torch import nn

import varprompt.run.schedule
from varprompt.errors import CheckpointError, DataError


def test_average_meter():
    meter = AverageMeter()
    meter.update(2.0)
    meter.update(torch.tensor(5.0), n=2)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (5.0, 4.0, 12.0, 3)


def test_metric_meter():
    meter = MetricMeter()
    meter.update({"loss": torch.tensor(0.5), "acc": 25})
    meter.update(None)
    meter.update({"loss": 1.5})
    assert str(meter) == "loss 1.5000 (1.0000) acc 25.0000 (25.0000)"
    assert meter.meters["loss"].count == 2
    with pytest.raises(TypeError):
        meter.update([("loss", 1.0)])


SCORES = torch.tensor([[3.0, 2, 1], [1, 2, 3], [2, 3, 1]])


def test_accuracy():
    (top1,) = compute_accuracy(SCORES, torch.tensor([0, 1, 2]))
    assert top1.shape == (1,) and top1.item() == pytest.approx(100 / 3)
    (same,) = compute_accuracy((SCORES, None), torch.tensor([0, 1, 2]))
    assert same.item() == top1.item()


def test_accuracy_of_several_ranks(repaired):
    ranks = compute_accuracy(SCORES, torch.tensor([0, 1, 2]), topk=(3, 2, 1))
    assert [rank.item() for rank in ranks] == pytest.approx([100, 200 / 3, 100 / 3])


def test_json_layout(tmp_path):
    path = str(tmp_path / "new" / "split.json")
    write_json({"train": [["a/b.jpg", 0, "bee"]]}, path)
    assert read_json(path) == {"train": [["a/b.jpg", 0, "bee"]]}
    assert (
        Path(path).read_text().startswith('{\n    "train": [\n        [\n            "a/b.jpg",\n')
    )


def test_broken_json_is_named(tmp_path, repaired):
    (tmp_path / "split.json").write_text('{"train": [')
    with pytest.raises(DataError, match="split.json"):
        read_json(str(tmp_path / "split.json"))


def test_files(tmp_path):
    folder = str(tmp_path / "a" / "b")
    mkdir_if_missing(folder)
    mkdir_if_missing(folder)
    for name in ("10.jpg", "9.jpg", ".DS_Store"):
        (Path(folder) / name).touch()
    assert listdir_nohidden(folder, sort=True) == ["10.jpg", "9.jpg"]
    assert set(listdir_nohidden(folder)) == {"10.jpg", "9.jpg"}
    assert check_isfile(f"{folder}/9.jpg") is True
    with pytest.warns(UserWarning, match="No file found.*8.jpg"):
        assert check_isfile(f"{folder}/8.jpg") is False
    assert tolist_if_not("x") == ["x"] and tolist_if_not(["x"]) == ["x"]


def test_broken_image_is_named(tmp_path, repaired):
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(DataError, match=name):
            read_image(str(tmp_path / name))


def test_seed_covers_all_generators():
    draws = []
    for _ in range(2):
        set_random_seed(17)
        draws.append((random.random(), np.random.rand(), torch.rand(2).tolist()))
    assert draws[0] == draws[1]
    assert draws[0][0] == random.Random(17).random()


def test_save_checkpoint(tmp_path, capsys):
    folder = str(tmp_path / "model")
    state = {"state_dict": {"module.w": torch.ones(2), "b": torch.zeros(1)}, "epoch": 3}
    save_checkpoint(dict(state), folder)
    assert sorted(os.listdir(folder)) == ["checkpoint", "model.pth.tar-3"]
    assert set(load_checkpoint(f"{folder}/model.pth.tar-3")["state_dict"]) == {"w", "b"}
    assert Path(folder, "checkpoint").read_text() == "model.pth.tar-3\n"
    save_checkpoint(dict(state), folder, model_name="x.pt")
    assert Path(folder, "checkpoint").read_text() == "x.pt\n"
    lines = [f"Checkpoint saved to {folder}/{name}" for name in ("model.pth.tar-3", "x.pt")]
    assert capsys.readouterr().out.splitlines() == lines


def test_load_checkpoint_refuses(tmp_path, stand_in):
    with pytest.raises(ValueError):
        load_checkpoint(None)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(str(tmp_path / "none"))
    torch.save({"scheduler": print}, tmp_path / "code")
    with pytest.raises(CheckpointError if stand_in else Exception, match="print|code"):
        load_checkpoint(str(tmp_path / "code"))


def test_load_pretrained_weights(tmp_path, capsys):
    model = nn.Linear(2, 3)
    path = str(tmp_path / "weights")
    torch.save({"state_dict": {"module.bias": torch.ones(3), "weight": torch.ones(3, 9)}}, path)
    before = model.weight.detach().clone()
    load_pretrained_weights(model, path)
    assert torch.equal(model.bias, torch.ones(3)) and torch.equal(model.weight, before)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"Successfully loaded pretrained weights from {path}"
    assert out[1].endswith("['weight']")
    torch.save({"other": torch.ones(1)}, path)
    with pytest.warns(UserWarning, match=path):
        load_pretrained_weights(model, path)


@pytest.mark.parametrize(
    "name, kind, options",
    [
        ("sgd", "SGD", {"momentum": 0.7, "dampening": 0, "nesterov": True}),
        ("adam", "Adam", {"betas": (0.8, 0.9), "amsgrad": False}),
        ("amsgrad", "Adam", {"betas": (0.8, 0.9), "amsgrad": True}),
        ("adamw", "AdamW", {"betas": (0.8, 0.9)}),
        ("rmsprop", "RMSprop", {"momentum": 0.7, "alpha": 0.6}),
        ("radam", "RAdam", {"betas": (0.8, 0.9)}),
    ],
)
def test_optimizers(cfg, name, kind, options):
    cfg.OPTIM.merge_from_list(
        ["NAME", name, "LR", 0.5, "WEIGHT_DECAY", 0.25, "MOMENTUM", 0.7, "SGD_NESTEROV", True]
        + ["ADAM_BETA1", 0.8, "ADAM_BETA2", 0.9, "RMSPROP_ALPHA", 0.6]
    )
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(model, cfg.OPTIM)
    assert type(optimizer).__name__ == kind
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 2
    assert {k: group[k] for k in options} == options
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_optimizer_of_given_parameters(cfg):
    model = nn.Linear(2, 3)
    groups = [{"params": [model.weight], "lr": 3.0}]
    (group,) = build_optimizer(model, cfg.OPTIM, groups).param_groups
    assert (group["lr"], len(group["params"])) == (3.0, 1)


def test_unknown_optimizer(cfg):
    cfg.OPTIM.NAME = "sgdd"
    with pytest.raises(ValueError, match="sgdd"):
        build_optimizer(nn.Linear(1, 1), cfg.OPTIM)


def test_schedule_is_ours(repaired):
    assert build_lr_scheduler is varprompt.run.schedule.build_lr_scheduler


LOGGING = """
import os, sys
sys.path[:0] = {path!r}
from varprompt.standin.which import ensure_dassl
ensure_dassl()
from dassl.utils import setup_logger
setup_logger(None)
for text in ("first", "second"):
    setup_logger({folder!r})
    print(text)
    sys.stdout.flush()
setup_logger({folder!r} + "/own.log")
print("third")
sys.stdout.flush()
os._exit(0)
"""


def test_setup_logger_names(tmp_path):
    """log.txt, then one with the time; each also holds what the later ones do."""
    code = LOGGING.format(path=[p for p in sys.path if p], folder=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["first", "second", "third"]
    log, stamped, own = sorted((tmp_path / "run").iterdir(), key=lambda p: len(p.read_text()))[::-1]
    assert log.name == "log.txt" and log.read_text().split() == ["first", "second", "third"]
    assert stamped.read_text().split() == ["second", "third"]
    stamp = stamped.name.removeprefix("log.txt-").split("-")
    assert len(stamp) == 6 and len(stamp[0]) == 4 and all(part.isdigit() for part in stamp)
    assert own.name == "own.log" and own.read_text() == "third\n"
