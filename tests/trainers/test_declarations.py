"""A trainer is what it declares: names decide nothing, subclasses inherit."""

import json

import pytest
from dassl.engine import TRAINER_REGISTRY
from helpers import build, command

import train
from trainers import VPT, VPT_CoCoOp
from trainers.base import PromptTrainer
from varprompt.errors import ConfigError
from varprompt.settings.nodes import prompt_config


class BayesPrompt(VPT):
    """A VPT that is not called so."""


class VPT_CoCoOp_Mine(VPT_CoCoOp):  # noqa: N801
    """A conditional VPT under a longer name."""


class VPTWithout(PromptTrainer):
    """Called like a VPT, but declares nothing."""


class Wordless(PromptTrainer):
    """Has a node of its own, with the options of all variational trainers and one more."""

    node = "WORDLESS"
    variational = True

    @classmethod
    def extend_cfg(cls, cfg):
        super().extend_cfg(cfg)
        cfg.TRAINER.WORDLESS.STRENGTH = 0.5


@pytest.fixture(autouse=True)
def registered():
    kinds = (BayesPrompt, VPT_CoCoOp_Mine, VPTWithout, Wordless)
    for kind in kinds:
        TRAINER_REGISTRY.register(kind)
    yield
    names = next(v for v in vars(TRAINER_REGISTRY).values() if isinstance(v, dict))
    for kind in kinds:
        del names[kind.__name__]


def config(pictures, tmp_path, trainer, **options):
    cfg = train.setup_cfg(
        train.parser().parse_args(command(pictures, tmp_path, trainer=trainer, **options))
    )
    return prompt_config(cfg, trainer)


@pytest.mark.parametrize(
    ("name", "like"), [("BayesPrompt", "VPT"), ("VPT_CoCoOp_Mine", "VPT_CoCoOp")]
)
def test_a_subclass_is_what_its_base_is(name, like, pictures, tmp_path):
    assert config(pictures, tmp_path, name) == config(pictures, tmp_path, like)
    made = build(command(pictures, tmp_path, trainer=name))
    assert made.model.prompt_learner.conditional == (like == "VPT_CoCoOp")


def test_a_trainer_without_declaration_is_refused(pictures, tmp_path, capsys):
    assert train.main(command(pictures, tmp_path / "out", trainer="VPTWithout")) == 2
    assert "the trainer VPTWithout does not declare what it is: set node" in capsys.readouterr().err


def test_a_node_of_its_own(pictures, tmp_path, capsys):
    options = {"TRAINER__WORDLESS__L": 2, "TRAINER__WORDLESS__PREC": "fp32"}
    got = config(pictures, tmp_path, "Wordless", **options)
    assert (got.n_samples, got.kl_weight, got.conditional) == (2, 0.001, False)
    bad = {"TRAINER__WORDLESS__L": 0, "TRAINER__WORDLESS__POSTERIOR": "gauss"}
    with pytest.raises(ConfigError, match=r"TRAINER\.WORDLESS\.L is 0") as caught:
        config(pictures, tmp_path, "Wordless", **bad)
    assert "TRAINER.WORDLESS.POSTERIOR is 'gauss'" in str(caught.value)
    options |= {"TRAINER__WORDLESS__STRENGTH": 2, "OPTIM__MAX_EPOCH": 1}
    arguments = command(pictures, tmp_path / "out", trainer="Wordless", **options)
    assert train.main(arguments) == 0
    out = capsys.readouterr().out
    assert "TRAINER.WORDLESS" not in "".join(x for x in out.splitlines() if "no effect" in x)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert "STRENGTH: 2.0" in results["config"]


def test_nodes_of_trainers_that_are_not_used_make_no_other_run(pictures, tmp_path, capsys):
    options = {"OPTIM__MAX_EPOCH": 0}
    arguments = command(pictures, tmp_path / "out", trainer="VPT", **options)
    assert train.main(arguments) == 0
    assert "WORDLESS" not in (tmp_path / "out/results.json").read_text()


def test_what_is_set_for_another_trainer_is_said(pictures, tmp_path, capsys):
    options = {"OPTIM__MAX_EPOCH": 0, "TRAINER__WORDLESS__L": 3, "MODEL__HEAD__NAME": "mlp"}
    assert train.main(command(pictures, tmp_path / "out", **options)) == 0
    out = capsys.readouterr().out
    assert "TRAINER.WORDLESS.L has no effect on VPT" in out
    assert "MODEL.HEAD.NAME has no effect on VPT" in out
    assert "TRAINER.WORDLESS.KL_WEIGHT" not in out


def test_nodes_in_a_file_that_nobody_here_knows(pictures, tmp_path, capsys):
    """A file of a CoOp-style repository may have options of its own trainers."""
    file = tmp_path / "x.yaml"
    file.write_text(
        "TRAINER:\n  PROVP:\n    N_CTX_VISION: 4\n    W: [0.5, {}]\n  COOP:\n    Q: 1\n"
    )
    arguments = command(pictures, tmp_path / "out", "--config-file", file, OPTIM__MAX_EPOCH=0)
    assert train.main(arguments) == 2
    err = capsys.readouterr().err
    assert "TRAINER.PROVP.W is [0.5, {}] (in " in err
    assert "TRAINER.COOP.Q is not a configuration key" in err
    file.write_text("TRAINER:\n  PROVP:\n    N_CTX_VISION: 4\n    DEEP: {W: [1, 2]}\n")
    assert train.main([*arguments, "TRAINER.PROVP.N_CTX_VISION", "8"]) == 0
    assert "TRAINER.PROVP.N_CTX_VISION has no effect on VPT" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert "N_CTX_VISION: 8" in results["config"]
