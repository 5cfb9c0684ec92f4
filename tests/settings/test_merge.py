"""Files and KEY VALUE pairs: what fits is merged, everything that does not is named."""

import pytest
from dassl.config import get_cfg_default
from yacs.config import CfgNode

from varprompt.errors import ConfigError
from varprompt.settings.merge import difference, merge_file, merge_pairs
from varprompt.settings.nodes import extend_cfg


@pytest.fixture
def cfg():
    made = get_cfg_default()
    extend_cfg(made)
    return made


GOOD = [
    ("TRAINER.VPT.L", "20", 20),
    ("TRAINER.VPT.L", "20.0", 20),
    ("OPTIM.LR", "1", 1.0),
    ("OPTIM.LR", "1e-5", 1e-5),
    ("OPTIM.MAX_EPOCH", 5.0, 5),
    ("INPUT.SIZE", "(32, 32)", (32, 32)),
    ("INPUT.SIZE", [32, 32], (32, 32)),
    ("INPUT.PIXEL_MEAN", (0.5, 0.5, 0.5), [0.5, 0.5, 0.5]),
    ("TRAINER.VPT.LEARN_CONTEXT", "False", False),
    ("TRAINER.VPT.CTX_INIT", "a photo of a", "a photo of a"),
    ("TRAINER.VPT.CTX_INIT", 7, "7"),
    ("TRAINER.VPT.LOGVAR_INIT", "-7.0", -7.0),
    ("TRAINER.VPT.LOGVAR_INIT", "None", None),
    ("SEED", "-1", -1),
]


@pytest.mark.parametrize(("key", "value", "want"), GOOD)
def test_values_that_fit(cfg, key, value, want):
    cfg.TRAINER.VPT.LOGVAR_INIT = -6.0  # None stays possible whatever was merged before
    merge_pairs(cfg, [key, value])
    for name in key.split("."):
        cfg = cfg[name]
    assert cfg == want and type(cfg) is type(want)


BAD = [
    (
        ["TRAINER.VPT.LL", "3"],
        "TRAINER.VPT.LL is not a configuration key; did you mean TRAINER.VPT.L",
    ),
    (["NONSENSE", "3"], "NONSENSE is not a configuration key"),
    (["TRAINER.VPT", "3"], "TRAINER.VPT is not a configuration key"),
    (["TRAINER.VPT.L.X", "3"], "TRAINER.VPT.L.X is not a configuration key"),
    (["TRAINER.VPT.L", "many"], "L is 'many'; a whole number is expected, such as 10"),
    (["TRAINER.VPT.L", "1.5"], "L is '1.5'; a whole number"),
    (["TRAINER.VPT.L", "True"], "L is 'True'; a whole number"),
    (["TRAINER.VPT.LEARN_CONTEXT", "1"], "LEARN_CONTEXT is '1'; True or False is expected"),
    (["OPTIM.LR", "fast"], "OPTIM.LR is 'fast'; a number is expected, such as 0.0003"),
    (["OPTIM.LR", float("nan")], "OPTIM.LR is nan; a number"),
    (["OPTIM.LR", "1e999"], "OPTIM.LR is '1e999'; a number"),
    (["OPTIM.LR", 10**400], "a number is expected"),
    (["TRAINER.VPT.L", 2**63], "L is 9223372036854775808; a whole number"),
    (["TRAINER.VPT.L", "1j"], "L is '1j'; a whole number"),
    (["TRAINER.VPT.L", "(" * 5000], "a whole number"),
    (["TRAINER.VPT.LOGVAR_INIT", "[1]"], "a number or None is expected"),
    (["OUTPUT_DIR", "a\0b"], "OUTPUT_DIR is 'a\\x00b'; a text"),
    (["OUTPUT_DIR", "a\udcff"], "OUTPUT_DIR is 'a\\udcff'; a text"),
    (["TRAINER.VPT.CTX_INIT", False], "CTX_INIT is False; a text"),
    (["MODEL.BACKBONE.NAME", 1.10], "NAME is 1.1; a text"),
    (["INPUT.SIZE", "(32, (32,))"], "INPUT.SIZE is '(32, (32,))'; a list"),
    (["INPUT.PIXEL_MEAN", "[1e999, 0, 0]"], "INPUT.PIXEL_MEAN is '[1e999, 0, 0]'; a list"),
    (["INPUT.SIZE", "32"], "INPUT.SIZE is '32'; a list is expected"),
    (["TRAINER.NAME", ["VPT"]], r"TRAINER.NAME is ['VPT']; a text is expected"),
    (["trainer.vpt.l", 3], "did you mean TRAINER.VPT.L?"),
    (["TRAINER.VPT.L"], "'TRAINER.VPT.L' has no value"),
    (["TRAINER.VPT.L", "3", "--seed", "1"], "--seed stand(s) behind the first KEY VALUE pair"),
    (["TRAINER.VPT.L", "--seed", "1"], "--seed stand(s) behind the first KEY VALUE pair (TRAINER"),
    (["TRAINER.VPT.L", "3", "--eval-only"], "--eval-only stand(s) behind"),
]


@pytest.mark.parametrize(("pairs", "message"), BAD)
def test_pairs_that_do_not_fit(cfg, pairs, message):
    before = cfg.dump()
    with pytest.raises(ConfigError) as caught:
        merge_pairs(cfg, pairs)
    assert message in str(caught.value)
    assert cfg.dump() == before


def test_all_problems_at_once(cfg):
    with pytest.raises(ConfigError) as caught:
        merge_pairs(cfg, ["A", "1", "TRAINER.VPT.L", "x", "OPTIM.LR", "2", "B", "1"])
    assert len(caught.value.problems) == 3


FILES = {
    "A: [1,\n b": "is not valid YAML",
    "- a\n": "holds no KEY: VALUE mapping",
    "OPTIM:\n  LRR: 3\n  LR: fast\n1: 2\n": "OPTIM.LRR is not a configuration key (in ",
    "OPTIM: 3\n": "OPTIM is not a configuration key",
    "OPTIM:\n  LR: .inf\n": "OPTIM.LR is inf",
    "OPTIM:\n  LR: {}\n": "OPTIM.LR is {}",
    "OPTIM:\n  LR: 1\n  LR: 2\n": "the key 'LR' is given 2 times",
    "OPTIM:\n  LR: 1\nOPTIM.LR: 2\n": "has OPTIM.LR twice",
    "TRAINER:\n  VPT:\n    CTX_INIT: no\n": "CTX_INIT is False",
    "INPUT: &a\n  SIZE: [1, 1]\nOPTIM: *a\n": "aliases (*name) are not supported",
    "OPTIM:\n  LR: !!python/object/apply:os.system ['exit 1']\n": "python/object/apply:os.system",
    "OPTIM:\n  LR: !!bool x\n": "is not valid YAML",
    "OPTIM:\n  LR: !!timestamp x\n": "is not valid YAML",
    "OPTIM:\n  LR: 0x" + "f" * 9999 + "\n": "OPTIM.LR is",
    "[" * 9999: "is not valid YAML",
}


@pytest.mark.parametrize("text", FILES)
def test_files_that_do_not_fit(cfg, tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        merge_file(cfg, file)
    assert FILES[text] in str(caught.value) and str(file) in str(caught.value)


def test_files(cfg, tmp_path):
    file = tmp_path / "vit_b16.yaml"
    file.write_text("OPTIM:\n  WARMUP_CONS_LR: 1e-4\n  LR: 1\nINPUT:\n  SIZE: (32, 32)\n")
    merge_file(cfg, file)
    assert (cfg.OPTIM.WARMUP_CONS_LR, cfg.OPTIM.LR, cfg.INPUT.SIZE) == (1e-4, 1.0, (32, 32))
    file.write_text("")
    merge_file(cfg, file)
    file.write_text("OPTIM:\nTRAINER:\n  VPT:\n")  # headings with nothing under them
    merge_file(cfg, file)
    with pytest.raises(ConfigError, match=r"vit_b61\.yaml does not exist; did you mean .*vit_b16"):
        merge_file(cfg, tmp_path / "vit_b61.yaml")
    with pytest.raises(ConfigError, match="no folder"):
        merge_file(cfg, tmp_path / "none" / "x.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        merge_file(cfg, tmp_path / "binary.yaml")


def test_difference(cfg):
    before = cfg.dump()
    merge_pairs(cfg, ["OUTPUT_DIR", "x", "DATALOADER.NUM_WORKERS", 1, "TRAIN.PRINT_FREQ", 3])
    assert difference(before, cfg.dump()) == []
    merge_pairs(cfg, ["TRAINER.VPT.L", 3, "SEED", 2])
    assert difference(before, cfg.dump()) == ["SEED: -1 -> 2", "TRAINER.VPT.L: 10 -> 3"]
    assert "SEED: absent -> 2" in difference("", cfg.dump())


@pytest.mark.parametrize("before", ["[1", "- 1", "OPTIM: &a [*a]", "!!python/name:os.system"])
def test_difference_from_damage(cfg, before):
    assert "SEED: absent -> -1" in difference(before, cfg.dump())


def test_the_last_of_several_values_counts(cfg):
    merge_pairs(cfg, ["TRAINER.VPT.L", "3", "OPTIM.LR", "1", "TRAINER.VPT.L", "5"])
    assert cfg.TRAINER.VPT.L == 5


def test_an_option_that_is_newer_than_a_result_had_its_default(cfg):
    old = cfg.dump()
    lines = [x for x in old.splitlines(True) if "TEMPLATES" not in x and "LISTING" not in x]
    assert difference("".join(lines), old) == []
    merge_pairs(cfg, ["TRAINER.ZEROSHOT.TEMPLATES", "a {}", "DATASET.LISTING", "os"])
    assert difference("".join(lines), cfg.dump()) == [
        "DATASET.LISTING: sorted -> os", "TRAINER.ZEROSHOT.TEMPLATES: [] -> ['a {}']",
    ]  # fmt: skip


def test_an_option_that_is_newer_than_a_result_of_another_node_had_its_default(cfg):
    """Nodes that trainers add have the same options."""
    node = {"W": 8.0, "CTX_INIT": "a photo of a", "CLASS_WORDS": 0.0, "TEMPLATES": ()}
    cfg.TRAINER.KGCOOP = CfgNode(node)
    now = cfg.dump()
    before = "".join(x for x in now.splitlines(True) if "CLASS_WORDS" not in x)
    assert before.count("\n") + 4 == now.count("\n")
    assert difference(before, now) == difference(now, before) == []
    cfg.TRAINER.KGCOOP.CLASS_WORDS = 0.2
    assert difference(before, cfg.dump()) == ["TRAINER.KGCOOP.CLASS_WORDS: 0.0 -> 0.2"]
    del cfg.TRAINER["KGCOOP"]
    (change,) = difference(now, cfg.dump())  # a node that is not there at all is another thing
    assert change.startswith("TRAINER.KGCOOP: {'CLASS_WORDS': 0.0") and change.endswith("absent")


def test_a_file_that_is_far_too_large_is_refused_at_once(tmp_path):
    (tmp_path / "large.yaml").write_text("#" + "x " * 10**6 + "\nOPTIM:\n  LR: 1\n")
    with pytest.raises(ConfigError, match="large.yaml has more than 1 MB: "):
        merge_file(get_cfg_default(), tmp_path / "large.yaml")
