"""Rows of tests/defects.md that no other test shows, and that document itself."""

import re

import pytest
import torch
from helpers import NAMES, ROOT, build, command, images, make_pictures, noise, own_cache, prompted  # noqa: F401
from test_scripts import COMMANDS, Shell

import train
from trainers import data
from varprompt.config import PromptConfig
from varprompt.run.results import read_results
from varprompt.run.store import model_file

ROWS = [f"{s}{n}" for s, count in zip("ABCDEF", (10, 15, 21, 9, 9, 5), strict=True)
        for n in range(1, count + 1)]  # fmt: skip
DOCUMENT = ROOT / "tests/defects.md"
FOLDERS = ("varprompt", "trainers", "datasets", "tools", "scripts")
MODULES = [*ROOT.glob("*.py"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Data root with small pictures."""
    return make_pictures(tmp_path_factory.mktemp("data"))


def test_every_row_is_in_the_document():
    assert re.findall(r"^\| ([A-F]\d+) \|", DOCUMENT.read_text(), re.M) == ROWS


def test_what_the_document_names_is_there():
    for name in re.findall(r"`([^` ]+)`", DOCUMENT.read_text()):
        file, _, test = name.partition("::")
        if "/" in file or test:
            assert (ROOT / file).exists(), name
        if test:
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.M), name


@pytest.mark.parametrize("text", ["breakpoint(", "set_trace", "cuda.amp"])
def test_a6_a8_no_debugger_and_no_outdated_interface(text):
    assert len(MODULES) > 50
    assert not [p for p in MODULES if text in p.read_text()]


@pytest.mark.parametrize("block", COMMANDS.strip().split("\n\n"), ids=lambda b: b.split("\n")[0])
def test_b4_b6_scripts_give_options_that_exist(block):
    """Their command lines, of which the test of the scripts has the text, are valid."""
    _, what, *rest = block.splitlines()
    dataset, trainer, config = what.split()
    args = train.parser().parse_args([
        "--root", "data", "--trainer", trainer,
        "--dataset-config-file", str(ROOT / f"configs/datasets/{dataset}.yaml"),
        "--config-file", str(ROOT / f"configs/trainers/{config}.yaml"), *" ".join(rest).split(),
    ])  # fmt: skip
    cfg = train.setup_cfg(args)
    import datasets  # noqa: F401 - registers the data sets
    import trainers.baselines  # noqa: F401 - registers the trainers

    train.check_run(cfg, args)
    assert args.load_epoch is None  # B8: the last epoch, whatever its number


@pytest.mark.parametrize("trainer", ["VPT", "VPT_CoCoOp", "CoOp", "CoCoOp"])
@pytest.mark.parametrize(
    ("trains", "tests"),
    [(["base2new_train.sh", "dtd", "1"], ["base2new_test.sh", "dtd", "1"]),
     (["xd_train.sh", "2"], ["xd_test.sh", "dtd", "2"])],
)  # fmt: skip
def test_b9_scripts_test_what_they_have_trained(trains, tests, trainer, tmp_path):
    shell, found = Shell(tmp_path), []
    for (script, *arguments), flag in ((trains, "--output-dir"), (tests, "--model-dir")):
        shell(f"vpt/{script}", *arguments, TRAINER=trainer)
        found.append(shell.calls[-1][shell.calls[-1].index(flag) + 1])
        if flag == "--output-dir":
            shell.train(found[0])  # its partner asks for a model
    assert found[0] == found[1]


def test_c3_a_crashed_run_is_not_done_and_another_setting_is_not_skipped(root, tmp_path, capsys):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "log.txt").write_text("epoch [1/3] batch [1/3]\nTraceback (most recent call last)")
    assert train.main(command(root, tmp_path, OPTIM__MAX_EPOCH=1)) == 0
    assert read_results(tmp_path)["n_total"] == 20
    for other in ({"TRAINER__VPT__L": 5}, {"OPTIM__MAX_EPOCH": 2}):
        capsys.readouterr()
        assert train.main(command(root, tmp_path, **{"OPTIM__MAX_EPOCH": 1} | other)) == 2
        assert "holds the results of another configuration" in capsys.readouterr().err


def test_c8_class_names_in_a_file_replace_none(root, tmp_path):
    """A file of CoOp's form has the embeddings of its own classes, as many as there are here."""
    plain = build(command(root, tmp_path / "plain"))
    tokens = plain.model.tokens
    state = {k: v + 0.5 for k, v in plain.model.prompt_learner.state_dict().items()}
    n_classes, width = tokens.n_classes, len(tokens.start)
    state["token_prefix"] = tokens.start.expand(n_classes, 1, width).clone()
    state["token_suffix"] = torch.randn(n_classes, 8, width)
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "model")
    filled = build(command(root, tmp_path / "filled", MODEL__INIT_WEIGHTS=tmp_path / "model"))
    assert torch.equal(filled.model.tokens.fixed, tokens.fixed)
    assert torch.equal(filled.model.prompt_learner.ctx, state["ctx"])


@pytest.mark.parametrize("residual", ["shared", "per_token"])
def test_c10_d6_every_image_has_its_own_residual_at_any_batch_size(residual):
    """Also when there are as many images as context tokens."""
    config = PromptConfig(posterior="gaussian", conditional=True, residual=residual, n_samples=3)
    model, x = prompted(config), images(4)
    eps = noise(3, 4, model.prompt_learner.posterior)
    together, kl = model.logits(x, eps=eps)
    for i in range(4):
        alone, kl_alone = model.logits(x[i : i + 1], eps=eps[:, i : i + 1])
        torch.testing.assert_close(together[:, i : i + 1], alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kl[i : i + 1], kl_alone)
    assert together.shape == (3, 4, len(NAMES)) and kl.shape == (4,)


def test_c15_words_that_decide_are_said(root, tmp_path, capsys):
    build(command(root, tmp_path, trainer="CoOp", TRAINER__COOP__CTX_INIT="a_photo_of_a"))
    assert 'Context tokens: 4, starting from the words "a photo of a"' in capsys.readouterr().out
    build(command(root, tmp_path, trainer="CoOp", TRAINER__COOP__N_CTX=5))
    assert "Context tokens: 5, starting from random vectors" in capsys.readouterr().out


def test_c20_the_printed_rate_is_that_of_the_step(root, tmp_path, capsys):
    """One warm-up epoch, then a half cosine over three: 1, (1 + cos(pi / 3)) / 2."""
    assert train.main(command(root, tmp_path, TRAIN__PRINT_FREQ=1)) == 0
    lines = re.findall(r"^epoch \[(\d)/3\].* lr (\S+) eta", capsys.readouterr().out, re.M)
    rates = {"1": "1.0000e-05", "2": "2.0000e-02", "3": "1.5000e-02"}
    assert lines == [(epoch, rates[epoch]) for epoch in "123" for _ in range(3)]


@pytest.mark.parametrize(("trainer", "count"), [("VPT", 1), ("CoOp", 1), ("VPT_CoCoOp", 4)])
def test_e1_texts_are_encoded_once_in_a_test(trainer, count, root, tmp_path):
    """Conditional prompts: once for each of the three batches, and for the check for a collapse."""
    made, calls = build(command(root, tmp_path, trainer=trainer)), []
    made.towers.encode_text.register_forward_hook(lambda *call: calls.append(1))
    made.test()
    assert len(calls) == count


def test_e6_only_nodes_of_this_project_are_in_the_log(root, tmp_path):
    cfg = train.setup_cfg(train.parser().parse_args(command(root, tmp_path)))
    assert set(cfg.TRAINER) == {"NAME", "VPT", "COOP", "COCOOP", "ZEROSHOT"}


def test_e7_checkpoints_hold_what_is_learned(root, tmp_path):
    made = build(command(root, tmp_path, OPTIM__MAX_EPOCH=1))
    made.train()
    file = model_file(tmp_path)
    found = torch.load(file, weights_only=True)
    n_learned = sum(p.numel() for p in made.model.prompt_learner.parameters())
    assert sum(v.numel() for v in found["state_dict"].values()) == n_learned == 3 * 2 * 64
    assert file.stat().st_size < 20_000


def test_e9_no_more_workers_than_processors(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3})
    made = build(command(root, tmp_path, DATALOADER__NUM_WORKERS=1000))
    assert made.train_loader_x.num_workers == made.test_loader.num_workers == 2
    assert made.train_loader_x.persistent_workers and made.cfg.DATALOADER.NUM_WORKERS == 1000
    assert "2 data loader workers, one for each CPU" in capsys.readouterr().out


def test_systems_that_do_not_say_which_cpus_are_ours(monkeypatch):
    """As macOS and Windows."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    for found, n_cpus in ((None, 1), (3, 3)):
        monkeypatch.setattr("os.cpu_count", lambda found=found: found)
        assert data.n_cpus() == n_cpus
