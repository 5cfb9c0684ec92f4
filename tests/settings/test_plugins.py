"""Modules of other people, from another working directory: each kind of plug-in, and its errors."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from forked import run_forked
from helpers import OPTIONS, ROOT
from PIL import Image

import train
from datasets import check

PACKAGE = ROOT / "tests/plugin_package"
FOLDERS = ("a", "b1", "b2", "spare")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A working directory with the plug-ins and a data root, where nothing of ours is."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(PACKAGE, folder, dirs_exist_ok=True)
    noise = np.random.RandomState(0)
    for name in FOLDERS:
        (folder / "data/buttons/pictures" / name).mkdir(parents=True)
        for i in range(10):
            pixels = noise.randint(0, 255, (33, 35, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"data/buttons/pictures/{name}/{i}.png")
    (folder / "broken.py").write_text("import json\njson.loads('')\n")
    (folder / "greedy.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY, TrainerX\n\n\n"
        "@TRAINER_REGISTRY.register()\nclass VPT(TrainerX): ...\n"
    )
    return folder


def run(folder, *arguments, plugins="", anew=False, **options):
    """Exit code and output of train.py in `folder`; `anew`: it imports everything again."""
    pairs = {"DATASET.NAME": "Buttons", "OPTIM.MAX_EPOCH": 1, "OPTIM.WARMUP_EPOCH": 0}
    pairs = {k: v for k, v in (OPTIONS | pairs).items() if k != "DATASET.PATH"}
    pairs |= {k.replace("__", "."): v for k, v in options.items()}
    environment = {"VARPROMPT_PLUGINS": plugins, "VARPROMPT_CACHE": str(folder / "c")}
    environment["PYTHONPATH"] = os.environ.get("DASSL_ROOT", "")
    arguments = [*arguments, "--root", "data", "--seed", "1"]
    arguments += [str(x) for pair in pairs.items() for x in pair]
    if anew:
        done = subprocess.run(
            [sys.executable, ROOT / "train.py", *arguments],
            cwd=folder, env=os.environ | environment, capture_output=True, text=True,
        )  # fmt: skip
    else:
        done = run_forked(train.main, arguments, cwd=folder, **environment)
    return done.returncode, done.stdout, done.stderr


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_all_kinds_at_once(elsewhere):
    """Posterior, trainer with its node, data set in CoOp's style, CLIP source: from outside."""
    arguments = ["--import", "strangers", "--import", "datasets/buttons.py"]
    arguments += ["--trainer", "PromptForStrangers", "--output-dir", "out/all"]
    options = {"TRAINER__STRANGERS__POSTERIOR": "laplace", "TRAINER__STRANGERS__PREC": "fp32"}
    options |= {"TRAINER__STRANGERS__SPEED": 2, "DATASET__NUM_SHOTS": 2}
    options |= {"MODEL__BACKBONE__NAME": "strange:cold"}
    code, out, err = run(elsewhere, *arguments, anew=True, **options)
    assert code == 0, err
    assert "speed 2.0" in out and "Creating a 2-shot dataset" in out
    got = results(elsewhere / "out/all")
    assert got["trainer"] == "PromptForStrangers" and "SPEED: 2.0" in got["config"]
    assert "POSTERIOR: laplace" in got["config"] and got["n_total"] == 9  # 3 of 10 per class
    assert got["backbone"] == "strange:cold"
    # the split and the few-shot choice are read again
    arguments[-1] = "out/again"
    code, out, err = run(elsewhere, *arguments, **options)
    assert code == 0, err
    assert "Reading split from" in out and "Creating a 2-shot dataset" not in out
    assert results(elsewhere / "out/again")["nll"] == got["nll"]
    options["TRAINER__STRANGERS__SPEED"], arguments[-1] = 0, "out/slow"
    code, _, err = run(elsewhere, *arguments, **options)
    assert code == 2 and "TRAINER.STRANGERS.SPEED is 0.0" in err


def test_plugins_of_the_environment(elsewhere):
    arguments = ["--trainer", "VPT", "--output-dir", "out/environment"]
    options = {"TRAINER__VPT__POSTERIOR": "laplace", "DATASET__SUBSAMPLE_CLASSES": "new"}
    plugins = "strangers, datasets/buttons.py"
    code, _, err = run(elsewhere, *arguments, plugins=plugins, **options)
    assert code == 0, err
    got = results(elsewhere / "out/environment")
    assert got["n_total"] == 3
    assert [row["name"] for row in got["per_class"].values()] == ["coat_button"]
    assert "STRANGERS" not in got["config"]


@pytest.mark.parametrize("name", ["buttons", "Buttons"])
def test_the_check_of_data_sets_knows_them(name, elsewhere):
    arguments = ["data", name, "--images", "--import", "datasets/buttons.py"]
    done = run_forked(check.main, arguments, cwd=elsewhere, VARPROMPT_PLUGINS="")
    assert "Buttons" in done.stdout and "complete" in done.stdout, done.stderr
    assert done.returncode == 0


BAD = {
    "nothing": "plug-in 'nothing' (--import) does not exist: there is no module 'nothing', neither",
    "strangers.nothing": "there is no module 'strangers.nothing'",
    "datasets/nothing.py": "plug-in 'datasets/nothing.py' (--import) does not exist",
    "broken": "plug-in 'broken' (--import) cannot be imported: JSONDecodeError: Expecting value",
    "greedy": "the trainer name 'VPT' is already taken by trainers.vpt, so that greedy cannot",
}


def test_plugins_that_cannot_be_loaded(elsewhere):
    flags = [flag for name in BAD for flag in ("--import", name)]
    code, _, err = run(elsewhere, *flags, "--output-dir", "out/bad", "--trainer", "VPT")
    assert code == 2 and "Traceback" not in err
    for message in BAD.values():
        assert message in err
    assert "visual prompt tuning" in err and not (elsewhere / "out/bad").exists()


def test_entry_points(tmp_path, monkeypatch):
    from varprompt.settings.plugins import load_plugins

    (tmp_path / "from_entry.py").write_text("print('imported from_entry')")
    information = tmp_path / "from_entry-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: from-entry\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[varprompt.plugins]\nmine = from_entry\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_plugins() == ["from_entry"]
    assert sys.modules.pop("from_entry").__file__ == str(tmp_path / "from_entry.py")


def test_both_names_of_the_packages_are_one():
    from varprompt.settings.plugins import share_packages

    share_packages()
    import varprompt.datasets.coop as coop
    import varprompt.trainers.base as base

    import datasets.coop
    import trainers.base

    assert base is trainers.base and coop is datasets.coop
    assert base.__spec__.name == "trainers.base"


CHECK = """
import sys
from varprompt.settings.plugins import share_packages
share_packages()
import varprompt.datasets, varprompt.trainers.base
import datasets
print(varprompt.datasets.__file__, varprompt.trainers.__file__, datasets is varprompt.datasets)
"""


@pytest.mark.parametrize("imported_first", [True, False])
def test_foreign_packages_of_the_same_names_do_not_disturb(tmp_path, imported_first):
    """Such as Hugging Face's data sets or the trainers of a CoOp checkout."""
    for name in ("datasets", "trainers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("DASSL_ROOT", "")])
    code = "import datasets, trainers" * imported_first + CHECK
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    ours = f"{ROOT}/datasets/__init__.py {ROOT}/trainers/__init__.py False"
    assert done.stdout.splitlines()[-1:] == [ours], done.stderr


def test_configs_are_found_anywhere(elsewhere, monkeypatch):
    from varprompt.errors import ConfigError
    from varprompt.settings.configs import configs_folder, find_config

    monkeypatch.chdir(elsewhere)
    packaged = configs_folder() / "trainers/VPT/embedded.yaml"
    name = "configs/trainers/VPT/embedded.yaml"
    assert find_config(name) == find_config(name.removeprefix("configs/")) == packaged
    (elsewhere / "configs/trainers/VPT").mkdir(parents=True)
    (elsewhere / name).write_text("")
    assert str(find_config(name)) == name
    with pytest.raises(ConfigError, match="did you mean .*rn50_c4_ep10_batch1_ctxv1.yaml"):
        find_config("configs/trainers/VPT/rn50_c4_ep10_batch1.yaml")
    with pytest.raises(ConfigError, match="does not exist"):
        find_config(elsewhere / "configs/trainers/CoOp/rn50.yaml")


@pytest.mark.parametrize(
    ("dasslless", "more"), [("predict", ["x"]), ("convert", ["x", "--to", "ours"])]
)
def test_the_trainer_of_the_page_is_imported_by_commands_that_load_no_dassl(
    dasslless, more, tmp_path
):
    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    code = (
        "import sys; from varprompt.__main__ import main; from pathlib import Path\n"
        f"try: main([{dasslless!r}, 'nowhere', '--import', 'mine', *sys.argv[1:]])\n"
        "finally: print('mine' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *more], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('DASSL_ROOT', '')}"},
    )  # fmt: skip
    assert done.stdout.endswith("True\n") and "cannot be imported" not in done.stderr, done.stderr
