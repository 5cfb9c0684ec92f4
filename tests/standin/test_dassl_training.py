"""A real training run: log lines, rates, checkpoints, TensorBoard, resume, evaluation."""

import re
from pathlib import Path

import pytest
import torch
from dassl.engine import TrainerX, build_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from varprompt.common import files

PROGRESS = (
    r"epoch \[(\d)/(\d)\] batch \[(\d)/(\d)\] time \d+\.\d{3} \(\d+\.\d{3}\) "
    r"data \d+\.\d{3} \(\d+\.\d{3}\) loss (\d\.\d{4}) \((\d\.\d{4})\) "
    r"acc (\d+\.\d{4}) \((\d+\.\d{4})\) lr (\d\.\d{4}e-\d\d) eta \d:\d\d:\d\d"
)
RESULT = ["=> result", r"\* total: 5", r"\* correct: \d", r"\* accuracy: \d+\.\d%"]
RESULT += [r"\* error: \d+\.\d%", r"\* macro_f1: \d+\.\d%"]


def check_lines(text, patterns):
    lines = text.splitlines()
    for line, pattern in zip(lines, patterns, strict=False):
        assert re.fullmatch(pattern, line), (line, pattern)
    assert len(lines) == len(patterns)


def printed_rates(text):
    return [m.group(9) for m in re.finditer(PROGRESS, text)]


def test_a_whole_run(cfg, capsys):
    trainer = build_trainer(cfg)
    built, folder = capsys.readouterr().out, re.escape(cfg.OUTPUT_DIR)
    assert built.startswith("Loading trainer: ContractNet\nLoading dataset: ContractPixels\n")
    assert built.endswith("Loading evaluator: Classification\n")
    assert isinstance(trainer, TrainerX) and trainer.device.type == "cpu"
    assert trainer.best_result == -float("inf")
    trainer.train()
    out, err = capsys.readouterr()
    check_lines(
        out,
        ["No checkpoint found, train from scratch"]
        + [rf"Initialize tensorboard \(log_dir={folder}/tensorboard\)"]
        + [PROGRESS] * 4
        + [rf"Checkpoint saved to {folder}/classifier/model\.pth\.tar-2"]
        + ["Finish training", "Deploy the last-epoch model"]
        + [r"Evaluate on the \*test\* set", *RESULT, r"Elapsed: \d:\d\d:\d\d"],
    )
    assert "3/3" in err  # the bar of the three test batches is not in the log
    fields = [m.groups()[:4] for m in re.finditer(PROGRESS, out)]
    assert fields == [(e, "2", b, "2") for e in "12" for b in "12"]
    # the rate on an epoch's last batch is already that of the next epoch
    assert printed_rates(out) == ["1.0000e-05", "2.0000e-03", "2.0000e-03", "1.0000e-03"]
    first, second = re.findall(PROGRESS, out)[:2]
    assert float(second[5]) == pytest.approx((float(first[4]) + float(second[4])) / 2, abs=1e-4)
    assert (trainer.epoch, trainer.max_epoch, trainer.batch_idx, trainer.num_batches) == (
        1,
        2,
        1,
        2,
    )


@pytest.mark.parametrize("freq, batches", [(2, ["2"]), (3, ["1", "2"]), (10, ["1", "2"])])
def test_progress_frequency(cfg, capsys, freq, batches):
    cfg.TRAIN.PRINT_FREQ = freq
    cfg.TEST.NO_TEST = True
    build_trainer(cfg).train()
    out = capsys.readouterr().out
    assert [m.group(3) for m in re.finditer(PROGRESS, out)] == batches * 2
    assert "Evaluate" not in out and "Finish training\nElapsed: " in out


def test_tensorboard(cfg):
    build_trainer(cfg).train()
    events = EventAccumulator(f"{cfg.OUTPUT_DIR}/tensorboard").Reload()
    test_tags = {f"test/{name}" for name in ("accuracy", "error_rate", "macro_f1")}
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/acc", "train/lr"} | test_tags
    assert [e.step for e in events.Scalars("train/lr")] == [0, 1, 2, 3]
    rates = [e.value for e in events.Scalars("train/lr")]
    assert rates == pytest.approx([1e-5, 2e-3, 2e-3, 1e-3])
    assert [e.step for e in events.Scalars("test/accuracy")] == [1]


def test_checkpoint_files_and_keys(cfg, capsys):
    cfg.TRAIN.CHECKPOINT_FREQ = 2
    cfg.OPTIM.MAX_EPOCH = 5
    trainer = build_trainer(cfg)
    trainer.train()
    folder = Path(cfg.OUTPUT_DIR, "classifier")
    names = ["checkpoint", "model.pth.tar-2", "model.pth.tar-4", "model.pth.tar-5"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "checkpoint").read_text() == "model.pth.tar-5\n"
    state = files.read(folder / "model.pth.tar-5")  # weights_only
    assert set(state) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert state["epoch"] == 5 and state["val_result"] is None
    assert files.read(folder / "model.pth.tar-4")["epoch"] == 4
    assert state["scheduler"]["last_epoch"] == 5
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, state["state_dict"][name])


def test_best_val(cfg, capsys):
    cfg.TEST.FINAL_MODEL = "best_val"
    cfg.OPTIM.MAX_EPOCH = 3
    trainer = build_trainer(cfg)
    scores = iter([40.0, 60.0, 60.0])
    test = trainer.test
    trainer.test = lambda split=None: next(scores) if split == "val" else test()
    trainer.train()
    out = capsys.readouterr().out
    assert out.count("Checkpoint saved to") == 3  # better, better, not better but last
    best = f"{cfg.OUTPUT_DIR}/classifier/model-best.pth.tar"
    assert files.read(best)["val_result"] == trainer.best_result == 60.0
    assert "Finish training\nDeploy the model with the best val performance\n" in out
    assert f"Load {best} to classifier (epoch=2, val_result=60.0)" in out


def test_val_split(cfg, capsys):
    cfg.TEST.SPLIT = "val"
    trainer = build_trainer(cfg)
    capsys.readouterr()
    accuracy = trainer.test()
    out = capsys.readouterr().out
    assert "Evaluate on the *val* set" in out and "* total: 3\n" in out
    assert accuracy == pytest.approx(100 * int(re.search(r"correct: (\d)", out)[1]) / 3)
    trainer.val_loader = None
    trainer.test()
    assert "Evaluate on the *test* set" in capsys.readouterr().out
    assert not trainer.model.training


def interrupted(cfg, epoch):
    """Train until `epoch` is about to begin."""
    trainer = build_trainer(cfg)

    def stop():
        if trainer.epoch == epoch:
            raise KeyboardInterrupt

    trainer.before_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.close_writer()


def test_resumed_run_equals_the_uninterrupted_one(cfg, capsys, tmp_path):
    cfg.OPTIM.MAX_EPOCH = 5
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    cfg.DATALOADER.TRAIN_X.SAMPLER = "SequentialSampler"
    cfg.INPUT.TRANSFORMS = ("normalize",)
    torch.manual_seed(3)
    whole = build_trainer(cfg)
    whole.train()
    rates = printed_rates(capsys.readouterr().out)

    cfg.OUTPUT_DIR = str(tmp_path / "second")
    torch.manual_seed(3)
    interrupted(cfg, 2)
    capsys.readouterr()
    resumed = build_trainer(cfg)
    capsys.readouterr()
    resumed.train()
    out = capsys.readouterr().out
    folder = f"{cfg.OUTPUT_DIR}/classifier"
    assert out.splitlines()[:6] == [
        f"Found checkpoint at {cfg.OUTPUT_DIR} (will resume training)",
        f'Loading checkpoint from "{folder}/model.pth.tar-2"',
        "Loaded model weights",
        "Loaded optimizer",
        "Loaded scheduler",
        "Previous epoch: 2",
    ]
    assert printed_rates(out) == rates[4:]
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(value, resumed.model.state_dict()[name], rtol=0, atol=0)


def test_resume_folder(cfg, tmp_path, capsys):
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    interrupted(cfg, 1)
    cfg.RESUME, cfg.OUTPUT_DIR = cfg.OUTPUT_DIR, str(tmp_path / "elsewhere")
    trainer = build_trainer(cfg)
    trainer.train()
    assert trainer.start_epoch == 1
    assert Path(cfg.OUTPUT_DIR, "classifier", "model.pth.tar-2").exists()


def test_finished_run_is_only_tested_again(cfg, capsys):
    build_trainer(cfg).train()
    again = build_trainer(cfg)
    capsys.readouterr()
    again.train()
    out = capsys.readouterr().out
    assert again.start_epoch == 2 and "epoch [" not in out and "=> result" in out


def test_folder_without_checkpoint_is_no_checkpoint(cfg, capsys, repaired):
    Path(cfg.OUTPUT_DIR, "classifier").mkdir(parents=True)
    trainer = build_trainer(cfg)
    assert trainer.resume_model_if_exist(cfg.OUTPUT_DIR) == 0
    trainer._models.clear()  # as in a zero-shot trainer
    assert trainer.resume_model_if_exist(cfg.OUTPUT_DIR) == 0
    assert capsys.readouterr().out.count("train from scratch") == 2


def test_load_model(cfg, capsys, repaired):
    trained = build_trainer(cfg)
    trained.train()
    fresh = build_trainer(cfg)
    capsys.readouterr()
    fresh.load_model(cfg.OUTPUT_DIR, epoch=2)
    path = f"{cfg.OUTPUT_DIR}/classifier/model.pth.tar-2"
    line = f"Load {path} to classifier (epoch=2, val_result=None)\n"
    assert capsys.readouterr().out == line
    assert torch.equal(fresh.model[1].weight, trained.model[1].weight)


def test_load_model_from_nowhere(cfg, capsys):
    trainer = build_trainer(cfg)
    capsys.readouterr()
    trainer.load_model("")
    assert "skipped" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="classifier/model-best.pth.tar"):
        trainer.load_model(cfg.OUTPUT_DIR)
    with pytest.raises(FileNotFoundError, match="model.pth.tar-7"):
        trainer.load_model(cfg.OUTPUT_DIR, epoch=7)


def test_model_registry(cfg):
    trainer = build_trainer(cfg)
    assert trainer.get_model_names() == ["classifier"]
    assert trainer.get_model_names("classifier") == ["classifier"]
    with pytest.raises((KeyError, AssertionError)):
        trainer.get_model_names(["head"])
    with pytest.raises((KeyError, AssertionError)):
        trainer.register_model("classifier", torch.nn.Linear(1, 1))
    with pytest.raises(AttributeError):
        TrainerX.register_model(TrainerX.__new__(TrainerX), "head", torch.nn.Linear(1, 1))
    trainer.set_model_mode("test")
    assert not trainer.model.training
    trainer.set_model_mode("train", "classifier")
    assert trainer.model.training
    with pytest.raises(KeyError):
        trainer.set_model_mode("training")


def test_model_without_optimizer_is_left_alone(cfg):
    trainer = build_trainer(cfg)
    frozen = torch.nn.Linear(2, 1)
    trainer.register_model("frozen", frozen)
    weight = frozen.weight.detach().clone()
    trainer.model_backward_and_update(frozen(torch.ones(1, 2)).sum(), names="frozen")
    trainer.update_lr(["frozen"])
    assert torch.equal(frozen.weight, weight) and frozen.weight.grad is not None
    trainer.save_model(0, cfg.OUTPUT_DIR)
    state = files.read(f"{cfg.OUTPUT_DIR}/frozen/model.pth.tar-1")
    assert state["optimizer"] is None and state["scheduler"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_anomaly(cfg, value):
    trainer = build_trainer(cfg)
    with pytest.raises(FloatingPointError):
        trainer.model_backward_and_update(torch.tensor(value, requires_grad=True) * 1)


def test_default_training_batch(cfg):
    trainer = build_trainer(cfg)
    batch = next(iter(trainer.train_loader_x))
    image, label, domain = TrainerX.parse_batch_train(trainer, batch)
    assert torch.equal(image, batch["img"])
    assert torch.equal(label, batch["label"]) and torch.equal(domain, batch["domain"])
    assert trainer.dm.dataset.classnames[1] == trainer.lab2cname[1] == "green frog"
    assert trainer.num_classes == 3 and trainer.num_source_domains == 0
