"""The shell scripts, run with a stub interpreter that notes its arguments; the trainer YAMLs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts/vpt").glob("*.sh"))
SINGLE = [name for name in SCRIPTS if not name.endswith("_all.sh") and name != "common.sh"]
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
    """Runs scripts of this repository from another folder with a stub as the interpreter."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.record = folder / "record"
        self.stub = folder / "python"
        self.stub.write_text(STUB)
        self.stub.chmod(0o755)

    def __call__(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        self.record.write_text("")
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / script), *arguments],
            env=keep | {"PYTHON_BIN": str(self.stub), "STUB_RECORD": str(self.record)} | env,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

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

TRAINER=CoOp L=3 base2new_train.sh dtd 1
dtd CoOp CoOp/vit_b16_ctxv1
--seed 1 --output-dir output/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1
DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

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
    result = shell(f"vpt/{script}", *arguments, **env)
    assert (result.returncode, result.stderr) == (0, "")
    head = (
        f"train.py --root data --trainer {trainer} --dataset-config-file "
        f"configs/datasets/{dataset}.yaml --config-file configs/trainers/{config}.yaml"
    )
    assert shell.calls == [[*head.split(), *" ".join(rest).split()]]
    assert shell.seen["cwd"] == str(ROOT)


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


def test_relative_folders_start_where_the_user_is(shell):
    shell("vpt/fewshot.sh", "dtd", "1", "1", DATA="my data", OUTPUT="here")
    command = shell.calls[0]
    assert command[command.index("--root") + 1] == f"{shell.folder}/my data"
    assert command[command.index("--output-dir") + 1].startswith(f"{shell.folder}/here/dtd/VPT/")


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


@pytest.mark.parametrize("script", ["base2new_train.sh", "xd_test.sh"])
def test_untrained_trainer_is_sent_to_its_script(shell, script):
    result = shell(f"vpt/{script}", "dtd", "1", TRAINER="ZeroshotCLIP")
    assert result.returncode == 2 and "scripts/vpt/zeroshot.sh" in result.stderr


@pytest.mark.parametrize(
    "script, runs",
    [("base2new_all.sh", 11 * 3 * 2), ("xd_all.sh", 3 * (1 + 14)), ("fewshot_all.sh", 11 * 5 * 3),
     ("zeroshot_all.sh", 11 * 3 + 4)],
)  # fmt: skip
def test_whole_table(shell, script, runs):
    result = shell(f"vpt/{script}", "OPTIM.LR", "0.1")
    assert result.returncode == 0
    assert len(shell.calls) == len({tuple(call) for call in shell.calls}) == runs
    assert all(call[-2:] == ["OPTIM.LR", "0.1"] for call in shell.calls)


def test_whole_table_goes_on_after_a_failure_and_lists_it(shell):
    fails = {"STUB_FAILS": "configs/datasets/dtd.yaml"}
    result = shell("vpt/base2new_all.sh", DATASETS="dtd eurosat", SEEDS="1 2", **fails)
    assert result.returncode == 1
    assert len(shell.calls) == 2 + 4
    assert result.stderr.endswith(
        "Failed or not run (4):\n"
        "    base2new_train.sh dtd 1\n"
        "    base2new_test.sh dtd 1 (not run: training failed)\n"
        "    base2new_train.sh dtd 2\n"
        "    base2new_test.sh dtd 2 (not run: training failed)\n"
    )


def test_interrupted_run_stops_the_whole_table(shell):
    fails = {"STUB_FAILS": "configs/datasets/dtd.yaml", "STUB_STATUS": "75"}
    assert shell("vpt/fewshot_all.sh", DATASETS="dtd eurosat", **fails).returncode == 75
    assert len(shell.calls) == 1


# ---------------------------------------------------------------- scripts/test.sh


def test_tests_get_their_arguments(shell):
    assert shell("test.sh", "-k", "a b").returncode == 0
    assert shell.calls == [["-m", "pytest", "-q", "-k", "a b"]]


def test_dassl_root_is_put_in_front_and_checked(shell, tmp_path):
    wrong = shell("test.sh", DASSL_ROOT=str(tmp_path))
    assert wrong.returncode == 2 and "no dassl/__init__.py" in wrong.stderr and not shell.calls
    (tmp_path / "real/dassl").mkdir(parents=True)
    (tmp_path / "real/dassl/__init__.py").touch()
    assert shell("test.sh", DASSL_ROOT="real", PYTHONPATH="/mine").returncode == 0
    assert shell.seen["pythonpath"] == f"{tmp_path}/real:/mine"


# ---------------------------------------------------------------- configs/trainers

TRAINER_YAMLS = sorted(
    path.relative_to(ROOT / "configs/trainers")
    for path in (ROOT / "configs/trainers").glob("*/*.yaml")
    if path.stem != "embedded"
)
BACKBONES = {"rn50": "RN50", "rn101": "RN101", "vit_b32": "ViT-B/32", "vit_b16": "ViT-B/16"}
BACKBONES |= {"vit_l14": "ViT-L/14"}
WORDS = "a photo of a"


def coop_defaults(name: str) -> tuple[int, str]:
    """Epochs and words that the name of one of CoOp's configs stands for."""
    epochs = re.search(r"_ep(\d+)", name)
    return int(epochs[1]) if epochs else 200, WORDS if name.endswith("_ctxv1") else ""


@pytest.mark.parametrize("path", TRAINER_YAMLS, ids=str)
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
    scaled = path.stem.endswith("scaled")
    assert optim == {
        "NAME": "sgd", "LR": 0.06 if scaled else 0.002, "MAX_EPOCH": epochs,
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


def test_every_backbone_has_a_config_for_every_trainer():
    for trainer in ("CoOp", "CoCoOp", "VPT", "VPT_CoCoOp"):
        for backbone in BACKBONES:
            name = f"{backbone}_ctxv1" if trainer == "CoOp" else f"{backbone}_c4_ep10_batch1_ctxv1"
            assert Path(trainer, f"{name}.yaml") in TRAINER_YAMLS
