"""From a script's call, such as ``base2new_train.sh dtd 1``, to the arguments of train.py.

Everything a user can mistype is checked here, before anything is installed, so with Python 3.9 and
its standard library only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from .configs import configs_folder
from .recipes import ROOT, authors_numbers, default_config, recipes
from .user_input import UserInput, config_names, is_path

SCRIPTS = {  # name: its arguments
    "base2new_train": ("DATASET", "SEED"),
    "base2new_test": ("DATASET", "SEED"),
    "xd_train": ("SEED",),
    "xd_test": ("DATASET", "SEED"),
    "fewshot": ("DATASET", "SHOTS", "SEED"),
    "zeroshot": ("DATASET",),
}


def train_arguments(
    script: str, words: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike = ".",
    need_model: bool = True,
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Arguments of train.py for a call of `script`, and notes on what has no effect.

    Args:
        script: one of `SCRIPTS`.
        words: the script's arguments, then KEY VALUE pairs.
        env: DATA OUTPUT TRAINER CFG SHOTS L EPOCHS GPU SUB SUBSAMPLE_CLASSES, all optional.
        cwd: where relative paths start; train.py itself is called in the repository.
        need_model: whether the model that a test needs must be there already.

    Raises:
        ConfigError: everything that is wrong, in the user's words.
    """
    user = UserInput(env, Path(cwd).resolve())
    names = SCRIPTS[script]
    if len(words) < len(names):
        raise ConfigError(f"{names[len(words)]} is missing: {script}.sh {' '.join(names)}")
    given = dict(zip(names, words))  # noqa: B905  strict= is new in Python 3.10
    pairs = user.pairs(words[len(names) :])
    user.gpu()
    if script == "zeroshot":
        arguments = _zeroshot(user, given["DATASET"])
    else:
        arguments = _Learner(user, script, given).arguments(need_model)
    if user.problems:
        raise ConfigError(user.problems)
    return [*arguments, *pairs], user.notes


def _zeroshot(user: UserInput, dataset: str) -> list[str]:
    """The call of zeroshot.sh, without the pairs."""
    dataset, dataset_file = user.config("DATASET", dataset, "datasets")
    trainer = user.get("TRAINER", "ZeroshotCLIP")
    hint = "; trained prompts are tested by the script that trains them and by *_test.sh"
    user.choice("TRAINER", trainer, recipes()["zeroshot_trainers"], hint)
    name, file = user.config("CFG", user.get("CFG", recipes()["zeroshot_config"]), "trainers/CoOp")
    subset = user.get("SUBSAMPLE_CLASSES", "all")
    user.choice("SUBSAMPLE_CLASSES", subset, ("all", "base", "new"))
    folder, options = f"{_output(user)}/{trainer}/{name}/{dataset}", []
    if subset != "all":
        folder, options = f"{folder}/{subset}", ["DATASET.SUBSAMPLE_CLASSES", subset]
        if dataset in recipes()["variants"]:
            user.wrong(f"DATASET {dataset} has no halves of classes: SUBSAMPLE_CLASSES must be all")
    return [*_common(user, dataset, dataset_file, trainer, file),
            "--output-dir", folder, "--eval-only", *options]  # fmt: skip


class _Learner:
    """A script that trains a prompt, or tests a trained one."""

    def __init__(self, user: UserInput, script: str, given: Mapping[str, str]):
        self.user, self.script, self.given = user, script, given
        self.protocol, _, self.part = script.partition("_")
        self.dataset, self.dataset_file = user.config(
            "DATASET", given.get("DATASET", "imagenet"), "datasets"
        )
        self.source = "imagenet" if self.protocol == "xd" else self.dataset
        self.shots = user.shots(given.get("SHOTS") or user.get("SHOTS", "16"))
        self.seed = user.whole("SEED", given["SEED"], 0, 2**32 - 1)  # of numpy's generator
        self.trainer = user.get("TRAINER", "VPT")
        self.cfg, self.cfg_file = self._config()
        self.subset = user.get("SUB", "new") if script == "base2new_test" else "base"
        user.choice("SUB", self.subset, ("base", "new"))
        if script != "xd_test" and self.dataset in recipes()["variants"]:
            user.wrong(f"DATASET {self.dataset} has test images only: xd_test.sh, zeroshot.sh")

    def _config(self) -> tuple[str, str]:
        """Name and path of CFG, and whether there is such a TRAINER."""
        if self.trainer in recipes()["zeroshot_trainers"]:
            self.user.wrong(f"TRAINER {self.trainer} is not trained: use scripts/vpt/zeroshot.sh")
            return "", ""
        value = self.user.get("CFG") or default_config(
            self.trainer, self.source, self.protocol, self.shots
        )
        folders = (configs_folder() / "trainers").iterdir()
        known = sorted(path.name for path in folders if path.is_dir())
        if not is_path(value) and self.trainer not in known:  # with a file: perhaps of a plug-in
            self.user.choice("TRAINER", self.trainer, known, "; others need CFG=path/to.yaml")
            return "", ""
        return self.user.config("CFG", value, f"trainers/{self.trainer}")

    def arguments(self, need_model: bool) -> list[str]:
        """The call, without the pairs."""
        train, evaluate = self._folders()
        is_test, user = self.part == "test", self.user
        samples, epochs = self._samples_and_epochs()
        arguments = _common(user, self.dataset, self.dataset_file, self.trainer, self.cfg_file)
        arguments += ["--seed", self.seed, "--output-dir", evaluate if is_test else train]
        if is_test:
            arguments += ["--model-dir", train, "--eval-only"]
            if need_model and not user.problems:
                self._check_model(train)
        if self.script != "xd_test":
            arguments += ["DATASET.NUM_SHOTS", self.shots]
        if self.protocol == "base2new":
            arguments += ["DATASET.SUBSAMPLE_CLASSES", self.subset]
        return [*arguments, *([] if is_test else epochs), *samples]

    def _folders(self) -> tuple[str, str]:
        """CoOp's folders of the training and of the test."""
        output, seed = _output(self.user), f"seed{self.seed}"
        if self.protocol == "base2new":
            run = f"{self.dataset}/shots_{self.shots}/{self.trainer}/{self.cfg}/{seed}"
            return (f"{output}/base2new/train_base/{run}",
                    f"{output}/base2new/test_{self.subset}/{run}")  # fmt: skip
        method = f"{self.trainer}/{self.cfg}_{self.shots}shots"
        return (f"{output}/{self.source}/{method}/{seed}",
                f"{output}/evaluation/{method}/{self.dataset}/{seed}")  # fmt: skip

    def _samples_and_epochs(self) -> tuple[list[str], list[str]]:
        """KEY VALUE pairs for L and for EPOCHS: the user's, else the authors'."""
        user, key = self.user, recipes()["samples_key"].get(self.trainer)
        authors = authors_numbers(self.trainer, self.cfg_file, self.source)
        samples = user.get("L", str(authors.get("L", "")))
        epochs = user.get("EPOCHS", str(authors.get("epochs", "")))
        if samples:
            user.whole("L", samples, 1)
            if not key:
                user.notes.append(f"L={samples} has no effect: {self.trainer} draws no samples")
        if epochs:
            user.whole("EPOCHS", epochs, 1)
        return [key, samples] if key and samples else [], (
            ["OPTIM.MAX_EPOCH", epochs] if epochs else []
        )

    def _check_model(self, folder: str) -> None:
        """Say how to train the model, unless it is there."""
        if any((ROOT / folder / "prompt_learner").glob("model*.pth.tar*")):
            return
        training = self.script.replace("test", "train")
        words = " ".join(shlex.quote(self.given[name]) for name in SCRIPTS[training])
        names = ("OUTPUT", "TRAINER", "CFG", "SHOTS")
        given = {name: self.user.get(name) for name in names}
        settings = "".join(f"{n}={shlex.quote(v)} " for n, v in given.items() if v)
        self.user.wrong(
            f"there is no trained model in {folder}; train it first: "
            f"{settings}bash scripts/vpt/{training}.sh {words}"
        )


def _common(user: UserInput, dataset: str, dataset_file: str, trainer: str, cfg: str) -> list[str]:
    """What every call of train.py begins with."""
    return ["--root", _data(user, dataset, dataset_file), "--trainer", trainer,
            "--dataset-config-file", dataset_file, "--config-file", cfg]  # fmt: skip


def _output(user: UserInput) -> str:
    """Folder of the results; the default lies in the repository, where train.py is called."""
    return str(user.path(user.get("OUTPUT"))) if user.get("OUTPUT") else "output"


def _data(user: UserInput, dataset: str, dataset_file: str) -> str:
    """Folder of the data sets; the default lies in the repository."""
    made_here = set(recipes()["without_download"])
    if user.get("DATA"):
        folder = user.path(user.get("DATA"))
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "does not exist"
            make = f": mkdir -p '{folder}', or leave DATA unset" if dataset in made_here else ""
            user.wrong(f"DATA {user.get('DATA')!r}: {folder} {what}{make}")
        return str(folder)
    data = ROOT / "data"
    found = {path.name for path in data.iterdir() if path.is_dir()} if data.is_dir() else set()
    needs_data = dataset in config_names("datasets") and dataset not in made_here
    if needs_data and dataset_file.startswith("configs/") and not found - made_here:
        user.wrong(
            f"DATA is not set and {data} has none of the data sets to download: say "
            "export DATA=/folder/of/the/data/sets (DATASETS.md: downloads and layouts)"
        )
    return "data"
