"""Packaging (what is installed, under which name) and scripts/setup.sh (offline, tiny wheels)."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PathDistribution, version
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = [
    Requirement(text)
    for name in ("requirements.txt", "requirements-tests.txt")
    for line in (ROOT / name).read_text().splitlines()
    if (text := line.split("#")[0].strip()) and not text.startswith("-r")
]


# ---------------------------------------------------------------- packaging

SOURCES = ("varprompt", "trainers", "datasets", "configs", "tools")


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder that a wheel, built from a copy of the source, was installed to; no dependencies."""
    copy, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name in SOURCES:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy(path, copy)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "-q"]
    if Version(version("setuptools")) >= Version("77"):  # torch brings it; else pip fetches one
        pip.append("--no-build-isolation")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*pip, "--target", str(site), str(copy)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="session")
def metadata(installed) -> PathDistribution:
    """What pip knows of the installed wheel."""
    return PathDistribution(next(installed.glob("varprompt-*.dist-info")))


def test_everything_is_installed_inside_varprompt(installed, metadata):
    about = f"varprompt-{metadata.version}.dist-info"
    assert {path.name for path in installed.iterdir()} == {"varprompt", about, "bin"}


@pytest.mark.parametrize("source", SOURCES)
def test_no_module_or_data_file_is_left_out(installed, source):
    place = installed / "varprompt" / ("" if source == "varprompt" else source)
    wanted = {".py", ".yaml", ".csv", ".json", ".npz", ".safetensors", ".typed"}
    for path in (ROOT / source).rglob("*"):
        if path.suffix in wanted and "__pycache__" not in path.parts:
            assert (place / path.relative_to(ROOT / source)).is_file(), path


def test_what_pip_is_told(metadata):
    import varprompt

    assert metadata.version == varprompt.__version__
    assert metadata.metadata["License-Expression"] == "MIT"
    assert SpecifierSet(metadata.metadata["Requires-Python"]).contains("3.14.1")
    extras = metadata.metadata.get_all("Provides-Extra")
    assert {"report", "dev", "export", "open-clip", "hf", "ray", "slurm"} <= {
        e.replace("_", "-") for e in extras
    }


def test_nothing_that_torch_needs_is_bounded_from_above(metadata):
    """Installing this must not replace what a working torch was installed with."""
    for requirement in map(Requirement, metadata.requires):
        assert {clause.operator for clause in requirement.specifier} <= {">="}, requirement
        assert requirement.name != "setuptools"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_requirement_has_one_exact_pin_for_every_python(python):
    names = {requirement.name for requirement in REQUIREMENTS}
    for name in names:
        pins = [
            requirement
            for requirement in REQUIREMENTS
            if requirement.name == name
            and (not requirement.marker or requirement.marker.evaluate({"python_version": python}))
        ]
        assert len(pins) == 1, (name, python)
        assert str(pins[0].specifier).startswith("=="), pins[0]


def test_pins_lie_within_what_is_accepted(metadata):
    pins = {}
    for requirement in REQUIREMENTS:
        pins.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    for requirement in map(Requirement, metadata.requires):
        if requirement.marker is None:
            accepts = requirement.specifier.contains
            assert all(accepts(pin) for pin in pins[requirement.name]), requirement.name


# ---------------------------------------------------------------- the command, without a checkout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A working directory with somebody else's packages of the same names."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "data").mkdir()
    for name in ("datasets", "trainers", "clip"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("__version__ = '3.0'")
    return folder


def installed_python(installed: Path, folder: Path, *arguments: str) -> CompletedProcess:
    """Run Python in `folder`, with the wheel and that folder on the path as in a checkout."""
    path = [str(installed), str(folder), *filter(None, [os.environ.get("DASSL_ROOT")])]
    keep = {k: v for k, v in os.environ.items() if k != "DASSL_ROOT"}
    cache = str(folder / "cache")
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
        env=keep | {"PYTHONPATH": os.pathsep.join(path), "VARPROMPT_CACHE": cache},
    )  # fmt: skip


def varprompt(installed: Path, folder: Path, *arguments: str) -> CompletedProcess:
    """Run the installed command in `folder`."""
    return installed_python(installed, folder, str(installed / "bin/varprompt"), *arguments)


ONE_BY_ONE = """
import contextlib, io, json, sys
from varprompt.__main__ import main
said = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(argv)
    said.append((code, out.getvalue()))
print(json.dumps(said))
"""


def test_command_without_a_checkout(installed, elsewhere):
    """Trains, tests, reports, converts and checks, with the configs that were installed."""

    def run(*arguments: str) -> str:
        done = varprompt(installed, elsewhere, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("configs") == f"{installed}/varprompt/configs\n"
    task = ["--root", "data", "--trainer", "VPT", "--seed", "1"]
    task += ["--dataset-config-file", "configs/datasets/digits.yaml"]
    task += ["--config-file", "configs/trainers/VPT/embedded.yaml"]
    options = ["DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1", "TRAINER.VPT.L", "2"]
    options += ["DATASET.SUBSAMPLE_CLASSES", "base"]
    out = "base2new/train_base/digits/shots_2/VPT/embedded/seed1"
    assert "* accuracy:" in run("train", *task, "--output-dir", out, *options)
    others = [  # in one process, which imports everything once
        ["test", *task, "--model-dir", out, "--output-dir", "test", *options],
        ["report", "base2new", "--no-published"],
        ["convert", f"{out}/prompt_learner/model.pth.tar-1", "converted.pth", "--to", "ours"],
        ["check", "data"],  # of CoOp's sets there are none
    ]
    done = installed_python(installed, elsewhere, "-c", ONE_BY_ONE, json.dumps(others))
    assert done.returncode == 0, done.stderr
    (tested_code, tested_out), reported, converted, checked = json.loads(done.stdout)
    assert tested_code == 0 and "* accuracy:" in tested_out
    assert reported[0] == 0 and "digits" in reported[1].lower()
    assert converted[0] == 0 and (elsewhere / "converted.pth").is_file()
    assert checked[0] == 1 and "FGVCAircraft" in checked[1]
    trained, tested = (
        json.loads((elsewhere / part / "results.json").read_text()) for part in (out, "test")
    )
    assert trained["accuracy"] == tested["accuracy"]


def test_command_explains_itself(installed, elsewhere):
    said = varprompt(installed, elsewhere, "--help")
    assert said.returncode == 0 and "usage: varprompt COMMAND" in said.stdout
    wrong = varprompt(installed, elsewhere, "trian")
    assert wrong.returncode == 2 and wrong.stderr.endswith("did you mean train?\n")
    from varprompt import __version__

    assert varprompt(installed, elsewhere, "--version").stdout == f"{__version__}\n"
    assert "--trainer" in varprompt(installed, elsewhere, "train", "--help").stdout


# ---------------------------------------------------------------- scripts/setup.sh


def write_wheel(folder: Path, version: str, name: str = "vptprobe") -> None:
    """A wheel of one empty module, so that pip has something to install without a network."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", about)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


class Checkout:
    """A folder with scripts/setup.sh and a requirements.txt of one tiny package."""

    def __init__(self, root: Path):
        self.root = root / "a check out"
        (self.root / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts/setup.sh", self.root / "scripts")
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        self.require("vptprobe==1.0")
        write_wheel(self.wheels, "1.0")
        self.python = self.root / ".venv/bin/python"
        self.started: list[subprocess.Popen] = []

    def require(self, text: str) -> None:
        (self.root / "requirements.txt").write_text(f"# pins\n{text}  # reason\n")

    def require_for_tests(self, text: str) -> None:
        (self.root / "requirements-tests.txt").write_text(f"-r requirements.txt\n{text}\n")

    def start(
        self, prefix: Sequence[str] = (), arguments: Sequence[str] = (), **env: str
    ) -> subprocess.Popen:
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        process = subprocess.Popen(
            [*prefix, "bash", str(self.root / "scripts/setup.sh"), *arguments],
            env=keep | offline | {"PYTHON": sys.executable} | env,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs, with its children, so that it disturbs no other test."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def run(
        self, prefix: Sequence[str] = (), arguments: Sequence[str] = (), **env: str
    ) -> CompletedProcess:
        process = self.start(prefix, arguments, **env)
        out, err = process.communicate(timeout=600)
        return CompletedProcess(process.args, process.returncode, out, err)

    def probe_version(self, name: str = "vptprobe") -> str:
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return subprocess.check_output([self.python, "-c", code], text=True).strip()


@pytest.fixture
def checkout(tmp_path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path)
    yield checkout
    checkout.end()


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_life_of_an_environment(checkout):
    """First calls, together; then nothing to do; new pins; an installation that was cut off."""
    together = [checkout.start() for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    assert [out for out, _ in outputs] == [f"{checkout.python}\n"] * 2
    assert "".join(err for _, err in outputs).count("installing") == 1
    assert checkout.probe_version() == "1.0"

    made = {path: path.stat().st_mtime_ns for path in (checkout.root / ".venv").rglob("*")}
    again = checkout.run()
    assert (again.stdout, again.stderr) == (f"{checkout.python}\n", "")
    assert made == {path: path.stat().st_mtime_ns for path in made}

    checkout.require("vptprobe==2.0")
    failed = checkout.run()
    assert failed.returncode == 1 and failed.stdout == ""
    assert "could not install requirements.txt" in failed.stderr
    assert "PIP_INDEX_URL" in failed.stderr

    write_wheel(checkout.wheels, "2.0")
    (checkout.root / ".venv/half-done").touch()
    redone = checkout.run()
    assert redone.returncode == 0 and checkout.probe_version() == "2.0"
    assert not (checkout.root / ".venv/half-done").exists()

    write_wheel(checkout.wheels, "1.0", "vptprobe_tests")
    checkout.require_for_tests("vptprobe_tests==1.0")
    assert checkout.run().stderr == ""  # who only trains needs nothing of it
    said = [checkout.run(arguments=["tests"]) for _ in range(2)]
    assert [one.stdout for one in said] == [f"{checkout.python}\n"] * 2
    assert "installing requirements.txt" not in said[0].stderr
    assert "installing requirements-tests.txt" in said[0].stderr and said[1].stderr == ""
    assert checkout.probe_version("vptprobe_tests") == "1.0"


def test_what_setup_does_not_know(checkout):
    wrong = checkout.run(arguments=["test"])
    assert (wrong.returncode, wrong.stderr) == (2, "setup: the only argument is tests, not test\n")


def test_active_environment_is_used_or_the_gap_is_named(checkout):
    checkout.require(f"pytest=={pytest.__version__}")
    active = str(Path(sys.prefix))
    assert checkout.run(VIRTUAL_ENV=active).stdout == f"{active}/bin/python\n"
    assert checkout.run(CONDA_PREFIX=active).stdout == f"{active}/bin/python\n"
    checkout.require("vptprobe==1.0")
    passed_over = checkout.run(VIRTUAL_ENV=active, PYTHON="/nowhere/python")
    assert "lacks 1 of the pinned packages" in passed_over.stderr
    assert "vptprobe==1.0 (found: None)" in passed_over.stderr


def test_foreign_venv_is_never_deleted(checkout):
    executable(checkout.python, "#!/bin/sh\necho 3.9\n")
    result = checkout.run()
    assert result.returncode == 1 and "move it away" in result.stderr
    assert checkout.python.exists()


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 3.9\n", "#!/bin/sh\nexit 127\n"])
def test_unfit_python_is_named(checkout, tmp_path, script):
    python = executable(tmp_path / "bin/python", script)
    result = checkout.run(PYTHON=str(python))
    assert result.returncode == 1
    assert f"PYTHON={python} must be a Python 3.10 to 3.14" in result.stderr
    assert not checkout.python.exists()


def test_pyenv_like_shims_that_fail_are_passed_over(checkout, tmp_path):
    """python3.12 that exits 127, one that is 3.9 and a bare 3.13 do not stop the search."""
    bin_dir = tmp_path / "bin"
    executable(bin_dir / "python3.12", "#!/bin/sh\nexit 127\n")
    executable(bin_dir / "python3.11", "#!/bin/sh\necho 3.9\n")
    bare_python(bin_dir / "python3.13")
    executable(bin_dir / "python3.10", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    result = checkout.run(PYTHON="", PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert result.returncode == 0 and "(python3.10)" in result.stderr


def bare_python(path: Path) -> Path:
    """A Python 3.13 as Debian has it without its package python3.13-venv."""
    code = 'case "$2" in *ensurepip*) exit 1 ;; *) echo 3.13 ;; esac'
    return executable(path, f"#!/bin/sh\n{code}\n")


def test_python_without_ensurepip_is_named(checkout, tmp_path):
    python = bare_python(tmp_path / "bin/python")
    result = checkout.run(PYTHON=str(python))
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert f"{python} is Python 3.13 but lacks the modules venv and ensurepip" in result.stderr
    assert "apt install python3.13-venv" in result.stderr


def test_foreign_venv_without_pip_is_named(checkout):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout.root / ".venv"])
    result = checkout.run()
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert f"{checkout.root}/.venv has no pip: run" in result.stderr
    assert "index" not in result.stderr


def test_read_only_clone_is_named():
    """As another user, since root may write everywhere."""
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        checkout = Checkout(root)
        for path in (root, checkout.root, checkout.root / "scripts"):
            path.chmod(0o555)
        user = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--clear-groups"]
        result = checkout.run(PYTHON="", PATH="/usr/bin:/bin", prefix=user)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
        assert f"cannot write to {checkout.root}: activate an environment" in result.stderr
    finally:
        for path in (root, checkout.root):
            path.chmod(0o755)
        shutil.rmtree(root)


def test_python_bin_is_taken_as_given(checkout):
    result = checkout.run(PYTHON_BIN="/any/python")
    assert (result.stdout, result.stderr, result.returncode) == ("/any/python\n", "", 0)
