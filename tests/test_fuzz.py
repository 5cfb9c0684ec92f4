"""Any command line and any configuration: it runs, or ends with an error of this project's.

Never a traceback from inside a library, and never a silent default: what was given is what the
frozen configuration holds.
"""

import ast
import contextlib
import io
import math
import os
import shutil

import pytest
import yaml
from dassl.config import get_cfg_default
from helpers import ROOT, build, command, make_pictures
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

import datasets  # noqa: F401 - registers the data sets
import train
import trainers.baselines  # noqa: F401 - registers the trainers
from varprompt.config import MOST_SAMPLES, RESIDUALS
from varprompt.config_problems import LONGEST
from varprompt.errors import ConfigError, VarPromptError
from varprompt.objective import KL_REDUCTIONS, OBJECTIVES
from varprompt.ops import SAMPLERS
from varprompt.posteriors import POSTERIORS
from varprompt.settings.nodes import extend_cfg
from varprompt.settings.options import OPTIONS, SUBSETS, TRANSFORMS
from varprompt.towers.load import PRECISIONS
from varprompt.towers.tokens import POSITIONS

TRAINERS = ("VPT", "VPT_CoCoOp", "CoOp", "CoCoOp", "ZeroshotCLIP", "ZeroshotCLIP2")
FLAGS = ("--root", "--output-dir", "--resume", "--seed", "--source-domains", "--target-domains",
         "--transforms", "--config-file", "--dataset-config-file", "--trainer", "--backbone",
         "--head", "--model-dir", "--load-epoch")  # fmt: skip
SWITCHES = ("--eval-only", "--no-train", "--no-cache")
STRANGE = [
    "", " ", "\t\n", "0", "1", "2", "-1", "0.5", "1.0", "1e-5", "1e30", "1e999", "nan", "inf",
    "-inf", "9" * 30, "9" * 5000, "0x10", "1_000", "010", "1j", "b'x'", "True", "False", "true",
    "None", "[]", "()", "[1]", "(32, 32)", "(32.0, 32)", "(32, 32, 32)", "[0.5, 0.5, 0.5]",
    "[1e999, 0, 0]", "['a']", "[[1], 2]", "(0.9, 0.1)", "{'a': 1}", "{1, 2}", "é中😀", "\u202e",
    "²", "٣", "a_photo_of_a", "<|endoftext|>", "<|startoftext|> a", "\udcff", "x" * 300, "#",
    "__import__('os').system('exit 1')", "(" * 300, "[" * 5000, "'", "\\", "'\\d'", "1if 2else 3",
    "--", "-", "-x", "--seed", "=", "ViT-B/99", "embedded", "../..", "/dev/null", "~",
]  # fmt: skip


def quick(n):
    """The same n cases every time."""
    return settings(
        max_examples=n, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def tree():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    for name in set(cfg.TRAINER) - {"NAME", "VPT", "COOP", "COCOOP", "ZEROSHOT"}:
        del cfg.TRAINER[name]
    return cfg


def leaves(node, path=""):
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


DEFAULTS = dict(leaves(tree()))
LISTS = {key for key, option in OPTIONS.items() if option.numbers}
NAMES = {  # values of options that are names
    "TRAINER.NAME": TRAINERS,
    "TRAINER.VPT.OBJECTIVE": OBJECTIVES,
    "TRAINER.VPT.KL_REDUCTION": KL_REDUCTIONS,
    "TRAINER.VPT.POSTERIOR": tuple(POSTERIORS),
    "TRAINER.VPT.RESIDUAL": RESIDUALS,
    "TRAINER.VPT.SAMPLER": tuple(SAMPLERS),
    "TRAINER.COOP.CLASS_TOKEN_POSITION": POSITIONS,
    **{f"TRAINER.{node}.PREC": PRECISIONS for node in ("VPT", "COOP", "COCOOP")},
    **{
        key: tuple(option.choices)
        for key, option in OPTIONS.items()
        if option.choices and not isinstance(DEFAULTS[key], tuple)
    },
}
NUMBERS = {
    "TRAINER.VPT.L": (1, MOST_SAMPLES),
    "TRAINER.VPT.L_TEST": (0, MOST_SAMPLES),
    "TRAINER.VPT.TEST_SEED": (-1, 2**63 - 1),
    "TRAINER.VPT.KL_WEIGHT": (0, 1e6),
    "TRAINER.VPT.PRIOR_STD": (1e-6, 1e6),
    "TRAINER.VPT.LOGVAR_INIT": (-19.9, 9.9),
    **{f"TRAINER.{node}.N_CTX": (0, LONGEST) for node in ("VPT", "COOP", "COCOOP")},
    **{f"TRAINER.{node}.CLASS_WORDS": (0, 1) for node in ("VPT", "COOP", "COCOOP")},
    "TRAINER.VPT.MEM_BUDGET": (0, math.inf),
    "TRAINER.VPT.RANK": (1, 1000),
    **{
        key: (option.least, option.most)
        for key, option in OPTIONS.items()
        if not option.numbers and (option.least, option.most) != (-math.inf, math.inf)
    },
}


def plausible(key):
    """Values of the right kind, at the edges of what is allowed and beyond."""
    default = DEFAULTS[key]
    if key in NAMES:
        return st.sampled_from(NAMES[key])
    if key in NUMBERS:
        low, high = (x if math.isfinite(x) else math.copysign(10**12, x) for x in NUMBERS[key])
        if type(default) is int:
            return st.sampled_from([int(low), int(low) - 1, int(high), int(high) + 1, default, 3])
        return st.sampled_from([low, low - 1e-9, high, high * 1.001, default, (low + high) / 2])
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, list | tuple):
        number = st.sampled_from([-1, 0, 1, 0.5, 32, 1e-7, True, "a", None])
        names = st.sampled_from((*TRANSFORMS, "flip", ""))
        return st.lists(number, max_size=4) | st.lists(names, max_size=4).map(tuple)
    return st.sampled_from(STRANGE) if isinstance(default, str) else st.integers(-2, 9)


strange = st.sampled_from(STRANGE) | st.text(max_size=9) | st.floats().map(repr)
strange |= st.integers().map(str)
keys = st.sampled_from(sorted(DEFAULTS))
pairs = keys.flatmap(lambda k: st.tuples(st.just(k), plausible(k).map(str) | strange))
wrong_keys = st.sampled_from(
    ["", "OPTIM", "OPTIM.", "OPTIM.lr", "OPTIM.LR.X", "TRAINER.VPT", "TRAINER.MCD.N_STEP_F", "é.é",
     "__class__", "OPTIM.__class__", "TRAINER.VPT.LL", "x" * 5000, "update", "OPTIM.update"]
)  # fmt: skip
any_pairs = st.lists(pairs | st.tuples(wrong_keys, strange), max_size=4)
good_pairs = st.lists(pairs, max_size=3)
flag_values = {
    "--seed": st.integers(-3, 2**33).map(str) | strange,
    "--load-epoch": st.integers(-3, 99).map(str) | strange,
    "--trainer": st.sampled_from(TRAINERS) | strange,
    "--transforms": st.sampled_from(TRANSFORMS) | strange,
}
flags = st.lists(
    st.sampled_from(FLAGS).flatmap(lambda f: st.tuples(st.just(f), flag_values.get(f, strange)))
    | st.tuples(st.sampled_from((*SWITCHES, "--trainr", "-h", "--help", "--no-train=3"))),
    max_size=3,
)


def check(argv):
    """The frozen configuration and arguments of a command line, as train.py makes them.

    None if the command line ends with one of this project's errors or of the file system's.
    """
    streams = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with streams[0] as err, streams[1]:
        try:
            args = train.parser().parse_args(argv)
        except SystemExit as end:
            assert end.code == 2 and err.getvalue().startswith("error: ") or end.code in (0, None)
            return None
        try:
            cfg = train.setup_cfg(args)
            train.check_run(cfg, args)
        except ConfigError as error:
            assert error.problems and all(error.problems) and len(str(error)) < 30_000
            return None
        except OSError as error:  # a name that is too long: train.py prints it
            assert error.filename
            return None
    return cfg, args


def at(cfg, key):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def held(cfg, key, given):
    """Whether the configuration holds what was given, as text or in YAML."""
    value, default = at(cfg, key), DEFAULTS[key]
    if isinstance(default, str):
        return value == str(given)
    if isinstance(given, str):
        try:
            given = ast.literal_eval(given)
        except (ValueError, SyntaxError):
            if isinstance(default, list | tuple):
                return list(value) == [given]
            return key == "TRAINER.VPT.LOGVAR_INIT" and value == given
    if isinstance(default, list | tuple):
        return type(value) is type(default) and list(value) == list(given)
    if isinstance(default, float) and isinstance(given, int):
        given = float(given)  # 2 ** 53 + 1 is none
    return value == given and (default is None or type(value) is type(default))


BASE = ["--trainer", "VPT", "--output-dir", "out", "--dataset-config-file",
        str(ROOT / "configs/datasets/custom.yaml"), "--backbone", "embedded"]  # fmt: skip
KEY_OF = {"--trainer": "TRAINER.NAME", "--output-dir": "OUTPUT_DIR", "--resume": "RESUME",
          "--backbone": "MODEL.BACKBONE.NAME", "--head": "MODEL.HEAD.NAME"}  # fmt: skip


@quick(800)
@given(flags, any_pairs)
@example([("--seed", "-0")], [])
@example([], [("TRAINER.VPT.L", "3"), ("TRAINER.VPT.L", "5")])
@example([], [("OUTPUT_DIR", "")])
@example([], [("DATASET.VAL_PERCENT", str(2**53 + 1))])
def test_command_lines(flags, pairs):
    argv = [*BASE, *(x for flag in flags for x in flag), "--no-cache"]
    argv += [x for pair in pairs for x in pair]
    found = check(argv)
    if found is None:
        return
    cfg, args = found
    last = {KEY_OF[f[0]]: f[1] for f in flags if f[0] in KEY_OF} | dict(pairs)
    assert all(held(cfg, key, value) for key, value in last.items())
    assert cfg.is_frozen()
    seeds = [int(f[1]) for f in flags if f[0] == "--seed"]
    if seeds and "SEED" not in last:
        assert cfg.SEED == seeds[-1]


@pytest.mark.parametrize("flag", ["--transforms", "--source-domains", "--target-domains"])
def test_flags_of_several_values_swallow_no_pairs(flag, capsys):
    with pytest.raises(SystemExit):
        train.parser().parse_args([*BASE, flag, "random_flip", "OPTIM.LR", "0.1"])
    assert "OPTIM.LR begins KEY VALUE pairs; put another flag between" in capsys.readouterr().err


@quick(500)
@given(good_pairs, st.sampled_from(TRAINERS))
def test_single_values(pairs, trainer):
    """Few pairs, so that most command lines get through."""
    pairs = [("TRAINER.NAME", trainer), *pairs]
    found = check([*BASE, *(x for pair in pairs for x in pair)])
    if found is not None:
        assert all(held(found[0], key, value) for key, value in dict(pairs).items())


@pytest.mark.parametrize("key", sorted(NUMBERS))
def test_edges(key):
    """The numbers at both ends are allowed, those beyond are not."""
    low, high = NUMBERS[key]
    trainer = {"COOP": "CoOp", "COCOOP": "CoCoOp"}.get(key.split(".")[-2:][0], "VPT")
    start = ["TRAINER.VPT.CTX_INIT", ""]  # N_CTX may be any
    if "CLASS_WORDS" in key:
        start = [key.replace("CLASS_WORDS", "CTX_INIT"), "a photo of a"]
    no_vectors = "N_CTX" in key
    for value, good in ((low, not no_vectors), (high, True), (low - 1, False), (high + 1, False)):
        if math.isfinite(value):
            text = str(int(value) if type(DEFAULTS[key]) is int else value)
            argv = [*BASE, "--trainer", trainer, *start, key, text]
            found = check(argv)
            assert (found is not None) == good, argv
            assert found is None or held(found[0], key, text)


# files

yaml_values = st.one_of(
    strange, st.integers(), st.floats(), st.booleans(), st.none(), st.dates(),
    st.binary(max_size=3), st.lists(st.integers() | strange, max_size=3),
    st.dictionaries(strange, st.integers(), max_size=2),
)  # fmt: skip
yaml_pairs = st.lists(
    keys.flatmap(lambda k: st.tuples(st.just(k), plausible(k) | yaml_values)), max_size=4
)
snippets = st.sampled_from(
    [p.read_text() for p in sorted(ROOT.glob("configs/trainers/*/embedded.yaml"))]
)


def nested(pairs):
    content = {}
    for key, value in pairs:
        node = content
        *path, leaf = key.split(".")
        for name in path:
            node = node.setdefault(name, {})
        node[leaf] = list(value) if isinstance(value, tuple) else value
    return content


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("configs") / "config.yaml"


@quick(400)
@given(pairs=yaml_pairs)
def test_files(file, pairs):
    try:
        text = yaml.safe_dump(nested(pairs), allow_unicode=False)
    except (ValueError, UnicodeError):  # a number that Python does not write
        return
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    found = check([*BASE, "--config-file", str(file)])
    if found is not None:
        assert all(
            held(found[0], k, v) for k, v in dict(pairs).items()
            if k not in ("TRAINER.NAME", "OUTPUT_DIR", "MODEL.BACKBONE.NAME")  # given in BASE
        )  # fmt: skip


@st.composite
def damaged(draw):
    text = draw(snippets)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 5))
        text = text[:start] + draw(st.text(max_size=4) | st.sampled_from(STRANGE)) + text[stop:]
    return text


@quick(200)
@given(damaged() | st.text(max_size=40) | st.binary(max_size=40))
def test_damaged_files(file, text):
    if isinstance(text, str):
        text = text.encode(errors="surrogatepass")
    file.write_bytes(text)
    check([*BASE, "--config-file", str(file)])


# as far as a trainer, and through a run

SLOW = {  # what takes long at its upper end, or leaves this machine
    "DATALOADER.NUM_WORKERS", "DATASET.ROOT", "INPUT.CROP_PADDING", "INPUT.CUTOUT_N", "INPUT.GB_K",
    "INPUT.RANDAUGMENT_N", "INPUT.SIZE", "MODEL.BACKBONE.NAME", "OPTIM.MAX_EPOCH", "OUTPUT_DIR",
    "TRAIN.CHECKPOINT_STEPS", "TRAIN.DETERMINISTIC", "TRAIN.FEATURE_CACHE", "TRAINER.NAME",
    "TRAINER.VPT.L", "TRAINER.VPT.L_TEST",
}  # fmt: skip
SMALL = {
    "OPTIM.MAX_EPOCH": st.integers(0, 2), "TRAINER.VPT.L": st.integers(1, 4),
    "TRAINER.VPT.L_TEST": st.integers(0, 4), "TRAIN.FEATURE_CACHE": st.integers(0, 2),
    "INPUT.CUTOUT_N": st.integers(0, 3), "INPUT.GB_K": st.sampled_from([1, 3, 65]),
    "INPUT.CROP_PADDING": st.sampled_from([0, 40]), "INPUT.RANDAUGMENT_N": st.integers(0, 2),
    "TRAIN.CHECKPOINT_STEPS": st.integers(0, 3),
    "MODEL.BACKBONE.NAME": st.sampled_from(["", "embedded", "ViT-B/99", "é"]),
    "INPUT.SIZE": st.sampled_from(["(32, 32)", "(31, 32)", "(224, 224)"]),
    "INPUT.TRANSFORMS": st.lists(st.sampled_from(TRANSFORMS), max_size=4),
    "TRAINER.VPT.CTX_INIT": st.sampled_from(STRANGE),
    "TRAINER.COOP.CTX_INIT": st.sampled_from(STRANGE),
    "DATASET.NUM_SHOTS": st.integers(-2, 5),
    "SEED": st.integers(0, 3),
    "DATASET.SUBSAMPLE_CLASSES": st.sampled_from(SUBSETS),
    "OPTIM.STEPSIZE": st.lists(st.integers(-1, 3), min_size=1, max_size=3),
}  # fmt: skip


def runnable(key):
    if key in SMALL:
        return SMALL[key]
    default = DEFAULTS[key]
    return st.just(default) if key in SLOW else plausible(key)


interesting = sorted((set(NAMES) | set(NUMBERS) | LISTS) - SLOW | set(SMALL))
run_pairs = st.lists(
    st.sampled_from(interesting).flatmap(lambda k: st.tuples(st.just(k), runnable(k).map(str))),
    max_size=3, unique_by=lambda pair: pair[0],
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data root, and an output folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARPROMPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield make_pictures(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("out")


def line(folders, trainer, pairs):
    root, output = folders
    shutil.rmtree(output, ignore_errors=True)
    return [*command(root, output, trainer=trainer), *(x for pair in pairs for x in pair)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torchvision, about odd transforms
@quick(80)
@given(trainer=st.sampled_from(TRAINERS), pairs=run_pairs)
def test_trainers_are_built(folders, trainer, pairs):
    argv = line(folders, trainer, pairs)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            built = build(argv)
        except VarPromptError as error:
            assert str(error)
            return
    assert built.cfg.TRAINER.NAME == trainer
    assert all(held(built.cfg, key, value) for key, value in pairs)


@pytest.mark.filterwarnings("ignore::UserWarning")
@quick(40)
@given(trainer=st.sampled_from(TRAINERS), pairs=run_pairs)
def test_runs(folders, trainer, pairs):
    """Whole runs of few steps: exit code 0 with results, or 2 with one message."""
    argv = [*line(folders, trainer, pairs), "DATALOADER.TRAIN_X.BATCH_SIZE", "16"]
    argv += ["OPTIM.MAX_EPOCH", "1", "TRAIN.DETERMINISTIC", "False"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = train.main(argv)
    results = os.path.exists(folders[1] / "results.json")
    no_test = dict(pairs).get("TEST.NO_TEST") == "True" and "Zeroshot" not in trainer
    assert code in (0, 2) and results == (code == 0 and not no_test)
    assert "Traceback" not in err.getvalue()
    assert ("error: " in err.getvalue()) == (code == 2)
