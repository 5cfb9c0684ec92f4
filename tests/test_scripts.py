"""The shell scripts, run with a stub interpreter that notes its arguments; the trainer YAMLs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from varprompt.errors import ConfigError
from varprompt.settings import recipes, script_tables, scripts

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts/vpt").glob("*.sh"))
SINGLE = [
    name
    for name in SCRIPTS
    if not name.endswith("_all.sh") and name not in ("common.sh", "settle.sh")
]
TABLES = [name for name in SCRIPTS if name.endswith("_all.sh")]
OFFICIAL = "vit_b16_c4_ep10_batch1_ctxv1"
ELEVEN = (
    "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat "
    "ucf101 imagenet"
).split()
RECIPE = {  # samples, epochs
    "caltech101": (20, 20), "oxford_pets": (40, 20), "stanford_cars": (20, 40),
    "oxford_flowers": (10, 40), "food101": (20, 20), "fgvc_aircraft": (10, 10),
    "sun397": (20, 10), "dtd": (40, 10), "eurosat": (20, 60), "ucf101": (5, 20),
    "imagenet": (10, 10),
}  # fmt: skip

STUB = r"""#!/bin/bash
{
    printf '%s\x1f' "$PWD" "${CUDA_VISIBLE_DEVICES-unset}" "${PYTHONPATH-unset}" "$@"
    echo
} >>"$STUB_RECORD"
for word in ${STUB_FAILS-}; do
    if [[ " $* " == *" $word "* ]]; then exit "${STUB_STATUS:-1}"; fi
done
"""


class Shell:
    """Runs scripts of a clone from another folder with a stub as the interpreter.

    The clone has scripts and configs, and of the package what the check of a call needs. A
    python3 without any installed package does that check.
    """

    def __init__(self, folder: Path):
        self.root = folder / "clone"
        for name in ("scripts", "varprompt/settings"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__py*"))
        (self.root / "configs").symlink_to(ROOT / "configs")
        (self.root / "varprompt/common").mkdir()
        for name in ("errors.py", "common/__init__.py", "common/checks.py"):
            shutil.copy(ROOT / "varprompt" / name, self.root / "varprompt" / name)
        (self.root / "varprompt/__init__.py").write_text("raise ImportError('torch')")
        (self.root / "data/dtd").mkdir(parents=True)
        self.folder = folder / "here"
        self.folder.mkdir()
        self.record = folder / "record"
        self.stub = self._executable(folder / "stub", STUB)
        bare = f'#!/bin/bash\nexec {sys.executable} -S -E "$@"\n'
        self._executable(folder / "bin/python3", bare)
        self.path = f"{folder}/bin:{os.environ['PATH']}"

    @staticmethod
    def _executable(file: Path, text: str) -> Path:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file

    def __call__(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        keep = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG")} | {"PATH": self.path}
        self.record.write_text("")
        return subprocess.run(
            ["bash", str(self.root / "scripts" / script), *arguments],
            env=keep | {"PYTHON_BIN": str(self.stub), "STUB_RECORD": str(self.record)} | env,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def train(self, run: str) -> None:
        """Leave a model as a finished training does."""
        folder = self.root / run / "prompt_learner"
        folder.mkdir(parents=True)
        (folder / "model.pth.tar-10").touch()

    def _records(self) -> list[list[str]]:
        return [line.split("\x1f")[:-1] for line in self.record.read_text().splitlines()]

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call of the interpreter."""
        return [record[3:] for record in self._records()]

    @property
    def seen(self) -> dict[str, str]:
        """Working folder and environment of the last call."""
        return dict(zip(("cwd", "gpu", "pythonpath"), self._records()[-1], strict=False))


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


# One block a case: environment, script and arguments; data set, trainer and config file; and all
# that train.py gets besides. @ stands for the official config's name.
COMMANDS = """
base2new_train.sh imagenet 1
imagenet VPT VPT/@
--seed 1 --output-dir output/base2new/train_base/imagenet/shots_16/VPT/@/seed1
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base OPTIM.MAX_EPOCH 10 TRAINER.VPT.L 10

base2new_test.sh dtd 0
dtd VPT VPT/@
--seed 0 --output-dir output/base2new/test_new/dtd/shots_16/VPT/@/seed0
--model-dir output/base2new/train_base/dtd/shots_16/VPT/@/seed0 --eval-only
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES new TRAINER.VPT.L 40

xd_train.sh 3
imagenet VPT VPT/@
--seed 3 --output-dir output/imagenet/VPT/@_16shots/seed3
DATASET.NUM_SHOTS 16 OPTIM.MAX_EPOCH 10 TRAINER.VPT.L 10

xd_test.sh eurosat 2
eurosat VPT VPT/@
--seed 2 --output-dir output/evaluation/VPT/@_16shots/eurosat/seed2
--model-dir output/imagenet/VPT/@_16shots/seed2 --eval-only TRAINER.VPT.L 10

fewshot.sh ucf101 4 1
ucf101 VPT VPT/@
--seed 1 --output-dir output/ucf101/VPT/@_4shots/seed1
DATASET.NUM_SHOTS 4 OPTIM.MAX_EPOCH 20 TRAINER.VPT.L 5

zeroshot.sh food101
food101 ZeroshotCLIP CoOp/vit_b16
--output-dir output/ZeroshotCLIP/vit_b16/food101 --eval-only

SUBSAMPLE_CLASSES=new TRAINER=ZeroshotCLIP2 CFG=rn50 zeroshot.sh food101
food101 ZeroshotCLIP2 CoOp/rn50
--output-dir output/ZeroshotCLIP2/rn50/food101/new --eval-only DATASET.SUBSAMPLE_CLASSES new

CFG=embedded OUTPUT=/out SHOTS=8 base2new_train.sh digits 1
digits VPT VPT/embedded
--seed 1 --output-dir /out/base2new/train_base/digits/shots_8/VPT/embedded/seed1
DATASET.NUM_SHOTS 8 DATASET.SUBSAMPLE_CLASSES base

TRAINER=VPT_CoCoOp base2new_train.sh dtd 1
dtd VPT_CoCoOp VPT_CoCoOp/@
--seed 1 --output-dir output/base2new/train_base/dtd/shots_16/VPT_CoCoOp/@/seed1
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

TRAINER=VPT_CoCoOp L=7 EPOCHS=9 base2new_test.sh dtd 1
dtd VPT_CoCoOp VPT_CoCoOp/@
--seed 1 --output-dir output/base2new/test_new/dtd/shots_16/VPT_CoCoOp/@/seed1
--model-dir output/base2new/train_base/dtd/shots_16/VPT_CoCoOp/@/seed1 --eval-only
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES new TRAINER.VPT.L 7

L=3 EPOCHS=4 base2new_train.sh dtd 1 OPTIM.LR 0.1
dtd VPT VPT/@
--seed 1 --output-dir output/base2new/train_base/dtd/shots_16/VPT/@/seed1
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base OPTIM.MAX_EPOCH 4 TRAINER.VPT.L 3 OPTIM.LR 0.1

TRAINER=CoOp base2new_train.sh dtd 1
dtd CoOp CoOp/vit_b16_ctxv1
--seed 1 --output-dir output/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

SUB=base base2new_test.sh dtd 1
dtd VPT VPT/@
--seed 1 --output-dir output/base2new/test_base/dtd/shots_16/VPT/@/seed1
--model-dir output/base2new/train_base/dtd/shots_16/VPT/@/seed1 --eval-only
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base TRAINER.VPT.L 40

SHOTS=all base2new_train.sh dtd 1
dtd VPT VPT/@
--seed 1 --output-dir output/base2new/train_base/dtd/shots_-1/VPT/@/seed1
DATASET.NUM_SHOTS -1 DATASET.SUBSAMPLE_CLASSES base OPTIM.MAX_EPOCH 10 TRAINER.VPT.L 40

TRAINER=CoOp xd_test.sh dtd 1
dtd CoOp CoOp/vit_b16_ep50_ctxv1
--seed 1 --output-dir output/evaluation/CoOp/vit_b16_ep50_ctxv1_16shots/dtd/seed1
--model-dir output/imagenet/CoOp/vit_b16_ep50_ctxv1_16shots/seed1 --eval-only
""".replace("@", OFFICIAL)


@pytest.mark.parametrize(
    "case", COMMANDS.strip().split("\n\n"), ids=lambda case: case.split("\n")[0]
)
def test_command_line(shell, case):
    call, what, *rest = case.splitlines()
    words = call.split()
    env = dict(word.split("=") for word in words if "=" in word)
    script, *arguments = words[len(env) :]
    dataset, trainer, config = what.split()
    expected = " ".join(rest).split()
    if "--model-dir" in expected:
        shell.train(expected[expected.index("--model-dir") + 1])
    result = shell(f"vpt/{script}", *arguments, **env)
    assert (result.returncode, result.stderr) == (0, "")
    head = (
        f"train.py --root data --trainer {trainer} --dataset-config-file "
        f"configs/datasets/{dataset}.yaml --config-file configs/trainers/{config}.yaml"
    )
    assert shell.calls == [[*head.split(), *expected]]
    assert shell.seen["cwd"] == str(shell.root)


@pytest.mark.parametrize("dataset", ELEVEN)
def test_official_samples_and_epochs(shell, dataset):
    shell("vpt/base2new_train.sh", dataset, "1")
    samples, epochs = RECIPE[dataset]
    assert shell.calls[0][-4:] == ["OPTIM.MAX_EPOCH", str(epochs), "TRAINER.VPT.L", str(samples)]


@pytest.mark.parametrize(
    "dataset, shots, cfg",
    [("dtd", 1, "vit_b16_ep50"), ("dtd", 2, "vit_b16_ep100"), ("dtd", 4, "vit_b16_ep100"),
     ("dtd", 8, "vit_b16"), ("dtd", 16, "vit_b16"), ("imagenet", 16, "vit_b16_ep50")],
)  # fmt: skip
def test_fewshot_length_of_coop(shell, dataset, shots, cfg):
    shell("vpt/fewshot.sh", dataset, str(shots), "1", TRAINER="CoOp")
    assert f"configs/trainers/CoOp/{cfg}.yaml" in shell.calls[0]
    assert (ROOT / f"configs/trainers/CoOp/{cfg}.yaml").is_file()


@pytest.mark.parametrize("name", ["my data", "Übung 1", "a'b", "$HOME", "~", "~/x", "C:\\new\\t"])
def test_folders_start_where_the_user_is(shell, name):
    expected = f"{shell.folder}/{name}".replace("/~", "/home", 1)
    Path(expected).mkdir(parents=True, exist_ok=True)
    result = shell("vpt/fewshot.sh", "dtd", "1", "1", DATA=name, OUTPUT=name,
                   HOME=f"{shell.folder}/home")  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    command = shell.calls[0]
    assert command[command.index("--root") + 1] == expected
    assert command[command.index("--output-dir") + 1].startswith(f"{expected}/dtd/VPT/")


def test_own_yaml_files(shell):
    for name in ("my recipe.yaml", "birds.yaml"):
        (shell.folder / name).write_text("OPTIM: {LR: 0.1}\n")
    env = {"CFG": "my recipe.yaml", "TRAINER": "Mine"}
    result = shell("vpt/fewshot.sh", "./birds.yaml", "1", "1", **env)
    assert (result.returncode, result.stderr) == (0, "")
    command = shell.calls[0]
    assert command[command.index("--config-file") + 1] == f"{shell.folder}/my recipe.yaml"
    assert command[command.index("--dataset-config-file") + 1] == f"{shell.folder}/birds.yaml"
    output = command[command.index("--output-dir") + 1]
    assert output == "output/birds/Mine/my recipe_1shots/seed1"
    assert command[-2:] == ["DATASET.NUM_SHOTS", "1"]  # the authors' numbers are not for this file


def test_gpu_chooses_the_device(shell):
    shell("vpt/xd_train.sh", "1", GPU="1,3")
    assert shell.seen["gpu"] == "1,3"
    shell("vpt/xd_train.sh", "1")
    assert shell.seen["gpu"] == "unset"


@pytest.mark.parametrize("script", SINGLE)
def test_missing_argument_prints_usage_with_an_example(shell, script):
    result = shell(f"vpt/{script}")
    assert result.returncode == 2 and result.stdout == "" and shell.calls == []
    assert re.search(rf"example: .*bash scripts/vpt/{script} \w+", result.stderr)
    assert "source" not in result.stderr


@pytest.mark.parametrize("script", SINGLE + TABLES)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(shell, script, flag):
    result = shell(f"vpt/{script}", flag)
    assert (result.returncode, result.stderr, shell.calls) == (0, "", [])
    assert f"usage:   bash scripts/vpt/{script}" in result.stdout


# Call, and what its error says.
WRONG = """
base2new_train.sh dttd 1 | DATASET is 'dttd'; choose from caltech101, chalk,
base2new_train.sh DTD 1 | did you mean 'dtd'?
base2new_train.sh aircraft 1 | did you mean 'fgvc_aircraft'?
base2new_train.sh ../dtd 1 | DATASET '../dtd': there is no file
base2new_train.sh dtd/ 1 | DATASET is a name in configs/datasets, without .yaml, or the path
base2new_train.sh dtd.yaml 1 | DATASET 'dtd.yaml': there is no file
base2new_train.sh imagenetv2 1 | imagenetv2 has test images only: xd_test.sh, zeroshot.sh
base2new_train.sh dtd '' | SEED is ''; give a whole number
base2new_train.sh dtd 1.5 | SEED is '1.5'; give a whole number
base2new_train.sh dtd -1 | SEED is -1; it must be at least 0
base2new_train.sh dtd 01 | SEED is '01'; give a whole number
base2new_train.sh dtd ٣ | SEED is '٣'; give a whole number
base2new_train.sh dtd 4294967296 | it must be at most 4294967295
base2new_train.sh '' 1 | DATASET is ''; choose from
base2new_train.sh dtd 1 OPTIM.LR | there is no VALUE behind the last KEY, 'OPTIM.LR'
base2new_train.sh dtd 1 OPTIM.LR=1 2 | 'OPTIM.LR=1': write options as KEY VALUE
base2new_train.sh dtd 1 --no-cache x | '--no-cache' is no KEY
L=abc base2new_train.sh dtd 1 | L is 'abc'; give a whole number
L=0 base2new_test.sh dtd 1 | L is 0; it must be at least 1
EPOCHS=1e3 base2new_train.sh dtd 1 | EPOCHS is '1e3'; give a whole number
SHOTS=0 base2new_train.sh dtd 1 | SHOTS is 0; it must be at least 1; SHOTS=all
fewshot.sh dtd 0 1 | SHOTS=all takes all images of a class
SHOTS=-2 xd_train.sh 1 | SHOTS is -2; it must be at least 1; SHOTS=all takes
GPU=gpu0 xd_train.sh 1 | GPU must be the number of a GPU, or several as in 0,1; not 'gpu0'
TRAINER=vpt base2new_train.sh dtd 1 | TRAINER is 'vpt'; choose from CoCoOp, CoOp, IVLP, KgCoOp
TRAINER=ZeroshotCLIP base2new_train.sh dtd 1 | is not trained: use scripts/vpt/zeroshot.sh
TRAINER=ZeroshotCLIP xd_test.sh dtd 1 | is not trained: use scripts/vpt/zeroshot.sh
TRAINER=VPT zeroshot.sh dtd | TRAINER is 'VPT'; choose from ZeroshotCLIP, ZeroshotCLIP2
CFG=vit base2new_train.sh dtd 1 | CFG is 'vit'; choose from embedded, embedded_mixture,
CFG=a/b.yaml base2new_train.sh dtd 1 | CFG 'a/b.yaml': there is no file
CFG=embedded.yaml base2new_train.sh dtd 1 | in configs/trainers/VPT, without .yaml
SUB=all base2new_test.sh dtd 1 | SUB is 'all'; choose from base, new
SUBSAMPLE_CLASSES=new zeroshot.sh imagenet_a | SUBSAMPLE_CLASSES must be all
DATA=nowhere base2new_train.sh dtd 1 | DATA 'nowhere': {here}/nowhere does not exist
DATA=nowhere base2new_train.sh digits 1 | mkdir -p '{here}/nowhere', or leave DATA unset
base2new_test.sh dtd 1 | train it first: bash scripts/vpt/base2new_train.sh dtd 1
TRAINER=CoOp SHOTS=4 base2new_test.sh dtd 2 | SHOTS=4 bash scripts/vpt/base2new_train.sh dtd 2
xd_test.sh dtd 3 | train it first: bash scripts/vpt/xd_train.sh 3
DATASETS=dtd,eurosat base2new_all.sh | DATASET is 'dtd,eurosat'; choose from
SEEDS=x xd_all.sh | SEED is 'x'
SHOT_LIST=0 fewshot_all.sh | SHOTS is 0
zeroshot_all.sh OPTIM.LR | there is no VALUE
"""


@pytest.mark.parametrize("case", WRONG.strip().splitlines())
def test_what_is_wrong_is_said_in_the_words_of_the_user(case, tmp_path, monkeypatch):
    monkeypatch.setattr(scripts, "ROOT", tmp_path)  # no results there
    (tmp_path / "data/dtd").mkdir(parents=True)
    call, _, message = case.partition(" | ")
    words = shlex.split(call)
    env = dict(word.split("=", 1) for word in words[: [".sh" in w for w in words].index(True)])
    script, *arguments = words[len(env) :]
    with pytest.raises(ConfigError) as error:
        if script in TABLES:
            script_tables.plan(script[:-3], env, tmp_path, arguments)
        else:
            scripts.train_arguments(script[:-3], arguments, env, tmp_path)
    assert message.format(here=tmp_path) in str(error.value)
    assert len(error.value.problems) == 1
    assert "--root" not in str(error.value) and "NUM_SHOTS" not in str(error.value)


@pytest.mark.parametrize("script", ["fewshot_all.sh", "base2new_train.sh"])
def test_wrong_name_ends_before_anything_is_installed(shell, script):
    words = [] if "all" in script else ["dttd", "1"]
    result = shell(f"vpt/{script}", *words, DATASETS="dttd", PYTHON_BIN="")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_all_that_is_wrong_is_said_at_once(shell):
    result = shell("vpt/base2new_train.sh", "dttd", "x", L="y", EPOCHS="z", GPU="g", SHOTS="s")
    assert [line.split()[1] for line in result.stderr.splitlines()] == [
        "GPU", "DATASET", "SHOTS", "SEED", "L", "EPOCHS",
    ]  # fmt: skip


def test_forgotten_data_is_said(shell):
    (shell.root / "data/dtd").rmdir()
    (shell.root / "data/digits").mkdir()
    result = shell("vpt/base2new_train.sh", "dtd", "1")
    assert result.returncode == 2 and "say export DATA=/folder" in result.stderr
    assert shell("vpt/base2new_train.sh", "digits", "1").returncode == 0
    table = shell("vpt/base2new_all.sh")  # once, not for each of the eleven
    assert table.returncode == 2 and table.stderr.count("\n") == 1


def test_a_place_for_data_that_cannot_be_made(shell):
    shutil.rmtree(shell.root / "data")
    (shell.root / "data").touch()  # as good as a clone without permission to write
    result = shell("vpt/base2new_train.sh", "digits", "1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: cannot make {shell.root}/data: set DATA and OUTPUT to folders of yours\n"
    )


def test_samples_that_have_no_effect_are_noted(shell):
    result = shell("vpt/base2new_train.sh", "dtd", "1", TRAINER="CoOp", L="3")
    assert result.returncode == 0 and "TRAINER.VPT.L" not in shell.calls[0]
    assert result.stderr == "note: L=3 has no effect: CoOp draws no samples\n"


def test_recipes_are_yaml():
    file = ROOT / "configs/recipes.yaml"
    assert recipes.parse(file.read_text(), "") == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("line", ["a", "  b: 1", "a: 1\n    b: 1", "a:\n  b", "a:1"])
def test_line_of_the_recipes_that_is_not_understood(line):
    with pytest.raises(ConfigError, match=r", line \d: .* is not understood"):
        recipes.parse(line, "recipes.yaml")


@pytest.mark.parametrize(
    "script, runs",
    [("base2new_all", 11 * 3 * 2), ("xd_all", 3 * (1 + 14)), ("fewshot_all", 11 * 5 * 3),
     ("zeroshot_all", 11 * 3 + 4)],
)  # fmt: skip
def test_runs_of_a_whole_table(script, runs, tmp_path):
    steps = script_tables.plan(script, {"DATA": str(tmp_path)})
    assert len(steps) == len(set(steps)) == runs
    assert all(not step.needs or step.needs in [s.words for s in steps] for step in steps)


@pytest.mark.parametrize("script", TABLES)
def test_whole_table_is_a_sweep(shell, script):
    few = {"DATASETS": "dtd eurosat", "SEEDS": "2", "SWEEP": "--jobs 2", "GPU": "1"}
    result = shell(f"vpt/{script}", "OPTIM.LR", "0.1", **few)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    table = script.removesuffix("_all.sh").replace("xd", "cross")
    sweep = [f"{shell.root}/sweep.py", table, "--jobs", "2", "OPTIM.LR", "0.1"]
    assert shell.calls == [sweep]
    assert shell.seen["gpu"] == "1" and shell.seen["cwd"] == str(shell.folder)


def test_settle_is_a_sweep_of_its_own(shell):
    result = shell("vpt/settle.sh", "OPTIM.LR", "0.1", SWEEP="--jobs 2", GPU="1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert shell.calls == [[f"{shell.root}/sweep.py", "settle", "--jobs", "2", "OPTIM.LR", "0.1"]]
    assert shell.seen["gpu"] == "1" and shell.seen["cwd"] == str(shell.folder)
    assert "SEEDS (1 2 3)" in shell("vpt/settle.sh", "--help").stdout


@pytest.mark.parametrize("status", ["1", "75"])
def test_whole_table_ends_as_the_sweep_does(shell, status):
    fails = {"STUB_FAILS": "fewshot", "STUB_STATUS": status}
    assert shell("vpt/fewshot_all.sh", DATASETS="dtd", **fails).returncode == int(status)


# ---------------------------------------------------------------- commands of the README


@pytest.mark.parametrize("command", ["train.py --help", "-m datasets.check data"])
def test_missing_packages_are_one_line_that_names_the_environment(command):
    bare = [sys.executable, "-S", "-E"]  # without installed packages
    result = subprocess.run([*bare, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: the package numpy is not installed")
    assert result.stderr.endswith(f"source {ROOT}/.venv/bin/activate\n")
    assert result.stderr.count("\n") == 1


# ---------------------------------------------------------------- scripts/test.sh


def test_tests_get_their_arguments(shell):
    assert shell("test.sh", "-k", "a b").returncode == 0
    beside_each_other = "-n auto --maxprocesses 8 --dist worksteal".split()
    assert shell.calls == [["-m", "pytest", "-q", *beside_each_other, "-k", "a b"]]


def test_dassl_root_is_put_in_front_and_checked(shell, tmp_path):
    wrong = shell("test.sh", DASSL_ROOT=str(tmp_path))
    assert wrong.returncode == 2 and "no dassl/__init__.py" in wrong.stderr and not shell.calls
    (shell.folder / "real/dassl").mkdir(parents=True)
    (shell.folder / "real/dassl/__init__.py").touch()
    assert shell("test.sh", DASSL_ROOT="real", PYTHONPATH="/mine").returncode == 0
    assert shell.seen["pythonpath"] == f"{shell.folder}/real:/mine"


# ---------------------------------------------------------------- configs/trainers

TRAINER_YAMLS = sorted(
    path.relative_to(ROOT / "configs/trainers")
    for path in (ROOT / "configs/trainers").glob("*/*.yaml")
    if not path.stem.startswith("embedded")
)
BACKBONES = {"rn50": "RN50", "rn101": "RN101", "vit_b32": "ViT-B/32", "vit_b16": "ViT-B/16"}
BACKBONES |= {"vit_l14": "ViT-L/14"}
WORDS = "a photo of a"


def coop_defaults(name: str) -> tuple[int, str]:
    """Epochs and words that the name of one of CoOp's configs stands for."""
    epochs = re.search(r"_ep(\d+)", name)
    return int(epochs[1]) if epochs else 200, WORDS if name.endswith("_ctxv1") else ""


OF_COOP = ("CoOp", "CoCoOp", "VPT", "VPT_CoCoOp")


@pytest.mark.parametrize("path", [p for p in TRAINER_YAMLS if p.parts[0] in OF_COOP], ids=str)
def test_trainer_yaml_says_what_its_name_says(path):
    node = yaml.safe_load((ROOT / "configs/trainers" / path).read_text())
    backbone = re.match(r"rn\d+|vit_[bl]\d+", path.stem)[0]
    assert node["MODEL"]["BACKBONE"]["NAME"] == BACKBONES[backbone]
    assert node["INPUT"] == {
        "SIZE": "(224, 224)", "INTERPOLATION": "bicubic",
        "PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
        "PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
        "TRANSFORMS": ["random_resized_crop", "random_flip", "normalize"],
    }  # fmt: skip
    loader = node["DATALOADER"]
    assert loader["NUM_WORKERS"] == 8
    if path.stem == "rn50_val":
        assert loader["TRAIN_X"]["BATCH_SIZE"] == loader["TEST"]["BATCH_SIZE"] == 200
        assert set(node) == {"DATALOADER", "INPUT", "MODEL"}
        return
    assert loader["TEST"]["BATCH_SIZE"] == 100
    optim = node["OPTIM"]
    epochs, words = coop_defaults(path.stem)
    mixture = path.stem.endswith(("mixture", "mixture_words", "map"))
    scaled = path.stem.endswith("scaled") or mixture
    assert optim == {
        "NAME": "adam" if mixture else "sgd", "LR": 0.06 if scaled and not mixture else 0.002,
        "MAX_EPOCH": epochs,
        "LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant",
        "WARMUP_CONS_LR": "1e-5",
    } | ({"WEIGHT_DECAY": 0.0} if scaled else {})  # fmt: skip
    trainer = path.parts[0]
    if trainer == "CoOp":
        assert (loader["TRAIN_X"]["BATCH_SIZE"], node["TRAIN"]["PRINT_FREQ"]) == (32, 5)
        assert node.get("TRAINER") == ({"COOP": {"CTX_INIT": words}} if words else None)
    elif not scaled:
        assert (loader["TRAIN_X"]["BATCH_SIZE"], node["TRAIN"]["PRINT_FREQ"]) == (1, 20)
        n_ctx = int(re.search(r"_c(\d+)_", path.stem)[1])
        block = {"N_CTX": n_ctx, "CTX_INIT": words, "PREC": "fp16"}
        name = "COCOOP" if trainer == "CoCoOp" else "VPT"
        assert node["TRAINER"] == {name: block | ({"L": 10} if name == "VPT" else {})}


# (batch, rate, epochs) of the authors, by the family of a trainer and the end of a file's name
PUBLISHED = {
    ("KgCoOp", "ep100"): (128, 0.002, 100), ("KgCoOp", "ep100_ctxv1"): (128, 0.002, 100),
    ("MaPLe", "2ctx"): (4, 0.0035, 5), ("MaPLe", "2ctx_cross_datasets"): (4, 0.0026, 2),
    ("IVLP", "4+4ctx"): (4, 0.0025, 20), ("PromptSRC", "4+4ctx"): (4, 0.0025, 20),
    ("PromptSRC", "4+4ctx_cross_datasets"): (4, 0.0025, 20),
    ("PromptSRC", "4+4ctx_few_shot"): (4, 0.0025, 50),
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in TRAINER_YAMLS if p.parts[0] not in OF_COOP], ids=str)
def test_recipe_of_a_prompt_learner_is_the_published_one(path):
    node, family = (
        yaml.safe_load((ROOT / "configs/trainers" / path).read_text()),
        path.parts[0].removeprefix("VPT_"),
    )  # fmt: skip
    end = re.search(r"ep100.*|\d(\+4)?ctx.*", path.stem)[0]
    optim = node["OPTIM"]
    got = (node["DATALOADER"]["TRAIN_X"]["BATCH_SIZE"], optim["LR"], optim["MAX_EPOCH"])
    assert got == PUBLISHED[family, end]
    assert node["MODEL"]["BACKBONE"]["NAME"] == ("RN50" if "rn50" in path.stem else "ViT-B/16")
    assert list(node["TRAINER"]) == [path.parts[0].upper()]


@pytest.mark.parametrize(
    ("trainer", "protocol", "end"),
    [
        ("MaPLe", "base2new", "_2ctx"), ("VPT_MaPLe", "xd", "_2ctx_cross_datasets"),
        ("PromptSRC", "fewshot", "_few_shot"), ("VPT_PromptSRC", "base2new", "_4+4ctx"),
        ("KgCoOp", "xd", "_ep100_ctxv1"), ("IVLP", "fewshot", "_4+4ctx"), ("VPT", "xd", "_ctxv1"),
    ],
)  # fmt: skip
def test_config_of_a_protocol(trainer, protocol, end):
    name = recipes.default_config(trainer, "dtd", protocol, "16")
    assert name.endswith(end) and Path(trainer, f"{name}.yaml") in TRAINER_YAMLS


def test_every_backbone_has_a_config_for_every_trainer():
    for trainer in ("CoOp", "CoCoOp", "VPT", "VPT_CoCoOp"):
        for backbone in BACKBONES:
            name = f"{backbone}_ctxv1" if trainer == "CoOp" else f"{backbone}_c4_ep10_batch1_ctxv1"
            assert Path(trainer, f"{name}.yaml") in TRAINER_YAMLS
